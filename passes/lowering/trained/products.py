"""Linear ops as windowed products whose weights are told by number: which entry of the operand each cell holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod

import numpy as np

from mgc.ir.mapped import Layout, Mvm, MvmPart
from mgc.ir.ops import Conv, ConvTranspose
from mgc.ir.types import TensorType
from mgc.passes.lowering.conv import lower_conv
from mgc.passes.lowering.matmul import lower_matmul

Cells = tuple[np.ndarray, ...]
"""For each part the flat index in the weights of what its cells [matrices, rows, cols] hold."""


@dataclass(frozen=True, eq=False)
class Product:
    """A windowed product of an operand dense in `operand`'s shape; its result is dense in `op.out_shape`."""

    op: Mvm
    cells: Cells
    operand: tuple[int, ...]

    def of(self, index: np.ndarray) -> Cells:
        """The cells where the weights are themselves entries `index` of something else."""
        flat = index.reshape(-1)
        if index.flags.c_contiguous and index.base is _counted(index.size):
            return self.cells  # all entries in their own order
        return tuple(flat[c] for c in self.cells)

    @property
    def parts(self) -> tuple[MvmPart, ...]:
        """One for each group."""
        return self.op.parts


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    """The flat indices of an array of this shape, in that shape; read-only."""
    return _counted(prod(shape)).reshape(shape)


@lru_cache(maxsize=32)
def _counted(size: int) -> np.ndarray:
    """0 .. size - 1, one array for each size that is in use; narrow where that is enough, as there are many."""
    counted = np.arange(size, dtype=np.int32 if size < 1 << 31 else np.int64)
    counted.flags.writeable = False
    return counted


@cache
def conv_product(
    op: Conv | ConvTranspose,
    x: TensorType,
    weights: tuple[int, ...],
    y: TensorType,
    name: str,
    macs: int,
    refined: bool,
) -> Product:
    """A (transposed) convolution of x to y."""
    return Product(*lower_conv(op, x, numbered(weights), y, name, macs, refined=refined), x.shape)


def forget_products() -> None:
    """Frees the products that were kept for the graphs of one program: their cells are as large as its weights."""
    conv_product.cache_clear()
    _counted.cache_clear()


def matmul_product(x: tuple[int, ...], weights: tuple[int, ...], weights_left: bool, name: str) -> Product:
    """x @ weights, or weights @ x if `weights_left`, for weights of two dimensions."""
    plan = lower_matmul(x, numbered(weights), weights_left, name)
    return Product(plan.op, (plan.weights,), plan.operand)


def outer_of_rows(x: Layout, dy: Layout, rows: int, cols: int, name: str) -> Mvm:
    """The product x @ w of a matrix x [samples, rows], told by layouts: what `Outer` takes its windows from."""
    windows = lower_matmul((x.shape[0], rows), np.zeros((rows, cols), np.int8), False, name).op.parts[0].windows
    part = MvmPart(name, 1, rows, cols, "channel-major", windows)
    return Mvm((part,), x, dy, (x.shape[0], cols))


def equal(a: Cells, b: Cells) -> bool:
    """Whether cells hold the same entries in the same places."""
    return len(a) == len(b) and all(x.shape == y.shape and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def boxed(cells: np.ndarray, part: MvmPart) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Cells [matrices, rows, cols] as one strided box: extents (channels and taps apart), base and strides."""
    w = part.windows
    box = cells.reshape(part.matrices, part.channels, *w.taps, part.cols)
    base = int(box.reshape(-1)[0])
    first = (0,) * box.ndim
    strides = []
    for axis, extent in enumerate(box.shape):
        second = (*first[:axis], 1, *first[axis + 1 :])
        strides.append(int(box[second]) - base if extent > 1 else 0)
    reach = [np.arange(n, dtype=np.int64) * s for n, s in zip(box.shape, strides, strict=True)]
    told = base + sum(np.ix_(*reach))
    if not np.array_equal(told, box):
        raise ValueError(f"the cells of part {part.name} are no strided box of the weights")
    return box.shape, base, tuple(strides)
