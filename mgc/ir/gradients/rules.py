"""The table of gradient rules and of decompositions: ops made of other ops, beside the ops that know nothing of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from mgc.ir.build import Build
from mgc.ir.graph import Value
from mgc.ir.op import NotDifferentiable, Op

Values = Sequence[Value]
Gradients = Sequence[Value | None]
_OpT = TypeVar("_OpT", bound=Op)

Rule = Callable[[Build, _OpT, Values, Value, Value], Gradients]
"""(build, op, operands, the result, its cotangent) -> the operands' cotangents."""
RuleOfAll = Callable[[Build, _OpT, Values, Values, Gradients], Gradients]
"""The same with all results and their cotangents."""
MadeOf = Callable[[Build, _OpT, Values], Values]
"""(build, op, operands) -> results."""

GRADIENTS: dict[type[Op], RuleOfAll[Any]] = {}
"""The rule of each op that has one."""
_DECOMPOSITIONS: dict[type[Op], MadeOf[Any]] = {}


def gradient_of_all(op: type[_OpT]) -> Callable[[RuleOfAll[_OpT]], RuleOfAll[_OpT]]:
    """Decorator: the gradient rule of an op with several results."""

    def register(rule: RuleOfAll[_OpT]) -> RuleOfAll[_OpT]:
        GRADIENTS[op] = rule
        return rule

    return register


def gradient(op: type[_OpT]) -> Callable[[Rule[_OpT]], Rule[_OpT]]:
    """Decorator: the gradient rule of an op with one result."""

    def register(rule: Rule[_OpT]) -> Rule[_OpT]:
        def of_one(g: Build, op: _OpT, inputs: Values, outputs: Values, cotangents: Gradients) -> Gradients:
            (y,), (dy,) = outputs, cotangents
            assert dy is not None  # `vjp`
            return rule(g, op, inputs, y, dy)

        GRADIENTS[op] = of_one
        return rule

    return register


def decomposition(op: type[_OpT]) -> Callable[[MadeOf[_OpT]], MadeOf[_OpT]]:
    """Decorator: an op as other level-1 ops."""

    def register(made_of: MadeOf[_OpT]) -> MadeOf[_OpT]:
        _DECOMPOSITIONS[op] = made_of
        return made_of

    return register


def vjp(build: Build, op: Op, inputs: Values, outputs: Values, cotangents: Gradients) -> Gradients:
    """Adds level-1 ops to `build` that give each operand's cotangent from the results'.

    A cotangent has its value's type; None is zero (given: no path to the loss; returned: no dependence, or an operand
    that is not differentiable, such as indices). Where an op is not smooth its rule says what is taken. What is
    returned for an operand that nobody asks for is dead code, which the caller prunes. Raises NotDifferentiable,
    naming the op and the reason.
    """
    rule = GRADIENTS.get(type(op))
    if rule is None:
        raise NotDifferentiable(op, op.not_differentiable)
    if all(c is None for c in cotangents):
        return (None,) * len(inputs)
    return rule(build, op, inputs, outputs, cotangents)


def decomposes(op: Op) -> bool:
    """Whether an op is made of other ops: `decompose` then gives them."""
    return type(op) in _DECOMPOSITIONS


def decompose(build: Build, op: Op, inputs: Values) -> Values | None:
    """The op as other level-1 ops added to `build`, one value for each result; None where it has an ONNX form.

    For ops that no ONNX node means, those with several results above all. The exporter uses it.
    """
    made_of = _DECOMPOSITIONS.get(type(op))
    return None if made_of is None else made_of(build, op, inputs)
