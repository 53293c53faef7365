"""Metrics of sets of features: their arithmetic, beside SciPy, and that they tell good pictures from bad ones."""

from pathlib import Path

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.evaluation.distances import METRICS, Gaussian, distance, frechet, gaussian, kernel, precision, recall
from mgc.evaluation.metrics import FeatureNetwork
from mgc.training.data.files import read_arrays

FEATURES = st.tuples(st.integers(0, 2**31), st.integers(5, 40), st.integers(5, 40), st.integers(1, 12))


def _drawn(case):
    seed, made, real, size = case
    rng = np.random.default_rng(seed)
    return rng.standard_normal((made, size)) + rng.uniform(0, 2), rng.standard_normal((real, size))


@settings(max_examples=40, deadline=None)
@given(FEATURES)
def test_frechet_is_what_scipys_matrix_root_gives(case):
    made, real = _drawn(case)
    made, real = (np.concatenate([a, *[a + rng] * 2]) for a, rng in ((made, 0.5), (real, 0.1)))
    a, b = (np.atleast_2d(np.cov(f, rowvar=False)) + 1e-3 * np.eye(f.shape[1]) for f in (made, real))
    found = distance(Gaussian(made.mean(0), a), Gaussian(real.mean(0), b))
    root = scipy.linalg.sqrtm(a @ b).real
    wanted = np.sum((made.mean(0) - real.mean(0)) ** 2) + np.trace(a + b - 2 * root)
    assert found == pytest.approx(wanted, rel=1e-5, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(FEATURES)
def test_the_kernel_distance_is_its_sum_over_pairs(case):
    made, real = _drawn(case)
    f = made.shape[1]
    k = lambda x, y: (float(x @ y) / f + 1) ** 3  # noqa: E731
    own = [np.mean([k(a[i], a[j]) for i in range(len(a)) for j in range(len(a)) if i != j]) for a in (made, real)]
    cross = np.mean([k(x, y) for x in made for y in real])
    assert kernel(made, real) == pytest.approx(own[0] + own[1] - 2 * cross, rel=1e-7, abs=1e-9 * max(own))


@settings(max_examples=40, deadline=None)
@given(FEATURES)
def test_precision_and_recall_are_counts_of_neighbours(case):
    made, real = _drawn(case)

    def within(x, y):
        radii = np.sort(scipy.spatial.distance.cdist(y, y))[:, 3]
        return np.mean((scipy.spatial.distance.cdist(x, y) <= radii * (1 + 1e-12)).any(axis=1))

    assert precision(made, real) == pytest.approx(within(made, real), abs=1e-12)
    assert recall(made, real) == pytest.approx(within(real, made), abs=1e-12)


def test_of_equal_sets():
    a = np.random.default_rng(0).standard_normal((50, 4))
    assert precision(a, a) == recall(a, a) == 1
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert precision(a + 100, a) == recall(a + 100, a) == 0
    for metric in METRICS.values():
        with pytest.raises(ValueError, match="or more is needed"):
            metric(a[:1], a)


FASHION = Path("/usr/share/datasets/fashion-mnist")


def test_in_one_dimension_it_is_the_known_formula():
    a = Gaussian(np.array([1.0]), np.array([[4.0]]))
    b = Gaussian(np.array([-2.0]), np.array([[9.0]]))
    assert distance(a, b) == pytest.approx((1 + 2) ** 2 + (2 - 3) ** 2)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 20), rank=st.integers(1, 20))
def test_it_is_a_squared_distance_that_rotation_leaves_alone(seed, size, rank):
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((rank + 2, size)) * rng.uniform(0.1, 3, size) + rng.standard_normal(size) for _ in "ab")
    turn, _ = np.linalg.qr(rng.standard_normal((size, size)))
    there = distance(gaussian(a), gaussian(b))
    scale = 1 + np.trace(gaussian(a).covariance) + np.trace(gaussian(b).covariance)
    assert there >= -1e-6 * scale
    assert distance(gaussian(b), gaussian(a)) == pytest.approx(there, abs=1e-6 * scale)
    assert distance(gaussian(a @ turn), gaussian(b @ turn)) == pytest.approx(there, abs=1e-6 * scale)
    assert distance(gaussian(a), gaussian(a)) == pytest.approx(0, abs=1e-6 * scale)
    assert distance(gaussian(a), gaussian(a + 2.0)) == pytest.approx(4.0 * size, abs=1e-6 * scale)


def test_covariances_that_commute():
    """tr (A B)^(1/2) is the sum over axes of the products of both deviations."""
    rng = np.random.default_rng(3)
    turn, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    p, q = rng.uniform(0, 4, 5), rng.uniform(0, 4, 5)
    a, b = (Gaussian(np.zeros(5), turn * v**2 @ turn.T) for v in (p, q))
    assert distance(a, b) == pytest.approx(((p - q) ** 2).sum())


@pytest.mark.parametrize("features", [np.zeros((1, 3)), np.zeros(4), np.array([[0.0], [np.nan]])])
def test_what_has_no_covariance_is_refused(features):
    with pytest.raises(ValueError, match=r"is needed|finite"):
        gaussian(features)


def _images(split: str, count: int) -> np.ndarray:
    path = FASHION / f"{split}-images-idx3-ubyte.gz"
    if not path.exists():
        pytest.skip(f"{path} is missing: install the Debian package dataset-fashion-mnist")
    (samples,) = read_arrays(path).values()
    pixels = np.pad(samples.array[:count], ((0, 0), (2, 2), (2, 2)))
    return (pixels[:, None] / np.float32(127.5) - 1).astype(np.float32)


def _blurred(images: np.ndarray) -> np.ndarray:
    for axis in (2, 3):
        images = (np.roll(images, 1, axis) + images + np.roll(images, -1, axis)) / np.float32(3)
    return images


def test_real_images_are_near_blurred_ones_further_noise_far():
    real = gaussian(FeatureNetwork().features(_images("t10k", 4000)))
    others = _images("train", 4000)
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, others.shape).astype(np.float32)
    sets = (others, _blurred(others), _blurred(_blurred(others)), noise)
    near, blurred, more, far = (distance(gaussian(FeatureNetwork().features(images)), real) for images in sets)
    assert 0 < near < 3
    assert 50 < blurred < more < far
    one_kind = distance(gaussian(FeatureNetwork().features(np.repeat(others[:40], 100, axis=0))), real)
    assert one_kind > 5 * near, "40 images over and over are less than the whole variety"
