"""What a function of the vector unit is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mgc.isa.dtypes import is_float, is_integer
from mgc.isa.error import ProgramError

Array = np.ndarray
Attributes = tuple[float, ...]
CostClass = Literal["simple", "multiply", "divide", "table", "reduction"]


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
    cost: CostClass
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


def in_domain(dtype: np.dtype, domain: str) -> bool:
    """Whether an element type belongs to a domain: float, number, bool, any."""
    if domain == "float":
        return is_float(dtype)
    if domain == "number":
        return is_float(dtype) or is_integer(dtype)
    return dtype == np.bool_ if domain == "bool" else True
