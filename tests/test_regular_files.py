"""Files from elsewhere: devices, pipes and folders are refused where a file is expected, damaged ones are errors."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.functions.regular_files import array_in_file, load_arrays, open_regular, read_regular


@pytest.fixture
def pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_only_regular_files_are_opened(tmp_path, pipe):
    for path in (pipe, Path("/dev/zero"), Path("/dev/null"), tmp_path, tmp_path / "none"):
        with pytest.raises(OSError, match=r"device|directory"):
            open_regular(path)
    (tmp_path / "big").write_bytes(b"12345")
    assert read_regular(tmp_path / "big", 5) == b"12345"
    with pytest.raises(OSError, match="at most 4 are read"):
        read_regular(tmp_path / "big", 4)


@given(st.integers(0, 60), st.integers(0, 20), st.sampled_from(["C", "F"]))
@settings(max_examples=40, deadline=None)
def test_arrays_in_files(tmp_path_factory, rows, start, order):
    path = tmp_path_factory.mktemp("array") / "file"
    array = np.arange(rows * 3, dtype=np.int32).reshape(rows, 3)
    path.write_bytes(bytes(start) + array.tobytes(order))
    assert np.array_equal(array_in_file(path, array.dtype, start, array.shape, order), array)
    with pytest.raises(ValueError, match="shorter"):
        array_in_file(path, array.dtype, start + 1, (rows + 1, 3), order)


@pytest.mark.parametrize("depth", [100, 500, 3000])
def test_an_npy_header_that_nests(depth, tmp_path):
    header = b"(" * depth + b")" * depth
    path = tmp_path / "nest.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(ValueError, match=r"."):
        load_arrays(path)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_arrays_are_value_errors(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "a"
    with open(path, "wb") as file:
        kind = data.draw(st.sampled_from([np.save, np.savez, np.savez_compressed]))
        kind(file, np.arange(12.0))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    with suppress(ValueError):  # nothing else
        load_arrays(path)
