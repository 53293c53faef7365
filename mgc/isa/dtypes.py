"""Element types: their names in a program and the codes that instructions use (those of ONNX's TensorProto)."""

from __future__ import annotations

from functools import cache

import numpy as np

from mgc.isa.error import ProgramError

DTYPES: dict[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}
"""Code -> name."""

CODES: dict[str, int] = {name: code for code, name in DTYPES.items()}
"""Name -> code."""


@cache
def numpy_dtype(name: str) -> np.dtype:
    """The NumPy dtype of a name. Raises ProgramError for a name not in `CODES`."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    if name not in CODES:
        raise ProgramError(f"element type {name!r} is unknown; there are {', '.join(CODES)}")
    return np.dtype(name)


def dtype_of_code(code: float) -> np.dtype:
    """The NumPy dtype of a code. Raises ProgramError for a code not in `DTYPES`."""
    if code not in DTYPES:
        raise ProgramError(f"element type code {code} is unknown; there are {DTYPES}")
    return numpy_dtype(DTYPES[int(code)])


def is_float(dtype: np.dtype) -> bool:
    """Whether it is a floating-point type (bfloat16 included)."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def is_integer(dtype: np.dtype) -> bool:
    """Whether it is a signed or unsigned integer type (bool is not)."""
    return dtype.kind in "iu"
