"""How near two sets of images are, by their features [N, F]: Frechet and kernel distance, precision and recall.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ..." (arXiv 1706.08500); Binkowski et al., "Demystifying
MMD GANs" (1801.01401); Kynkaanniemi et al., "Improved Precision and Recall Metric ..." (1904.06991). With other
features than Inception's the figures compare with each other only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 3
"""The neighbour whose distance is the radius of a feature, for precision and recall."""
_ROWS = 1024  # of a matrix of distances at once


@dataclass(frozen=True)
class Gaussian:
    """Mean [F] and covariance [F, F] (float64) of a set of features."""

    mean: np.ndarray
    covariance: np.ndarray


def gaussian(features: np.ndarray) -> Gaussian:
    """Of features [N, F]. ValueError for fewer samples than two, or values that are not finite."""
    exact = _checked(features, 2)
    return Gaussian(exact.mean(0), np.cov(exact, rowvar=False).reshape(exact.shape[1], exact.shape[1]))


def distance(a: Gaussian, b: Gaussian) -> float:
    """Frechet's: |mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)), of covariances A and B.

    tr((A B)^(1/2)) is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric: that is stable
    where A B, of few samples, is singular.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(values.clip(min=0.0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0.0)).sum()
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross)


def frechet(made: np.ndarray, real: np.ndarray) -> float:
    """Frechet's distance of two sets of features."""
    return distance(gaussian(made), gaussian(real))


def kernel(made: np.ndarray, real: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy under (x y / F + 1)^3, of all features; 0 in the mean for equal
    distributions, and then as often below it.
    """
    x, y = _checked(made, 2), _checked(real, 2)
    own = [(_kernels(a, a) - float(np.sum((np.sum(a * a, 1) / a.shape[1] + 1) ** 3))) / (len(a) * (len(a) - 1))
           for a in (x, y)]  # fmt: skip
    return own[0] + own[1] - 2 * _kernels(x, y) / (len(x) * len(y))


def precision(made: np.ndarray, real: np.ndarray) -> float:
    """The share of what is made that lies nearer to something real than that one's third real neighbour does."""
    x, y = _checked(made, NEIGHBOURS + 1), _checked(real, NEIGHBOURS + 1)
    radii = np.concatenate([np.partition(d, NEIGHBOURS, axis=1)[:, NEIGHBOURS] for d in _distances(y, y)])
    return float(np.mean(np.concatenate([np.any(d <= radii, axis=1) for d in _distances(x, y)])))


def recall(made: np.ndarray, real: np.ndarray) -> float:
    """The share of what is real that lies as near to something made: precision the other way round."""
    return precision(real, made)


METRICS = {"frechet": frechet, "kernel": kernel, "precision": precision, "recall": recall}
"""Of features that are made [N, F] and real ones [M, F]."""
LEAST = {"frechet": 2, "kernel": 2, "precision": NEIGHBOURS + 1, "recall": NEIGHBOURS + 1}
"""The samples that each needs, of both."""


def _checked(features: np.ndarray, least: int) -> np.ndarray:
    """As float64 [N, F]."""
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"features of shape {features.shape}: [N, F] with N of {least} or more is needed")
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite")
    return features.astype(np.float64)


def _kernels(x: np.ndarray, y: np.ndarray) -> float:
    """The sum of the kernel over all pairs."""
    return sum(float(np.sum((x[k : k + _ROWS] @ y.T / x.shape[1] + 1) ** 3)) for k in range(0, len(x), _ROWS))


def _distances(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Squared distances, some rows at a time."""
    sizes = np.sum(y * y, axis=1)
    for k in range(0, len(x), _ROWS):
        rows = x[k : k + _ROWS]
        yield (np.sum(rows * rows, axis=1)[:, None] + sizes - 2 * rows @ y.T).clip(min=0.0)
