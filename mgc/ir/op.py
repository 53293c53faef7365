"""The base class of every IR op, and the registry by which the text form and the exporter find them.

An op is a small frozen dataclass; its fields are its attributes. Everything about one op stands in its class: type
rule (`infer`), meaning (`evaluate`), ONNX form (`onnx`), batch rules (`split_batch`). Its gradient, which is built of
other ops, stands in `mgc.ir.gradients`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from mgc.functions.onnx_form import OnnxForm
from mgc.ir.types import TensorType, ValueType


class IRError(ValueError):
    """An IR rule is broken: a type rule, a verifier's rule, or the grammar of the text form."""


class NotDifferentiable(IRError):  # noqa: N818 (it says what is the matter)
    """A gradient was asked through an op that has none; the message names the op and says why."""

    def __init__(self, op: Op, reason: str) -> None:
        super().__init__(f"{op.name}: no gradient: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class Op:
    """Base of all ops. Subclasses are frozen dataclasses with a class variable `name`."""

    name: ClassVar[str] = ""
    level: ClassVar[int] = 1

    @property
    def not_differentiable(self) -> str:
        """Why it has no gradient, for an op that has no rule in `mgc.ir.gradients`."""
        return "it has no gradient rule"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        """Result types from operand types. Raises IRError that says what is wrong with which operand."""
        raise TypeError(f"{type(self).__name__} has no type rule")

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The op's meaning in NumPy, in the operands' own precision."""
        raise TypeError(f"{type(self).__name__} has no meaning in NumPy")

    def onnx(self, *types: TensorType) -> OnnxForm:
        """The op as one ONNX node (opset `mgc.frontend.exporter.OPSET`)."""
        raise TypeError(f"{type(self).__name__} has no ONNX form")

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        """The op for one micro-batch, when axis 0 of the operands flagged in `batched` shrinks by `factor`.

        `types` are the operands' full types. Returns the op with its attributes adapted (often `self`), such that
        running it on each of the `factor` contiguous parts of axis 0 and concatenating the results along axis 0
        equals running it on the whole; None where that does not hold (the op mixes samples).
        """
        return None


REGISTRY: dict[str, type[Op]] = {}
ATTRIBUTES: dict[str, type[Any]] = {}
_OpClass = TypeVar("_OpClass", bound=type[Op])
_AttrClass = TypeVar("_AttrClass", bound=type)


def register(cls: _OpClass) -> _OpClass:
    """Class decorator: makes an op known to the parser under its `name`."""
    if not cls.name or cls.name in REGISTRY:
        raise TypeError(f"op {cls.__name__}: name {cls.name!r} is empty or taken")
    REGISTRY[cls.name] = cls
    return cls


def register_attr(cls: _AttrClass) -> _AttrClass:
    """Class decorator: makes a frozen dataclass usable as (part of) an op's attribute in the text form.

    Its own fields follow the rules for op fields: ints, floats, bools, strings, bytes, tuples, DType, value types,
    other such classes.
    """
    if not hasattr(cls, "__dataclass_fields__") or cls.__name__ in ATTRIBUTES:
        raise TypeError(f"attribute class {cls.__name__}: not a dataclass, or its name is taken")
    ATTRIBUTES[cls.__name__] = cls
    return cls
