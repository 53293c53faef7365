"""A region of the graph as a jet: f, f', f'' and f''' enclosed on any cells of the score axis."""

from __future__ import annotations

from collections.abc import Callable

from mgc.ir.graph import Node, Value
from mgc.ir.ops import Binary, Cast, Expand, Reshape, Unary
from mgc.ir.ops import Where as Choice
from mgc.passes.losses import smooth
from mgc.passes.losses.interval import Array
from mgc.passes.losses.jet import Jet, Truth, chosen
from mgc.passes.losses.region import Region


class NotEnclosedError(Exception):
    """The region has an op without an enclosure; the message names it."""


_LOGIC: dict[str, Callable[[Truth, Truth], Truth]] = {
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: (a & ~b) | (b & ~a),
}


def enclose(region: Region, at: Value, left: Array, right: Array, orientation: float) -> Jet:
    """The region's root as a function of u on the cells [left, right], where the value `at` is orientation * u.

    Its other leaves must be constant and the same for all elements. Raises NotEnclosedError.
    """
    u = Jet.variable(left, right, orientation)
    env: dict[Value, Jet | Truth] = {at: u}
    for node in region.nodes:
        (result,) = node.outputs
        if node in region.guards:
            env[result] = env[region.guards[node]]
        else:
            env[result] = _apply(region, env, node, u)
    return _jet(env[region.root], u)


def _apply(region: Region, env: dict[Value, Jet | Truth], node: Node, u: Jet) -> Jet | Truth:
    op = node.op

    def operand(i: int) -> Jet | Truth:
        value = node.inputs[i]
        if value in env:
            return env[value]
        number = region.facts.number(value)
        if number is None:
            raise NotEnclosedError(f"%{value.name} is no single number")
        return Jet.constant(number, u.shape)

    def jet(i: int) -> Jet:
        return _jet(operand(i), u)

    if isinstance(op, Reshape | Expand):
        return operand(0)
    if isinstance(op, Cast) and op.to.is_float:
        return jet(0)
    if isinstance(op, Unary):
        if op.fn == "not":
            return ~_truth(operand(0), node)
        if op.fn in smooth.UNARY:
            return smooth.UNARY[op.fn](jet(0), op.alpha, op.beta)
    elif isinstance(op, Binary):
        a, b = node.inputs
        if op.fn in _LOGIC:
            return _LOGIC[op.fn](_truth(operand(0), node), _truth(operand(1), node))
        if op.fn in smooth.COMPARE:
            return smooth.COMPARE[op.fn](jet(0), jet(1))
        if op.fn == "mul" and a is b:
            return smooth.power(jet(0), 2.0)
        if op.fn in smooth.ARITHMETIC:
            return smooth.ARITHMETIC[op.fn](jet(0), jet(1))
        exponent = region.facts.number(b)
        if op.fn == "pow" and exponent is not None:
            return smooth.power(jet(0), exponent)
        if op.fn == "prelu" and exponent is not None:
            return smooth.UNARY["leaky_relu"](jet(0), exponent, 0.0)
    elif isinstance(op, Choice):
        return chosen(_truth(operand(0), node), jet(1), jet(2), continuous=False)
    name = getattr(op, "fn", "")
    raise NotEnclosedError(f"no bound can be proven for {op.name}{f' {name}' if name else ''}")


def _jet(x: Jet | Truth, u: Jet) -> Jet:
    """A number as it is; a condition as 1 or 0."""
    if isinstance(x, Jet):
        return x
    return chosen(x, Jet.constant(1.0, u.shape), Jet.constant(0.0, u.shape), continuous=False)


def _truth(x: Jet | Truth, node: Node) -> Truth:
    if isinstance(x, Truth):
        return x
    raise NotEnclosedError(f"a condition of {node.op.name} is constant")
