"""Element types: the codes that instructions use (those of ONNX's TensorProto), and their kinds."""

from __future__ import annotations

import numpy as np

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


def is_float(dtype: np.dtype) -> bool:
    """Whether it is a floating-point type (bfloat16 included)."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def is_integer(dtype: np.dtype) -> bool:
    """Whether it is a signed or unsigned integer type (bool is not)."""
    return dtype.kind in "iu"


def positive_zero(x: np.ndarray) -> np.ndarray:
    """x with +0 where it is -0: which of two zeros a maximum or a minimum picks depends on the processor."""
    return x + x.dtype.type(0) if is_float(x.dtype) else x


def in_domain(dtype: np.dtype, domain: str) -> bool:
    """Whether an element type belongs to a domain: float, number, bool, any."""
    if domain == "float":
        return is_float(dtype)
    if domain == "number":
        return is_float(dtype) or is_integer(dtype)
    return dtype == np.bool_ if domain == "bool" else True
