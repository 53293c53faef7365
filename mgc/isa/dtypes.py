"""Element types by name and by the codes that instructions use."""

from __future__ import annotations

from functools import cache

import numpy as np

from mgc.functions.dtypes import CODES, DTYPES, is_float, is_integer
from mgc.isa.error import ProgramError


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


__all__ = ["CODES", "DTYPES", "dtype_of_code", "is_float", "is_integer", "numpy_dtype"]
