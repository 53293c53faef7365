"""The base class of every IR op, and the registry by which the text form and the exporter find them.

An op is a small frozen dataclass; its fields are its attributes. Everything about one op stands in its class: type
rule (`infer`), meaning (`evaluate`), ONNX form (`onnx`), batch rules (`split_batch`). Its gradient, which is built of
other ops, stands in `mgc.ir.gradients`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from mgc.functions.onnx_form import OnnxForm
from mgc.ir.flow import Axis, Flow, broadcast
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
    elementwise: ClassVar[Literal["", "all", "first"]] = ""
    """Whether each element of the result depends on one of each operand (broadcast), or of the first one alone."""
    nonnegative_if: ClassVar[Literal["", "first", "every"]] = ""
    """Which operands, if none is below 0, make every result >= 0."""

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

    def vec(self) -> tuple[str, tuple[float, ...]]:
        """The function of a vector unit that it is, and the function's attributes."""
        raise TypeError(f"{self.name} is no work for a vector unit: the plan has to lower it first")

    @property
    def is_vector_work(self) -> bool:
        """Whether a vector unit does it: whether it has a `vec`."""
        return type(self).vec is not Op.vec

    def is_nonnegative(self, operands: Sequence[bool]) -> bool:
        """Whether its results are >= 0 (or NaN), given whether each operand is known to be."""
        return {"": False, "first": any(operands[:1]), "every": all(operands)}[self.nonnegative_if]

    def useful_macs(self, types: Sequence[TensorType], result: TensorType) -> int:
        """Multiply-accumulates by definition, for its whole operand; 0 for an op without weights."""
        return 0

    def flow(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Flow:
        """How a batch in `split` parts flows through it; `axes` are those of its operands. Sound: what is not known to
        go by parts is whole.
        """
        found = None if all(a is None for a in axes) else self.batch_axes(types, axes, results, split)
        return Flow(False, (None,) * len(results)) if found is None else Flow(True, tuple(found))

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        """The results' axes if it takes the parts one by one, as `Flow` has them; None if it does not."""
        if self.elementwise == "all" or (self.elementwise == "first" and not any(axes[1:])):
            axis = broadcast([t.shape for t in types], axes, results[0].shape, split)
            if axis is not None:
                return (axis,)
        if any(a not in (0, None) for a in axes) or any(r.shape[0] % split for r in results if r.shape):
            return None
        flags = [a is not None for a in axes]
        return None if self.split_batch(types, flags, split) is None else (0,) * len(results)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        """The op for one micro-batch, when axis 0 of the operands flagged in `batched` shrinks by `factor`.

        `types` are the operands' full types. Returns the op with its attributes adapted (often `self`), such that
        running it on each of the `factor` contiguous parts of axis 0 and concatenating the results along axis 0
        equals running it on the whole; None where that does not hold (the op mixes samples).
        """
        return self if self.elementwise == "all" and _elementwise_splits(types, batched) else None


def _elementwise_splits(types: Sequence[TensorType], batched: Sequence[bool]) -> bool:
    """Whether a broadcasting op may run part by part of axis 0: what is batched spans axis 0 of the result alike,
    and what is not batched does not reach axis 0 or has one entry there.
    """
    rank = max(t.rank for t in types)
    sizes = {t.shape[0] for t, b in zip(types, batched, strict=True) if b and t.rank == rank and rank > 0}
    if len(sizes) != 1:
        return False
    return all(t.rank == rank if b else t.rank < rank or t.shape[0] == 1 for t, b in zip(types, batched, strict=True))


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
