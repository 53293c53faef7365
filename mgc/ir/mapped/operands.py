"""Checks of operand types that level-2 ops share."""

from __future__ import annotations

from collections.abc import Sequence

from mgc.ir.op import IRError
from mgc.ir.types import TensorType, ValueType


def tensors(op: str, types: Sequence[ValueType], count: int | None = None) -> list[TensorType]:
    """The operands' types; IRError if one is opaque, or they are not `count`."""
    if count is not None and len(types) != count:
        raise IRError(f"{op}: {count} operands are expected, not {len(types)}")
    for k, t in enumerate(types):
        if not isinstance(t, TensorType):
            raise IRError(f"{op}: operand {k} is opaque")
    return [t for t in types if isinstance(t, TensorType)]
