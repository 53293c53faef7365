"""Whether arrays hold NaN or infinity, in one quick pass."""

from __future__ import annotations

import numpy as np


def is_finite(array: np.ndarray) -> bool:
    """False where any value of a floating array is NaN or infinite; true for other types."""
    if array.dtype.kind != "f" or not array.size:
        return True
    with np.errstate(all="ignore"):  # NaN and infinity reach the sum; a sum that overflows is looked at again
        if np.isfinite(np.sum(array, dtype=np.float64)):
            return True
    return bool(np.isfinite(array).all())
