"""The base class of every IR op, and the registry by which the text form and the exporter find them.

An op is a small frozen dataclass; its fields are its attributes. Everything about one op stands in its class: type
rule (`infer`), meaning (`evaluate`), ONNX form (`onnx` or `decompose`), batch rule (`split_batch`), gradient (`vjp`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from mgc.ir.types import TensorType, ValueType

if TYPE_CHECKING:
    from mgc.ir.build import Build
    from mgc.ir.graph import Value


class IRError(ValueError):
    """An IR rule is broken: a type rule, a verifier's rule, or the grammar of the text form."""


class NotDifferentiable(IRError):  # noqa: N818 (it says what is the matter)
    """A gradient was asked through an op that has none; the message names the op and says why."""

    def __init__(self, op: Op, reason: str) -> None:
        super().__init__(f"{op.name}: no gradient: {reason}")
        self.reason = reason


@dataclass(frozen=True)
class OnnxForm:
    """One ONNX node that means the same as an op: operands are its inputs followed by `constants`.

    `attributes` holds ints, floats, strings, lists of them, or arrays; `constants` are appended as extra inputs
    (ONNX takes shapes, axes and the like so), None for an input left out. `operands` is for the few ops that take
    more than one node: each entry is the number of an operand of the op or another form; None means all the op's
    operands in order. `result` is the number of the ONNX node's output that is meant.
    """

    op_type: str
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[np.ndarray | None, ...] = ()
    operands: tuple[int | OnnxForm, ...] | None = None
    result: int = 0


@dataclass(frozen=True)
class Op:
    """Base of all ops. Subclasses are frozen dataclasses with a class variable `name`."""

    name: ClassVar[str] = ""
    level: ClassVar[int] = 1

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        """Result types from operand types. Raises IRError that says what is wrong with which operand."""
        raise TypeError(f"{type(self).__name__} has no type rule")

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """The op's meaning in NumPy, in the operands' own precision."""
        raise TypeError(f"{type(self).__name__} has no meaning in NumPy")

    def onnx(self, *types: TensorType) -> OnnxForm:
        """The op as one ONNX node (opset `mgc.frontend.exporter.OPSET`)."""
        raise TypeError(f"{type(self).__name__} has no ONNX form")

    def decompose(self, build: Build, inputs: Sequence[Value]) -> Sequence[Value] | None:
        """The op as other level-1 ops added to `build`, one value for each result; None where it has an ONNX form.

        For ops that no ONNX node means, those with several results above all. The exporter uses it.
        """
        return None

    def vjp(
        self,
        build: Build,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        cotangents: Sequence[Value | None],
    ) -> Sequence[Value | None]:
        """The gradient rule: adds level-1 ops to `build` that give each operand's cotangent from the results'.

        A cotangent has its value's type; None is zero (given: no path to the loss; returned: no dependence, or an
        operand that is not differentiable, such as indices). Where the op is not smooth its rule says what is taken.
        What is returned for an operand that nobody asks for is dead code, which the caller prunes. Raises
        NotDifferentiable, naming the op and the reason.
        """
        raise NotDifferentiable(self, "it has no gradient rule")

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
