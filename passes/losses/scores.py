"""Which values of a graph can be a discriminator's scores, and where its network ends."""

from __future__ import annotations

from mgc.functions.unary import UNARY
from mgc.ir.graph import Node, Value
from mgc.ir.ops import Binary, Expand, Reshape, Unary
from mgc.passes.losses.region import Region
from mgc.passes.losses.view import View

LAST_LAYERS = ("sigmoid", "tanh", "hard_sigmoid")
"""Activations that a discriminator may end in on purpose."""


class DeclinedError(Exception):
    """A term is no function of scores; the message says why."""


def check_scores(view: View, value: Value) -> None:
    """Raises DeclinedError, with the reason, for values that cannot be scores."""
    if view.is_parameter(value):
        raise DeclinedError(f"%{value.name} is computed from parameters alone")
    if value in view.into_networks:
        raise DeclinedError(f"%{value.name} goes into a network: it is no score")
    if value in view.of_batch:
        raise DeclinedError(f"%{value.name} is taken over the whole batch: not a function of single scores")
    weight = view.slope_weight(value)
    if weight is not None:
        raise DeclinedError(
            f"%{value.name} is a derivative of the network, as gradient penalties have it: its last product reads "
            f"%{weight.name}, which was read before"
        )


def can_be_scores(view: View, value: Value) -> bool:
    """Whether `check_scores` has nothing against it."""
    try:
        check_scores(view, value)
    except DeclinedError:
        return False
    return True


def bare(view: View, value: Value) -> Value:
    """The value under reshapes and expansions."""
    node = view.producers.get(value)
    while node is not None and isinstance(node.op, Reshape | Expand):
        value = node.inputs[0]
        node = view.producers.get(value)
    return value


def is_leaf(view: View, value: Value) -> bool:
    """Whether it is no result of an element-wise op, or of one with a parameter (a bias)."""
    return Region.of(view, value).leaves == [value]


def is_pooled_layer(view: View, value: Value) -> bool:
    """Whether a mean of it over positions may be a network's last layer: a leaf, an activation right on one, or a
    product of two (a projection).
    """
    if is_leaf(view, value):
        return True
    node = view.producers[value]
    activation = isinstance(node.op, Unary) and UNARY[node.op.fn].activation
    product = isinstance(node.op, Binary) and node.op.fn == "mul" and node.inputs[0] is not node.inputs[1]
    return (activation or product) and all(is_leaf(view, v) for v in node.inputs)


def ends_network(view: View, value: Value) -> bool:
    """Whether it is the result of a network: where two paths of it are added up, or by the ONNX nodes' names."""
    node = view.producers.get(value)
    if node is None:
        return False
    if isinstance(node.op, Binary) and node.op.fn == "add":
        return all(is_leaf(view, v) and can_be_scores(view, v) for v in node.inputs)
    if isinstance(node.op, Unary) and UNARY[node.op.fn].activation and is_leaf(view, node.inputs[0]):
        return _leaves_module(view, node)
    return False


def _leaves_module(view: View, node: Node) -> bool:
    """Whether what reads a node is of another module: one that came from no ONNX node at all (a composed loss), or,
    with PyTorch's module paths as names (/discriminator/Sigmoid), of another path.
    """
    own = _modules(node)
    readers = [_modules(user) for user in view.users.get(node.outputs[0], [])]
    if not own or not readers:
        return False
    return not any(readers) or (own != {""} and all(not own & other for other in readers))


def _modules(node: Node) -> set[str]:
    """The outermost modules in a node's names, "" for a name without a path."""
    return {name.split("/")[1] if name.count("/") > 1 and name.startswith("/") else "" for name in node.sources}
