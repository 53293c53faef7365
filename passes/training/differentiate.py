"""Reverse-mode differentiation, IR to IR: gradients of a scalar as further ops of the same graph."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mgc.ir.build import Build
from mgc.ir.gradients import vjp
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import IRError, NotDifferentiable
from mgc.ir.types import TensorType


def gradients(
    graph: Graph,
    loss: Value,
    wrt: Sequence[Value],
    *,
    seed: Value | None = None,
    fixed: Collection[Value] = (),
) -> list[Value | None]:
    """The derivative of `loss` by each of `wrt`, added to the end of the graph; None where it does not depend on it.

    Nodes must be in topological order and stay so. Only what lies between `wrt` and the loss is differentiated: a
    network that the loss reads but that holds none of `wrt` costs nothing. `seed` is the loss's own cotangent
    (default 1; needed if the loss is no scalar). `fixed` values count as constants, whatever they were computed from:
    what an earlier phase updated. Gradient ops carry the sources of the op they belong to, and the
    result may be differentiated again. Call `graph.prune()` at the end: rules also build what nobody asked for.
    Raises NotDifferentiable, naming the op and where it came from, if the path leads through such an op.
    """
    if seed is None:
        if not isinstance(loss.type, TensorType) or loss.type.size != 1 or not loss.type.dtype.is_float:
            raise IRError(f"%{loss.name} is {loss.type}: only a float scalar has a gradient without a seed")
        seed = Build(graph).full(1.0, loss)
    constants = set(fixed)
    active = _depends_on(graph, wrt, constants)
    terms: dict[Value, list[Value]] = {loss: [seed]}
    build = Build(graph)
    for node in reversed(list(graph.nodes)):
        reached = any(v in terms and v not in constants for v in node.outputs)
        if not reached or not any(v in active for v in node.inputs):
            continue
        _backward(build, node, active, terms)
    build.sources = ()
    return [_sum(build, terms, v) for v in wrt]


def _depends_on(graph: Graph, wrt: Sequence[Value], fixed: set[Value]) -> set[Value]:
    """The float values that are computed from `wrt`, these included, and not only by way of `fixed` ones."""
    active = set(wrt)
    for node in graph.nodes:
        if any(v in active for v in node.inputs):
            made = (v for v in node.outputs if not isinstance(v.type, TensorType) or v.type.dtype.is_float)
            active.update(v for v in made if v not in fixed)
    return active


def _backward(build: Build, node: Node, active: set[Value], terms: dict[Value, list[Value]]) -> None:
    """Adds the terms that a node contributes to its operands' cotangents."""
    build.sources = node.sources
    cotangents = [_sum(build, terms, v) for v in node.outputs]
    build.hint = f"d.{node.outputs[0].name}"
    try:
        found = vjp(build, node.op, node.inputs, node.outputs, cotangents)
    except NotDifferentiable as error:
        where = f"{', '.join(node.sources) or '%' + node.outputs[0].name}"
        raise NotDifferentiable(node.op, f"{error.reason} (at {where})") from error
    for value, term in zip(node.inputs, found, strict=True):
        if term is None or value not in active:
            continue
        if term.type != value.type:
            raise IRError(f"{node.op.name}: its gradient rule gives {term.type} for the operand {value.type}")
        terms.setdefault(value, []).append(term)


def _sum(build: Build, terms: dict[Value, list[Value]], value: Value) -> Value | None:
    """A value's cotangent: all its terms added up, in the order in which they were found."""
    found = terms.get(value)
    if not found:
        return None
    build.hint = f"d.{value.name}"
    while len(found) > 1:
        found[:2] = [build.add(found[0], found[1])]
    return found[0]
