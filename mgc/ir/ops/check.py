"""Checks shared by the type rules: each raises an IRError that names the op, the operand and the dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from mgc.ir.op import IRError, Op
from mgc.ir.types import TensorType, ValueType


def tensors(op: Op, types: Sequence[ValueType], *operands: str) -> tuple[TensorType, ...]:
    """The operand types as tensor types; IRError on a wrong count or an opaque operand."""
    if len(types) != len(operands):
        raise IRError(f"{op.name}: takes {len(operands)} operands ({', '.join(operands)}), got {len(types)}")
    result: list[TensorType] = []
    for operand, type_ in zip(operands, types, strict=True):
        if not isinstance(type_, TensorType):
            raise IRError(f"{op.name}: operand {operand} is opaque, a tensor is needed")
        result.append(type_)
    return tuple(result)


def same_dtype(op: Op, *named: tuple[str, TensorType]) -> None:
    """All the named operands have one element type."""
    (first, type_), *rest = named
    for other, t in rest:
        if t.dtype is not type_.dtype:
            raise IRError(f"{op.name}: {first} is {type_} but {other} is {t}: element types differ")


def require(op: Op, holds: bool, message: str) -> None:
    """IRError with `message` unless `holds`."""
    if not holds:
        raise IRError(f"{op.name}: {message}")


def broadcast(op: Op, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The NumPy broadcast of shapes."""
    if all(s == shapes[0] for s in shapes):
        return shapes[0]
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + s for s in shapes]
    result: list[int] = []
    for dims in zip(*padded, strict=True):
        wide = {d for d in dims if d != 1}
        if len(wide) > 1:
            raise IRError(f"{op.name}: shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast")
        result.append(wide.pop() if wide else 1)
    return tuple(result)
