"""The transpose of gather."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

Array = np.ndarray


def scatter_add(dy: Array, indices: Array, axis: int, size: int, wide: DTypeLike) -> Array:
    """Entries of dy added up, in row-major order and type `wide`, where gather took them from on an axis of extent
    `size`, zeros elsewhere; negative indices count from the end.

    dy[..., *i, ...], indices[*i] -> [..., size, ...] of dy's type.
    """
    lead, rest = dy.shape[:axis], dy.shape[axis + indices.ndim :]
    total = np.zeros((size, *lead, *rest), wide)
    entries = np.moveaxis(dy.reshape(*lead, indices.size, *rest), axis, 0)
    np.add.at(total, indices.reshape(-1).astype(np.int64), entries)
    return np.ascontiguousarray(np.moveaxis(total, 0, axis)).astype(dy.dtype)
