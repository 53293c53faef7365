"""OUT.npz: arrays under any name, the same bytes for the same arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mgc.cli.errors import UserError


def save_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes what `numpy.load` reads. `numpy.savez` takes names as keywords and so refuses some ("file").

    Element types that NumPy itself does not have (bfloat16) are written as float32, which holds them exactly.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, value in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is fixed: 1980
            member.external_attr = 0o644 << 16
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, _storable(name, value), allow_pickle=False)


def _storable(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value) if not isinstance(value, (list, tuple, dict)) and value is not None else None
    if array is not None and array.dtype.kind == "O" and all(isinstance(v, str) for v in array.reshape(-1)):
        array = array.astype(np.str_)
    if array is None or array.dtype.kind == "O":
        raise UserError(f"-o: output {name!r} is no array ({type(value).__name__}) and cannot go into an .npz file")
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float8")):
        return array.astype(np.float32)
    return array
