"""Reductions over axes and pooling over windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from mgc.isa.dtypes import is_float, is_integer
from mgc.isa.functions.base import Array, Attributes, Operand, VecFunction, in_domain, require, whole


def _rows(x: Array, axes: tuple[int, ...]) -> Array:
    """A contiguous [*kept, reduced] copy: the reduced axes last, in their order, as one."""
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = np.ascontiguousarray(x.transpose([*kept, *axes]))
    return moved.reshape(*(x.shape[a] for a in kept), prod(x.shape[a] for a in axes))


def _sum(rows: Array) -> Array:
    wide = np.float64 if is_float(rows.dtype) else np.int64
    return np.add.reduce(rows.astype(wide), axis=-1)


def _mean(rows: Array) -> Array:
    mean = np.add.reduce(rows.astype(np.float64), axis=-1) / rows.shape[-1]
    return mean if is_float(rows.dtype) else np.trunc(mean)


def _prod(rows: Array) -> Array:
    total = np.ones(rows.shape[:-1], np.float64 if is_float(rows.dtype) else np.int64)
    for k in range(rows.shape[-1]):
        total = total * rows[..., k]
    return total


def _reduction(
    code: int, name: str, doc: str, meaning: Callable[[Array], Array], empty: bool, logic: bool
) -> VecFunction:
    def run(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
        (x,) = args
        axes = tuple(int(a) for a in attributes[1:])
        y = np.asarray(meaning(_rows(x, axes))).astype(x.dtype)
        return y.reshape(_reduced(x.shape, axes, bool(attributes[0])))

    def infer(args: Sequence[Operand], attributes: Attributes) -> Operand:
        (x,) = args
        axes = [whole(a, f"{name}: axis", 0, len(x.shape) - 1) for a in attributes[1:]]
        whole(attributes[0], f"{name}: keepdims", 0, 1)
        require(axes == sorted(set(axes)), f"{name}: axes {axes} are not sorted and distinct")
        require(empty or all(x.shape[a] for a in axes), f"{name} of {x} over an empty axis")
        require(in_domain(x.dtype, "number") or (logic and x.dtype == np.bool_), f"{name} of {x}: numbers are expected")
        return Operand(x.dtype, _reduced(x.shape, tuple(axes), bool(attributes[0])))

    return VecFunction(code, name, ("x",), ("keepdims", "axes..."), "reduction", doc, run, infer)


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    return tuple(1 if a in axes else d for a, d in enumerate(shape) if keepdims or a not in axes)


@dataclass(frozen=True)
class PoolWindows:
    """The attributes of a pooling function: rank, kernel, strides, pads (begins, then ends), dilations, last."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    count_include_pad: bool

    @staticmethod
    def parse(attributes: Attributes) -> PoolWindows:
        """From the flat attribute list. Raises ProgramError."""
        require(len(attributes) > 0, "pool: attributes are missing")
        rank = whole(attributes[0], "pool: rank", 1, 3)
        require(len(attributes) == 5 * rank + 2, f"pool: {len(attributes)} attributes, {5 * rank + 2} are expected")
        values = [whole(a, "pool: an attribute", 0, 1 << 20) for a in attributes[1:]]
        kernel, strides = tuple(values[:rank]), tuple(values[rank : 2 * rank])
        pads, dilations = tuple(values[2 * rank : 4 * rank]), tuple(values[4 * rank : 5 * rank])
        require(min(kernel + strides + dilations) >= 1, "pool: kernel, strides and dilations are at least 1")
        return PoolWindows(kernel, strides, pads, dilations, bool(whole(values[-1], "pool: count_include_pad", 0, 1)))

    def extents(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Number of windows along each axis."""
        rank = len(self.kernel)
        return tuple(
            (n + self.pads[i] + self.pads[rank + i] - self.dilations[i] * (self.kernel[i] - 1) - 1) // self.strides[i]
            + 1
            for i, n in enumerate(spatial)
        )

    def padded(self, x: Array, value: float) -> Array:
        """x with its spatial axes padded."""
        rank = len(self.kernel)
        widths = [(0, 0), (0, 0), *zip(self.pads[:rank], self.pads[rank:], strict=True)]
        return np.pad(x, widths, constant_values=value) if any(self.pads) else x

    def taps(self, extents: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """For each tap, the last axis fastest: the slices of the padded input that it meets over all windows."""
        for tap in product(*map(range, self.kernel)):
            spans = zip(tap, extents, self.strides, self.dilations, strict=True)
            yield (slice(None), slice(None), *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, n, s, d in spans))


def _infer_pool(args: Sequence[Operand], attributes: Attributes) -> Operand:
    (x,) = args
    windows = PoolWindows.parse(attributes)
    require(in_domain(x.dtype, "number"), f"pool of {x}: numbers are expected")
    require(len(x.shape) == len(windows.kernel) + 2, f"pool of {x}: [N,C] and {len(windows.kernel)} axes are expected")
    extents = windows.extents(x.shape[2:])
    require(min(extents) >= 1, f"pool: kernel {windows.kernel} does not fit into {x} with pads {windows.pads}")
    return Operand(x.dtype, (*x.shape[:2], *extents))


def _pool_max(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    (x,) = args
    windows = PoolWindows.parse(attributes)
    padded = windows.padded(x, -np.inf if is_float(x.dtype) else np.iinfo(x.dtype).min)
    first, *others = windows.taps(windows.extents(x.shape[2:]))
    result = padded[first].copy()
    for where in others:
        np.maximum(result, padded[where], out=result)
    return result


def _pool_average(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    (x,) = args
    windows = PoolWindows.parse(attributes)
    extents = windows.extents(x.shape[2:])
    padded = windows.padded(x.astype(np.float64), 0)
    inside = windows.padded(np.ones((1, 1, *x.shape[2:])), float(windows.count_include_pad))
    total = np.zeros((*x.shape[:2], *extents))
    count = np.zeros((1, 1, *extents))
    for where in windows.taps(extents):
        total += padded[where]
        count += inside[where]
    return (total / count).astype(x.dtype)


def _infer_average(args: Sequence[Operand], attributes: Attributes) -> Operand:
    require(not is_integer(args[0].dtype), f"pool_average of {args[0]}: float elements are expected")
    return _infer_pool(args, attributes)


_ORDER = "in float64 over a contiguous copy with the reduced axes last, in NumPy's pairwise order"
_POOL = ("rank", "kernel...", "strides...", "pads...", "dilations...", "count_include_pad")

REDUCE: tuple[VecFunction, ...] = (
    _reduction(112, "reduce_sum", f"sum over axes {_ORDER}, rounded once; integers in int64, wrapped to their type",
               _sum, True, False),
    _reduction(113, "reduce_mean", f"mean over axes: the sum {_ORDER}, divided in float64, rounded once; of integers, "
               "toward zero", _mean, False, False),
    _reduction(114, "reduce_max", "greatest over axes; NaN if one is", lambda r: np.max(r, axis=-1), False, True),
    _reduction(115, "reduce_min", "smallest over axes; NaN if one is", lambda r: np.min(r, axis=-1), False, True),
    _reduction(116, "reduce_prod", "product over axes in float64 from the first element on, rounded once; integers in "
               "int64, wrapped", _prod, True, False),
    VecFunction(117, "pool_max", ("x",), _POOL, "reduction",
                "greatest of each window of x [N,C,*spatial]; padding is lower than anything", _pool_max, _infer_pool),
    VecFunction(118, "pool_average", ("x",), _POOL, "reduction",
                "mean of each window: taps summed in float64, the last axis fastest, divided in float64 by the number "
                "of elements inside x (with count_include_pad: inside x and its pads), rounded once", _pool_average,
                _infer_average),
)  # fmt: skip
"""Reductions over axes and pooling over windows. `pads` holds the begins of all axes, then the ends."""
