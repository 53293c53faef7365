"""What a function of the vector unit is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.functions.pool import PoolWindows
from mgc.isa.error import ProgramError

Array = np.ndarray
Attributes = tuple[float, ...]


@dataclass(frozen=True)
class Operand:
    """Element type and shape of a value in a kernel."""

    dtype: np.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class VecFunction:
    """One function of the vector unit.

    code: its number in a `Step`. args, attributes: names, in order; an attribute name that ends in "..." stands for
    any number of values. cost: class of the target's `[vector.op_ns]`. doc: the meaning in words.
    `meaning(args, attributes, ideal)` is the meaning in NumPy (`ideal` is true in `float` numerics); it never changes
    its operands and may return one of them. `infer(args, attributes)` is the type rule; it raises ProgramError.
    """

    code: int
    name: str
    args: tuple[str, ...]
    attributes: tuple[str, ...]
    cost: str
    doc: str
    meaning: Callable[[Sequence[Array], Attributes, bool], Array]
    infer: Callable[[Sequence[Operand], Attributes], Operand]


def whole(value: float, what: str, least: int = 0, most: int = 1 << 31) -> int:
    """An attribute as an integer in least..most. Raises ProgramError."""
    if not math.isfinite(value) or value != int(value) or not least <= value <= most:
        raise ProgramError(f"{what} is {value}, a whole number in {least}..{most} is expected")
    return int(value)


def broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The NumPy broadcast of shapes. Raises ProgramError."""
    rank = max(map(len, shapes))
    result: list[int] = []
    for dims in zip(*((1,) * (rank - len(s)) + s for s in shapes), strict=True):
        wide = {d for d in dims if d != 1}
        if len(wide) > 1:
            raise ProgramError(f"shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def require(holds: bool, message: str) -> None:
    """ProgramError with `message` unless `holds`."""
    if not holds:
        raise ProgramError(message)


def same_dtype(args: Sequence[Operand]) -> np.dtype:
    """The one element type of all operands. Raises ProgramError."""
    require(all(a.dtype == args[0].dtype for a in args), f"element types differ: {', '.join(map(str, args))}")
    return args[0].dtype


def pooled(name: str, windows: PoolWindows, x: Operand) -> Operand:
    """What the windows of a pool make of x [N, C, *spatial]. Raises ProgramError if they do not fit."""
    rank = len(windows.kernel)
    require(len(x.shape) == rank + 2, f"{name} of {x}: [N,C] and {rank} axes are expected")
    extents = windows.extents(x.shape[2:])
    require(min(extents) >= 1, f"{name}: kernel {windows.kernel} does not fit into {x} with pads {windows.pads}")
    return Operand(x.dtype, (*x.shape[:2], *extents))


def windows_of(attributes: Attributes) -> PoolWindows:
    """The flat attributes of a pooling function: rank, kernel, strides, pads, dilations, count_include_pad. Raises
    ProgramError.
    """
    require(len(attributes) > 0, "pool: attributes are missing")
    rank = whole(attributes[0], "pool: rank", 1, 3)
    require(len(attributes) == 5 * rank + 2, f"pool: {len(attributes)} attributes, {5 * rank + 2} are expected")
    values = [whole(a, "pool: an attribute", 0, 1 << 20) for a in attributes[1:]]
    kernel, strides = tuple(values[:rank]), tuple(values[rank : 2 * rank])
    pads, dilations = tuple(values[2 * rank : 4 * rank]), tuple(values[4 * rank : 5 * rank])
    require(min(kernel + strides + dilations) >= 1, "pool: kernel, strides and dilations are at least 1")
    return PoolWindows(kernel, strides, pads, dilations, bool(whole(values[-1], "pool: count_include_pad", 0, 1)))
