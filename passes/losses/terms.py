"""A scalar loss as a sum of terms scale * sum_i E_i, one step after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mgc.ir.graph import Value
from mgc.ir.ops import Binary, Cast, Expand, Reduce, Reshape, Transpose, Unary
from mgc.passes.losses.facts import GraphFacts, over_batch
from mgc.passes.losses.forms import snap


@dataclass(frozen=True)
class Term:
    """scale * (the sum of all elements of `value`); `mean`: it came out of a mean."""

    scale: float
    value: Value
    mean: bool = False


def strip_factors(facts: GraphFacts, term: Term) -> Term:
    """The term without signs, constant factors and reshapes around its value."""
    while True:
        parts = _one_step(facts, term)
        if len(parts) != 1 or _partial(facts, term.value):
            return term
        term = parts[0]


def addends(facts: GraphFacts, term: Term) -> list[Term]:
    """The terms that a term without factors is the sum of: of a sum its operands, of a reduction what it reduces; else
    none.
    """
    return _one_step(facts, term)


def _partial(facts: GraphFacts, value: Value) -> bool:
    """Whether the value is a reduction that keeps the batch: it may be the last layer of a network."""
    node = facts.producers.get(value)
    if node is None or not isinstance(node.op, Reduce):
        return False
    return node.inputs[0].tensor.size != value.tensor.size and not over_batch(node.op, node.inputs[0])


def _one_step(facts: GraphFacts, term: Term) -> list[Term]:
    node = facts.producers.get(term.value)
    if node is None:
        return []
    op, size = node.op, term.value.tensor.size

    def part(value: Value, factor: float = 1.0, mean: bool = False) -> Term:
        # each element of a broadcast operand counts as often as it is used
        repeats = size / value.tensor.size if value.tensor.size < size else 1
        return replace(term, scale=term.scale * factor * repeats, value=value, mean=term.mean or mean)

    if isinstance(op, Unary) and op.fn == "neg":
        return [part(node.inputs[0], -1.0)]
    if isinstance(op, Reshape | Transpose | Expand):
        return [part(node.inputs[0])]
    if isinstance(op, Cast) and op.to.is_float and node.inputs[0].tensor.dtype.is_float:
        return [part(node.inputs[0])]
    if isinstance(op, Reduce) and op.fn in ("sum", "mean"):
        reduced = node.inputs[0].tensor.size / size
        return [part(node.inputs[0], 1 / reduced if op.fn == "mean" else 1.0, op.fn == "mean")]
    if isinstance(op, Binary):
        a, b = node.inputs
        if op.fn in ("add", "sub"):
            return [part(a), part(b, 1.0 if op.fn == "add" else -1.0)]
        if op.fn in ("mul", "div") and (c := facts.number(b)) is not None and c:
            return [part(a, snap(c) if op.fn == "mul" else 1 / snap(c))]
        if op.fn == "mul" and (c := facts.number(a)) is not None:
            return [part(b, snap(c))]
    return []
