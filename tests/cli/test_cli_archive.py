import time

import ml_dtypes
import numpy as np
import pytest

from mgc.cli.errors import UserError
from mgc.cli.files import save_npz

ARRAYS = {
    "file": np.arange(6, dtype=np.float32).reshape(2, 3),
    "input/z": np.float64(1.5),
    "/main/Tanh_output_0": np.zeros((0, 3), np.int64),
    "ünïcode": np.array([True]),
}


def test_numpy_reads_it_under_the_same_names(tmp_path):
    save_npz(tmp_path / "x.npz", ARRAYS)
    with np.load(tmp_path / "x.npz") as read:
        assert set(read.files) == set(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == np.asarray(array).dtype


def test_same_arrays_same_bytes(tmp_path):
    save_npz(tmp_path / "a.npz", ARRAYS)
    time.sleep(2.1)  # a zip file's dates count in two seconds
    save_npz(tmp_path / "b.npz", ARRAYS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_types_that_numpy_lacks_become_float32(tmp_path):
    save_npz(tmp_path / "x.npz", {"y": np.arange(4).astype(ml_dtypes.bfloat16)})
    with np.load(tmp_path / "x.npz") as read:
        assert read["y"].dtype == np.float32
        np.testing.assert_array_equal(read["y"], np.arange(4))


def test_strings(tmp_path):
    save_npz(tmp_path / "x.npz", {"y": np.array(["a", "bcd"], object)})
    with np.load(tmp_path / "x.npz") as read:
        assert read["y"].tolist() == ["a", "bcd"]


@pytest.mark.parametrize("value", [None, [np.zeros(2), np.zeros(3)], np.array([None, 1], object)])
def test_what_is_no_array_is_refused(tmp_path, value):
    with pytest.raises(UserError, match="output 'seq' is no array"):
        save_npz(tmp_path / "x.npz", {"seq": value})
