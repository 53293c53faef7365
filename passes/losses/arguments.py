"""What a loss term is a function of: candidates for u, from the scores up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mgc.ir.graph import Value
from mgc.ir.ops import Binary, Reshape, Unary
from mgc.passes.losses.facts import GraphFacts
from mgc.passes.losses.region import Region
from mgc.passes.losses.scores import LAST_LAYERS, strip_reshapes
from mgc.passes.losses.terms import Term, strip_factors


@dataclass(frozen=True)
class Argument:
    """A candidate for u: the value `at` of the region is `orientation` * u.

    a, b, pairing: as in `mgc.ir.ops.DiffBlock`. target: the one other leaf above `at`, if any. last_layer: `at` is
    past an activation, of which only forms count that are meant for probabilities (`resolve`).
    """

    at: Value
    a: Value
    b: Value | None = None
    pairing: str = "single"
    orientation: float = 1.0
    target: Value | None = None
    last_layer: bool = False


def arguments(facts: GraphFacts, region: Region) -> Iterator[Argument]:
    """Candidates for u, the one nearest to the network first; none where the region mixes more than it can."""
    leaves = region.leaves
    scores = [v for v in leaves if v in facts.trained] or leaves
    data = [v for v in leaves if v not in scores]
    if len(scores) == 2 and scores == leaves and not any(v in facts.trained for v in leaves):
        # nothing tells scores from targets but the formula
        yield from (Argument(s, s, target=t) for s, t in (scores, scores[::-1]))
    if len(data) > 1:
        return
    target = data[0] if data else None
    if len(scores) == 1:
        yield from _along(facts, region, Argument(scores[0], scores[0], target=target))
        return
    join = _join(facts, region, data)
    if join is not None:
        yield replace(_paired(facts, join), target=target)


def _along(facts: GraphFacts, region: Region, argument: Argument) -> Iterator[Argument]:
    """A score, then what constant factors and offsets and a network's last activation make of it."""
    yield argument
    for node in region.nodes:
        op, at = node.op, argument.at
        last = isinstance(op, Unary) and op.fn in LAST_LAYERS
        affine = isinstance(op, Binary) and op.fn in ("add", "sub", "mul", "div")
        varying = [v for v in node.inputs if facts.number(v) is None]
        if varying != [at] or not (last or affine or isinstance(op, Reshape)) or node.outputs[0] is region.root:
            continue
        (value,) = node.outputs
        leaves = Region.of(facts, region.root, frozenset((value,))).leaves
        if any(v is not value and v is not argument.target for v in leaves):
            return  # the root reads the score in other ways, too
        argument = replace(argument, at=value, a=value, last_layer=argument.last_layer or last)
        yield argument


def _join(facts: GraphFacts, region: Region, data: list[Value]) -> Value | None:
    """The first value that all of the region's scores go through; None if that is the root."""
    for node in region.nodes:
        (value,) = node.outputs
        leaves = Region.of(facts, region.root, frozenset((value,))).leaves
        if value is not region.root and value in leaves and set(leaves) <= {value, *data}:
            return value
    return None


def _paired(facts: GraphFacts, join: Value) -> Argument:
    """Where scores are subtracted from one another: the pairing; else the value itself."""
    node = facts.producers[join]
    if not isinstance(node.op, Binary) or node.op.fn not in ("add", "sub"):
        return Argument(join, join)
    (s, x), (r, y) = (_signed(facts, v) for v in node.inputs)
    r = -r if node.op.fn == "sub" else r
    if s == r:
        return Argument(join, join)
    a, b = (x, y) if s > 0 else (y, x)
    for one, other, orientation in ((a, b, 1.0), (b, a, -1.0)):
        mean = _mean_of(facts, other)
        if mean is not None and one.tensor.size == join.tensor.size:
            return Argument(join, one, mean, "average", orientation)
    return Argument(join, a, b, "pair")


def _signed(facts: GraphFacts, value: Value) -> tuple[int, Value]:
    node = facts.producers.get(value)
    if node is not None and isinstance(node.op, Unary) and node.op.fn == "neg":
        sign, inner = _signed(facts, node.inputs[0])
        return -sign, inner
    return 1, value


def _mean_of(facts: GraphFacts, value: Value) -> Value | None:
    """The tensor that a value is the mean of, over all its elements; None if it is no such mean."""
    inner = strip_reshapes(facts, value)
    if inner.tensor.size != 1:
        return None
    term = strip_factors(facts, Term(1.0, inner))
    size = term.value.tensor.size
    return term.value if size > 1 and abs(term.scale * size - 1) < 1e-6 else None
