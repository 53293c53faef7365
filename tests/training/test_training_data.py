"""Data files, how they fit the inputs, which samples a step gets."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from mgc.functions import regular_files
from mgc.training import noise
from mgc.training.data.assign import feeder
from mgc.training.data.files import read_arrays
from mgc.training.data.fitting import PIXELS, MisfitError, fit, image_size
from mgc.training.data.images import read_images
from mgc.training.data.samples import Samples
from mgc.training.errors import TrainingError
from mgc.training.trainee import TraineeInput

F32 = np.dtype(np.float32)
Z = TraineeInput("z", (4, 5), F32)
X = TraineeInput("x", (4, 1, 8, 8), F32)
CODES = {"uint8": 0x08, "int8": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}


def pixels(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def idx(array, code=0x08):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.tobytes()


def batches(inputs, steps=6, *, seed=0, batches=1, data=None, files=None):
    source = feeder(inputs, batches, steps, seed, data, files or {})
    return [b for step in range(steps) for b in source.iteration(step)]


# -- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path, dtype, packed, monkeypatch):
    array = (np.random.default_rng(2).standard_normal((7, 3, 2)) * 30).astype(dtype)
    path = tmp_path / "whatever.bin"
    path.write_bytes(gzip.compress(idx(array, CODES[dtype]), mtime=0) if packed else idx(array, CODES[dtype]))
    (found,) = read_arrays(path).values()
    np.testing.assert_array_equal(found.array, array)
    assert found.name == str(path)
    monkeypatch.setattr(regular_files, "SMALL", 0)
    (large,) = read_arrays(path).values()
    assert isinstance(large.array, np.memmap) != packed
    np.testing.assert_array_equal(large.array, array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save, monkeypatch):
    arrays = {"x": np.arange(12.0).reshape(3, 4), "f": np.asfortranarray(np.arange(6).reshape(2, 3)), "e": np.empty(0)}
    save(tmp_path / "d.npz", note=np.str_("about"), number=3, **arrays)
    found = read_arrays(tmp_path / "d.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].array, array)
    monkeypatch.setattr(regular_files, "SMALL", 0)
    assert isinstance(read_arrays(tmp_path / "d.npz")["x"].array, np.memmap) == (save is np.savez)


def test_a_large_npy_is_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(regular_files, "SMALL", 0)
    np.save(tmp_path / "d.npy", np.arange(6.0))
    assert isinstance(read_arrays(tmp_path / "d.npy")[""].array, np.memmap)


def damaged():
    small = pixels(3, 2, 2)
    yield "missing.npy", None, "cannot be read: No such file"
    yield "text.csv", b"1,2,3\n", "its format is unknown; give an .npy array"
    yield "empty", b"", "its format is unknown"
    yield "cut.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }", "damaged"
    yield "cut.idx", idx(small)[:-1], r"its IDX header says 28 bytes, the file has 27"
    yield "long.idx", idx(small) + b"0", r"its IDX header says 28 bytes, the file has 29"
    yield "head.idx", idx(small)[:9], "its IDX header is cut off"
    yield "cut.gz", gzip.compress(idx(small), mtime=0)[:-9], "truncated or damaged"
    yield "short.gz", gzip.compress(idx(small)[:-1], mtime=0), "it holds another number"
    yield "long.gz", gzip.compress(idx(small) + b"0", mtime=0), "it holds another number"
    yield "huge.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12, mtime=0), "its IDX header says"
    yield "text.gz", gzip.compress(b"hello", mtime=0), "what is gzipped in it is no IDX file"
    yield "cut.npz", b"PK\x03\x04 and no more", "truncated or damaged"


@pytest.mark.parametrize(("name", "content", "message"), list(damaged()))
def test_damaged_files(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingError, match=message) as caught:
        read_arrays(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_files_without_numbers(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}, 1]), allow_pickle=True)
    np.save(tmp_path / "s.npy", np.float32(3))
    np.savez(tmp_path / "e.npz")
    np.savez(tmp_path / "o.npz", a=np.array([None]))
    for name, message in {"o.npy": "Python objects", "s.npy": "no array of numbers", "e.npz": "e.npz"}.items():
        with pytest.raises(TrainingError, match=message):
            read_arrays(tmp_path / name)
    with pytest.raises(TrainingError, match="Python objects"):
        read_arrays(tmp_path / "o.npz")


def test_a_cut_archive_is_refused_at_any_length(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(300.0), y=np.arange(5))
    whole = (tmp_path / "d.npz").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(TrainingError, match=r"cut\.npz"):
            read_arrays(tmp_path / "cut.npz")


# -- images -------------------------------------------------------------------------------------------------------


def test_an_image_folder(tmp_path):
    (tmp_path / "b").mkdir()
    first, second = pixels(8, 8, 3), pixels(8, 8)
    Image.fromarray(second).save(tmp_path / "b" / "0.PNG")
    Image.fromarray(first).save(tmp_path / "a.png")
    (tmp_path / "labels.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    found = read_images(tmp_path, 8, 8, 3)
    np.testing.assert_array_equal(found.array[0], first.transpose(2, 0, 1))
    np.testing.assert_array_equal(found.array[1], np.broadcast_to(second, (3, 8, 8)))
    (both,) = batches((TraineeInput("x", (2, 3, 8, 8), F32),), 1, data=tmp_path)
    order = noise.order(0, "data", 0, 2)
    np.testing.assert_array_equal(both["x"], PIXELS[np.asarray(found.array)[order]])
    assert both["x"].dtype == np.float32


def test_images_are_cut_in_the_middle_and_scaled(tmp_path):
    wide = np.zeros((40, 100), np.uint8)
    wide[:, 30:70] = 255  # the middle square
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (read_images(tmp_path, 8, 8, 1).array == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"])
def test_image_modes(tmp_path, mode):
    value = 255 if mode == "1" else 200
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 4), value << 8, np.uint16))
    else:
        image = Image.fromarray(np.full((4, 4, 3), value, np.uint8)).convert(mode)
    more = {"transparency": bytes(10)} if mode == "P" else {}
    image.save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), **more)
    assert np.abs(read_images(tmp_path, 4, 4, 1).array.astype(int) - value).max() <= 4


def test_bad_image_folders(tmp_path):
    with pytest.raises(
        TrainingError, match=r"there are no images \(.png, .jpg, .jpeg, .bmp, .webp\) in this folder; it is empty"
    ):
        read_images(tmp_path, 4, 4, 1)
    (tmp_path / "train-ubyte.gz").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"it holds train-ubyte.gz: name one file"):
        read_images(tmp_path, 4, 4, 1)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(TrainingError, match=r"a.png is no image that can be read"):
        read_images(tmp_path, 4, 4, 1)
    Image.fromarray(pixels(30, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    with pytest.raises(TrainingError, match=r"a.png is truncated or damaged"):
        read_images(tmp_path, 4, 4, 1)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((4, 3, 8, 6), (0, 8, 6, 3)),
        ((4, 8, 6, 3), (0, 8, 6, 3)),
        ((4, 8, 6), (0, 8, 6, 1)),
        ((4, 64), (1, 8, 8, 1)),
        ((4, 192), (1, 8, 8, 3)),
        ((4, 65), None),
        ((4, 100, 1, 1), None),
        ((4, 5, 8, 8), None),
        ((4,), None),
    ],
)
def test_which_inputs_take_images(shape, size):
    assert image_size(TraineeInput("x", shape, F32)) == size


# -- fitting ------------------------------------------------------------------------------------------------------


def fitted(array, shape, dtype=F32):
    found = fit(Samples("d", array), TraineeInput("x", (len(array), *shape), np.dtype(dtype)))
    result = found.transform(np.asarray(array))
    assert result.shape == (len(array), *shape)
    assert result.dtype == dtype
    return found.rank, result


def test_pixels_become_minus_1_to_1():
    assert (PIXELS[0], PIXELS[255], PIXELS.dtype) == (-1.0, 1.0, np.float32)
    np.testing.assert_allclose(PIXELS, (np.arange(256) / 255 - 0.5) / 0.5, atol=1e-7)
    rank, found = fitted(pixels(3, 8, 8), (1, 8, 8))
    assert rank == 1
    np.testing.assert_array_equal(found[:, 0], PIXELS[pixels(3, 8, 8)])
    assert fitted(pixels(3, 8, 8), (1, 8, 8), np.float16)[0] == 1


def test_floats_stay_as_they_are():
    array = np.random.default_rng(3).standard_normal((3, 5))
    rank, found = fitted(array, (5,))
    assert rank == 0
    np.testing.assert_array_equal(found, array.astype(np.float32))


def test_axes_are_arranged():
    last = pixels(3, 8, 6, 3)
    rank, found = fitted(last, (3, 8, 6))
    assert rank == 1
    np.testing.assert_array_equal(found, PIXELS[last.transpose(0, 3, 1, 2)])
    np.testing.assert_array_equal(fitted(last.transpose(0, 3, 1, 2), (8, 6, 3))[1], PIXELS[last])
    np.testing.assert_array_equal(fitted(last.astype(np.float32), (3, 8, 6))[1], last.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("inner", [(1, 12, 10), (12, 10, 1), (12, 10)])
def test_images_are_padded_by_even_margins(inner):
    small = pixels(2, 8, 6)
    rank, found = fitted(small, inner)
    assert rank == 2
    found = found.reshape(2, 12, 10)
    np.testing.assert_array_equal(found[:, 2:10, 2:8], PIXELS[small])
    found[:, 2:10, 2:8] = -1
    assert (found == -1).all()


def test_colour_images_are_padded_by_even_margins():
    small = pixels(2, 6, 8, 3)
    rank, found = fitted(small, (3, 10, 8))
    assert rank == 2
    np.testing.assert_array_equal(found[:, :, 2:8], PIXELS[small.transpose(0, 3, 1, 2)])
    np.testing.assert_array_equal(fitted(small, (10, 8, 3))[1][:, 2:8], PIXELS[small])


def test_images_are_flattened_as_pytorch_does():
    grey, colour = pixels(2, 4, 4), pixels(2, 5, 4, 3)
    assert fitted(grey, (16,))[0] == 3
    np.testing.assert_array_equal(fitted(grey, (16,))[1], PIXELS[grey].reshape(2, 16))
    np.testing.assert_array_equal(fitted(colour, (60,))[1], PIXELS[colour.transpose(0, 3, 1, 2)].reshape(2, 60))


@pytest.mark.parametrize(
    ("array", "shape", "dtype", "message"),
    [
        (pixels(2, 8, 8), (1, 11, 11), F32, r"a sample is \[8, 8\], the input takes \[1, 11, 11\] .*even margins only"),
        (pixels(2, 8, 8), (1, 6, 6), F32, r"not made smaller; those in a folder are"),
        (pixels(2, 8, 8), (3, 8, 8), F32, r"a sample is \[8, 8\]"),
        (pixels(2, 8, 8), (3, 10, 10), F32, r"a sample is \[8, 8\]"),
        (np.zeros((2, 8, 8), np.float32), (1, 10, 10), F32, r"a sample is \[8, 8\]"),
        (np.zeros((2, 8), np.int32), (8,), F32, "its values are int32, the input's float32: convert them"),
        (np.zeros((2, 8), np.float32), (8,), np.int64, "its values are float32, the input's int64"),
    ],
)
def test_what_does_not_fit(array, shape, dtype, message):
    with pytest.raises(MisfitError, match=message):
        fitted(array, shape, dtype)


def test_integers_must_fit():
    assert fitted(np.array([1, 200]), (), np.uint8)[1].tolist() == [1, 200]
    with pytest.raises(TrainingError, match="values that do not fit into uint8"):
        fitted(np.array([1, 300]), (), np.uint8)


# -- which samples a step gets ------------------------------------------------------------------------------------


def test_every_epoch_holds_every_sample_once_in_an_order_of_its_own(tmp_path):
    np.save(tmp_path / "d.npy", np.arange(23, dtype=np.float32)[:, None] + np.zeros((1, 3), np.float32))
    ports = (TraineeInput("x", (5, 3), F32),)
    drawn = [b["x"][:, 0].astype(int).tolist() for b in batches(ports, 12, data=tmp_path / "d.npy")]
    epochs = [np.concatenate(drawn[k : k + 4]).tolist() for k in (0, 4, 8)]
    for epoch in epochs:  # 4 batches of 5; 3 samples are left out
        assert len(set(epoch)) == 20
    assert len({tuple(e) for e in epochs}) == 3
    other = [b["x"][:, 0].astype(int).tolist() for b in batches(ports, 12, seed=1, data=tmp_path / "d.npy")]
    assert other != drawn


def test_any_batch_alone_is_the_same(tmp_path):
    np.save(tmp_path / "d.npy", pixels(23, 8, 8))
    everything = batches((Z, X), 9, batches=2, data=tmp_path / "d.npy")
    source = feeder((Z, X), 2, 9, 0, tmp_path / "d.npy", {})
    for step in (7, 2, 8, 0):
        for k, found in enumerate(source.iteration(step)):
            for name, array in everything[2 * step + k].items():
                np.testing.assert_array_equal(found[name], array)


def test_noise_is_reproducible_alone_and_differs_by_seed_name_and_step():
    ports = (Z, TraineeInput("z2", Z.shape, F32), TraineeInput("e", (4, 1, 1, 1), F32, "uniform"))
    np.testing.assert_array_equal(noise.normal(7, "z", 2, Z.shape, F32), batches(ports, 3, seed=7)[2]["z"])
    rows = [b[name].tobytes() for b in batches(ports, 3, seed=7) + batches(ports, 3, seed=8) for name in ("z", "z2")]
    assert len(set(rows)) == 12
    uniform = np.concatenate([b["e"].ravel() for b in batches(ports, 300)])
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    normal = np.concatenate([b["z"].ravel() for b in batches(ports, 300)])
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05


def test_noise_has_these_bits():
    """Checkpoints of yesterday rely on it."""
    assert noise.normal(1, "z", 2, (2,), F32).tolist() == [-0.49944549798965454, -0.5937883853912354]
    assert noise.uniform(1, "e", 2, (2,), F32).tolist() == [0.7402790784835815, 0.5326497554779053]
    assert noise.order(1, "data", 0, 6).tolist() == [0, 2, 3, 5, 1, 4]


def test_arrays_of_equal_length_stay_together(tmp_path):
    a = np.arange(20, dtype=np.float32)
    np.savez(tmp_path / "d.npz", a=a[:, None], b=a[:, None] * 2, c=np.arange(30, dtype=np.float32)[:, None])
    ports = tuple(TraineeInput(n, (4, 1), F32) for n in "ab")
    for batch in batches(ports, 8, data=tmp_path / "d.npz"):
        np.testing.assert_array_equal(batch["b"], batch["a"] * 2)
    ports = tuple(TraineeInput(n, (4, 1), F32) for n in "ac")
    assert any((b["a"] != b["c"]).any() for b in batches(ports, 5, data=tmp_path / "d.npz"))


def test_files_are_used_in_order_as_they_are(tmp_path):
    np.save(tmp_path / "z.npy", np.arange(200.0).reshape(40, 5))
    np.save(tmp_path / "s.npy", np.arange(12.0))
    ports = (Z, TraineeInput("s", (), F32))
    drawn = batches(ports, 5, batches=2, files={"z": tmp_path / "z.npy", "s": tmp_path / "s.npy"})
    np.testing.assert_array_equal(np.concatenate([b["z"] for b in drawn]), np.arange(200.0).reshape(40, 5))
    assert [float(b["s"]) for b in drawn] == list(range(10))


def remarks(*args):
    told = []
    feeder(*args, told.append)
    return told


def test_the_input_is_found_by_shape_or_by_name(tmp_path):
    np.save(tmp_path / "d.npy", pixels(9, 8, 8))
    np.savez(tmp_path / "one.npz", images=pixels(9, 8, 8))
    np.savez(tmp_path / "named.npz", x=pixels(9, 8, 8), labels=np.arange(9))
    for name in ("d.npy", "one.npz", "named.npz"):
        told = remarks((Z, X), 1, 2, 0, tmp_path / name, {})
        assert told[-2].startswith("input x: 9 samples of ")
        assert told[-1] == "input z: drawn N(0,1)"
    assert "not used: labels" in told[0]
    flat = TraineeInput("x", (4, 64), F32)
    assert remarks((Z, flat), 1, 2, 0, tmp_path / "d.npy", {})[0].startswith("input x: 9 samples")


def test_roles_decide_between_equal_shapes(tmp_path):
    np.save(tmp_path / "d.npy", np.zeros((9, 2), np.float32))
    z, x = TraineeInput("z", (4, 2), F32, "noise"), TraineeInput("x", (4, 2), F32, "data")
    assert remarks((z, x), 1, 2, 0, tmp_path / "d.npy", {}) == [
        f"input x: 9 samples of {tmp_path / 'd.npy'}",
        "input z: drawn N(0,1)",
    ]
    unknown = (TraineeInput("z", (4, 2), F32), TraineeInput("x", (4, 2), F32))
    with pytest.raises(TrainingError, match=r"fits more than one input \(z .*, x .*\): say which with --input"):
        feeder(unknown, 1, 2, 0, tmp_path / "d.npy", {})
    feeder(unknown, 1, 2, 0, tmp_path / "d.npy", {"z": tmp_path / "d.npy"})


def test_requests_that_cannot_be(tmp_path):
    x = tmp_path / "x.npy"
    label = TraineeInput("label", (4,), np.dtype(np.int64))

    def refused(message, inputs=(Z, X), *, data=None, files=None, steps=2):
        with pytest.raises(TrainingError, match=message):
            feeder(inputs, 1, steps, 0, data, files or {})

    np.save(x, pixels(3, 8, 8))
    refused(r"holds 3 samples, a batch of input x \(float32\[4, 1, 8, 8\]\) takes 4: give more, or .*--batch", data=x)
    refused(r"it cannot be read|cannot be read: No such file", data=tmp_path / "no.npy")
    np.save(x, pixels(9, 7, 7))
    refused(r"fits no input\. z .*: a sample is \[7, 7\], the input takes \[5\]\. x .*even margins", data=x)
    np.savez(tmp_path / "d.npz", x=pixels(9, 7, 7))
    refused(r"d.npz\[x\] .* does not fit input x .*: a sample is", data=tmp_path / "d.npz")
    np.savez(tmp_path / "d.npz", a=pixels(9, 8, 8), b=pixels(9, 8, 8))
    refused(r"holds the arrays a, b, none under the name of an input", data=tmp_path / "d.npz")
    (tmp_path / "folder").mkdir()
    refused(r"there are no images", data=tmp_path / "folder")
    refused(r"none of the inputs takes images", (Z,), data=tmp_path / "folder")
    refused(r"fits more than one input", (X, TraineeInput("y", X.shape, F32)), data=tmp_path / "folder")
    refused(r"no input that takes data is left", data=x, inputs=(TraineeInput("z", (4, 5), F32, "noise"),))
    refused(r"nothing is given for input x", (TraineeInput("x", (4, 5), F32, "data"),))
    refused(r"input label \(int64\[4\]\) is not floating, so no noise can be drawn", (label,))
    bad = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    np.save(x, bad)
    refused(r"x.npy holds 40 samples, 11 steps of 4 need 44 of input z", files={"z": x}, steps=11)
    refused(r"input x takes samples of shape|the input takes \[1, 8, 8\]", files={"x": x})
    np.save(x, pixels(40, 5))
    refused(r"input z \(float32\[4, 5\]\) is floating; convert the values", files={"z": x})
    np.savez(tmp_path / "d.npz", a=bad, b=bad)
    refused(r"it holds several arrays \(a, b\)", files={"z": tmp_path / "d.npz"})
    bad[17, 2] = np.nan
    np.save(x, bad)
    refused(r"x.npy: sample 17 holds nan; take it out or repair it", (Z,), data=x)


def test_nan_in_a_file_is_found_when_its_batch_comes(tmp_path):
    rows = np.zeros((12, 5), np.float32)
    rows[9, 1] = np.inf
    np.save(tmp_path / "z.npy", rows)
    source = feeder((Z,), 1, 3, 0, None, {"z": tmp_path / "z.npy"})
    source.iteration(1)
    with pytest.raises(TrainingError, match=r"z.npy: sample 9 holds inf"):
        source.iteration(2)


def test_large_values_are_no_infinities(tmp_path):
    Samples("d", np.full((4, 5), 3e38, np.float32)).examine()
    Samples("d", np.full((4, 5), 1e308)).examine()


def test_fingerprints(tmp_path):
    a = Samples("d", pixels(9, 8, 8))
    assert a.examine() == Samples("elsewhere", pixels(9, 8, 8)).examine()
    assert a.examine() != Samples("d", pixels(9, 8, 8)[::-1]).examine()
    assert a.examine() != Samples("d", pixels(9, 8, 8).reshape(9, 64)).examine()
    assert len(Samples("d", np.empty((0, 3))).examine()) == 64
