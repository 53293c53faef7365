"""Which values of a graph can be a discriminator's scores, and where its network ends."""

from __future__ import annotations

from mgc.functions.unary import UNARY
from mgc.ir.graph import Node, Value
from mgc.ir.ops import Binary, Expand, Reshape, Unary
from mgc.passes.losses.facts import GraphFacts
from mgc.passes.losses.region import Region

LAST_LAYERS = ("sigmoid", "tanh", "hard_sigmoid")
"""Activations that a discriminator may end in on purpose."""


class DeclinedError(Exception):
    """A term is no function of scores; the message says why."""


def check_scores(facts: GraphFacts, value: Value) -> None:
    """Raises DeclinedError, with the reason, for values that cannot be scores."""
    if facts.is_parameter(value):
        raise DeclinedError(f"%{value.name} is computed from parameters alone")
    if value in facts.into_networks:
        raise DeclinedError(f"%{value.name} goes into a network: it is no score")
    if value in facts.of_batch:
        raise DeclinedError(f"%{value.name} is taken over the whole batch: not a function of single scores")
    weight = facts.slope_weight(value)
    if weight is not None:
        raise DeclinedError(
            f"%{value.name} is a derivative of the network, as gradient penalties have it: its last product reads "
            f"%{weight.name}, which was read before"
        )


def can_be_scores(facts: GraphFacts, value: Value) -> bool:
    """Whether `check_scores` has nothing against it."""
    try:
        check_scores(facts, value)
    except DeclinedError:
        return False
    return True


def strip_reshapes(facts: GraphFacts, value: Value) -> Value:
    """The value under reshapes and expansions."""
    node = facts.producers.get(value)
    while node is not None and isinstance(node.op, Reshape | Expand):
        value = node.inputs[0]
        node = facts.producers.get(value)
    return value


def is_leaf(facts: GraphFacts, value: Value) -> bool:
    """Whether it is no result of an element-wise op, or of one with a parameter (a bias)."""
    return Region.of(facts, value).leaves == [value]


def is_pooled_layer(facts: GraphFacts, value: Value) -> bool:
    """Whether a mean of it over positions may be a network's last layer: a leaf, an activation right on one, or a
    product of two (a projection).
    """
    if is_leaf(facts, value):
        return True
    node = facts.producers[value]
    activation = isinstance(node.op, Unary) and UNARY[node.op.fn].activation
    product = isinstance(node.op, Binary) and node.op.fn == "mul" and node.inputs[0] is not node.inputs[1]
    return (activation or product) and all(is_leaf(facts, v) for v in node.inputs)


def ends_network(facts: GraphFacts, value: Value) -> bool:
    """Whether it is the result of a network: where two paths of it are added up, or by the ONNX nodes' names."""
    node = facts.producers.get(value)
    if node is None:
        return False
    if isinstance(node.op, Binary) and node.op.fn == "add":
        return all(is_leaf(facts, v) and can_be_scores(facts, v) for v in node.inputs)
    if isinstance(node.op, Unary) and UNARY[node.op.fn].activation and is_leaf(facts, node.inputs[0]):
        return _leaves_module(facts, node)
    return False


def _leaves_module(facts: GraphFacts, node: Node) -> bool:
    """Whether what reads a node is of another module: one that came from no ONNX node at all (a composed loss), or,
    with PyTorch's module paths as names (/discriminator/Sigmoid), of another path.
    """
    own = _modules(node)
    readers = [_modules(user) for user in facts.users.get(node.outputs[0], [])]
    if not own or not readers:
        return False
    return not any(readers) or (own != {""} and all(not own & other for other in readers))


def _modules(node: Node) -> set[str]:
    """The outermost modules in a node's names, "" for a name without a path."""
    return {name.split("/")[1] if name.count("/") > 1 and name.startswith("/") else "" for name in node.sources}
