"""Strided views of values: what chains of transpose, slice, expand and reshape amount to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from mgc.ir.graph import Value


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a C-contiguous array of `shape`."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def merge_axes(extents: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Extents and strides with axes of extent 1 dropped and neighbours joined that are one axis in all of `strides`."""
    merged: list[int] = []
    columns: list[list[int]] = [[] for _ in strides]
    for axis in range(len(extents) - 1, -1, -1):
        extent = extents[axis]
        if extent == 1:
            continue
        here = [s[axis] for s in strides]
        if merged and all(s == column[-1] * merged[-1] for s, column in zip(here, columns, strict=True)):
            merged[-1] *= extent
            continue
        merged.append(extent)
        for s, column in zip(here, columns, strict=True):
            column.append(s)
    return merged[::-1], [column[::-1] for column in columns]


@dataclass(frozen=True)
class Strided:
    """The elements root[base + sum(i * strides)] for i in `shape`; a stride of 0 repeats, a negative one goes back."""

    root: Value
    base: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def whole(value: Value) -> Strided:
        """A dense value as it is."""
        return Strided(value, 0, value.shape, dense_strides(value.shape))

    @property
    def is_whole(self) -> bool:
        """Whether these are all elements of the root in the root's order."""
        if prod(self.shape) != self.root.tensor.size:
            return False
        if not self.root.tensor.size:
            return True
        extents, (strides,) = merge_axes(self.shape, self.strides)
        return self.base == 0 and (extents, strides) in (([prod(self.shape)], [1]), ([], []))

    def transpose(self, perm: Sequence[int]) -> Strided:
        """Axis i of the result is axis perm[i]."""
        return replace(self, shape=tuple(self.shape[p] for p in perm), strides=tuple(self.strides[p] for p in perm))

    def slice(self, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int]) -> Strided:
        """range(start, stop, step) of every axis."""
        shape = tuple(len(range(a, b, c)) for a, b, c in zip(starts, stops, steps, strict=True))
        return Strided(
            self.root,
            self.base + sum(a * s for a, s in zip(starts, self.strides, strict=True)),
            shape,
            tuple(c * s for c, s in zip(steps, self.strides, strict=True)),
        )

    def expand(self, shape: Sequence[int]) -> Strided:
        """Broadcast to `shape`."""
        new = len(shape) - len(self.shape)
        kept = (s if d == e else 0 for d, e, s in zip(self.shape, shape[new:], self.strides, strict=True))
        return replace(self, shape=tuple(shape), strides=(0,) * new + tuple(kept))

    def reshape(self, shape: Sequence[int]) -> Strided | None:
        """The same elements in the same order under another shape; None where strides cannot express that."""
        if prod(shape) == 0:
            return replace(self, shape=tuple(shape), strides=(0,) * len(shape))
        extents, (old,) = merge_axes(self.shape, self.strides)
        strides = [0] * len(shape)
        axis, left, step = len(extents), 1, 0
        for k in range(len(shape) - 1, -1, -1):
            if shape[k] == 1:
                continue
            if left == 1:
                axis -= 1
                left, step = extents[axis], old[axis]
            if left % shape[k]:
                return None
            strides[k] = step
            left //= shape[k]
            step *= shape[k]
        return replace(self, shape=tuple(shape), strides=tuple(strides))
