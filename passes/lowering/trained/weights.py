"""Which weights of a training step go to crossbars, in what layout, and how each use reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Conv, ConvTranspose, MatMul, Reshape, Transpose, Update
from mgc.ir.types import DType
from mgc.passes.lowering.trained.products import Cells, Product, conv_product, equal, matmul_product, numbered
from mgc.passes.manager import UnsupportedError
from mgc.passes.mapping.work import useful_macs

MAX_SPATIAL = 3
_WEIGHTED = (Conv, ConvTranspose, MatMul)


@dataclass(frozen=True, eq=False)
class WeightView:
    """A value that is a parameter's version seen through reshapes and transposes: entry i is entry `index[i]` of it."""

    version: Value
    index: np.ndarray


@dataclass(frozen=True, eq=False)
class WeightUse:
    """A linear op with a weight among its operands: `weight` is the operand's number."""

    node: Node
    weight: int
    view: WeightView

    @property
    def x(self) -> Value:
        """The other operand."""
        return self.node.inputs[1 - self.weight]

    def direct(self, refined: bool, name: str = "w") -> Product | None:
        """As a product of the stored weights, numbered by the weight operand; None if it cannot be one."""
        op, y, w = self.node.op, self.node.outputs[0], self.node.inputs[self.weight]
        macs = useful_macs(self.node)
        if isinstance(op, Conv | ConvTranspose):
            return conv_product(op, self.x.tensor, w.shape, y.tensor, name, macs, refined)
        return matmul_product(self.x.shape, w.shape, self.weight == 0, name) if len(w.shape) == 2 else None

    def adjoint(self, refined: bool, name: str = "w") -> Product | None:
        """The product of which this op is the transpose: from the op's result to its other operand."""
        op, y, w = self.node.op, self.node.outputs[0], self.node.inputs[self.weight]
        if isinstance(op, Conv | ConvTranspose):
            of = Conv(op.strides, op.pads, op.dilations, op.groups)
            if isinstance(op, Conv):
                of = ConvTranspose(op.strides, op.pads, (0,) * len(op.strides), op.dilations, op.groups)
            return conv_product(of, y.tensor, w.shape, self.x.tensor, name, useful_macs(self.node), refined)
        if len(w.shape) != 2 or len(self.x.shape) < 2:
            return None
        turned = matmul_product(y.shape, (w.shape[1], w.shape[0]), self.weight == 0, name)
        back = numbered(w.shape).T.reshape(-1)
        return Product(turned.op, tuple(back[c] for c in turned.cells), turned.operand)


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """How one copy of a weight lies on crossbars: the product whose parts are its groups, numbered by the weight's own
    entries. `start` counts the groups of the copies before it, `size` is the weight's; `both_ways`: it can be read
    transposed.
    """

    key: str
    name: str
    product: Product
    cells: Cells
    refined: bool
    both_ways: bool
    start: int
    size: int

    @property
    def whole(self) -> bool:
        """Whether every entry of the weight is in a cell."""
        return sum(c.size for c in self.cells) == self.size


def where(node: Node) -> str:
    """The ONNX nodes of an op, for messages."""
    return ", ".join(node.sources) or f"%{node.outputs[0].name}"


@dataclass
class Survey:
    """All uses of the weights in one graph. `key_of` gives for each version of a parameter the state's name, and for
    constants a name made of their data, so that several graphs agree on it.
    """

    graph: Graph
    states: set[str]
    key_of: dict[Value, str] = field(default_factory=dict)
    views: dict[Value, WeightView] = field(default_factory=dict)
    uses: dict[Node, WeightUse] = field(default_factory=dict)
    others: dict[str, Node] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in self.graph.inputs:
            if value.name in self.states:
                self._add_version(value, value.name)
        for value, constant in self.graph.constants.items():
            if value.tensor.dtype.is_float and len(value.shape) > 1 and value.tensor.size > 1:
                digest = hashlib.sha256(np.ascontiguousarray(constant.data).tobytes()).hexdigest()[:16]
                self._add_version(value, f"constant:{value.shape}:{digest}")
        for node in self.graph.nodes:
            self._node(node)

    def _add_version(self, value: Value, key: str) -> None:
        self.key_of[value] = key
        self.views[value] = WeightView(value, numbered(value.shape))

    def key(self, value: Value) -> str | None:
        """The parameter or constant that a value is a view of."""
        return self.key_of[self.views[value].version] if value in self.views else None

    def _node(self, node: Node) -> None:
        seen = [v in self.views for v in node.inputs]
        if not any(seen):
            return
        match node.op:
            case Reshape(shape):
                view = self.views[node.inputs[0]]
                self.views[node.outputs[0]] = WeightView(view.version, view.index.reshape(shape))
            case Transpose(perm):
                view = self.views[node.inputs[0]]
                self.views[node.outputs[0]] = WeightView(view.version, view.index.transpose(perm))
            case Update(_, clip) if self.is_update(node):
                key = self.key_of[node.inputs[0]]
                self._add_version(node.outputs[0], key)
                if clip is not None:
                    self.clipped[key] = max(clip, self.clipped.get(key, 0.0))
                self._other(node, node.inputs[1:])
            case Conv() | ConvTranspose() | MatMul():
                self._linear(node, [self.key(v) for v in node.inputs])
            case _:
                self._other(node, node.inputs)

    def is_update(self, node: Node) -> bool:
        """Whether a node gives a parameter's next version."""
        return isinstance(node.op, Update) and node.inputs[0] in self.key_of

    def _linear(self, node: Node, keys: Sequence[str | None]) -> None:
        """A product: one operand is the weight, the other is streamed; a constant may be either."""
        trained = [k in self.states for k in keys]
        if sum(trained) > 1:
            self._other(node, node.inputs)
            return
        choices = [1] if not isinstance(node.op, MatMul) else [k for k in (1, 0) if len(node.inputs[k].shape) == 2]
        held = [
            k
            for k in choices
            if keys[k] is not None
            and trained[k] == any(trained)
            and (not isinstance(node.op, MatMul) or _may_be_stored(self.views[node.inputs[k]].index))
        ]
        if held:
            self._use(node, held[0])
            self._other(node, (node.inputs[1 - held[0]],))
        else:
            self._other(node, node.inputs)

    def _use(self, node: Node, weight: int) -> None:
        self.uses[node] = WeightUse(node, weight, self.views[node.inputs[weight]])

    def _other(self, node: Node, values: Sequence[Value]) -> None:
        for value in values:
            key = self.key(value)
            if key is not None:
                self.others.setdefault(key, node)

    def uses_by_key(self) -> dict[str, list[WeightUse]]:
        """The uses of each weight, in the graph's order."""
        found: dict[str, list[WeightUse]] = {}
        for use in self.uses.values():
            found.setdefault(self.key_of[use.view.version], []).append(use)
        return found


def _may_be_stored(index: np.ndarray) -> bool:
    """Whether a matrix of a weight's entries has one stride for its rows and one for its columns, as cells need it."""
    if index.ndim != 2 or not index.size:
        return True
    rows, cols = index[:, :1], index[:1]
    rows_even, cols_even = (len(set(np.diff(line.reshape(-1)).tolist())) <= 1 for line in (rows, cols))
    return rows_even and cols_even and np.array_equal(index, rows + cols - index[0, 0])


StoredWeights = dict[str, tuple[StoredWeight, ...]]
"""The copies of every weight on crossbars."""


def layouts_of(
    surveys: Sequence[Survey], names: dict[str, str], *, both_ways: bool, copied: frozenset[str] = frozenset()
) -> StoredWeights:
    """The copies of every weight that goes to crossbars; `names` says what its groups are called.

    The first use in the order of the graphs is stored as it is read. A use that reads the same cells shares them, and
    so, where arrays are read `both_ways` and the weight is not among `copied`, does one that reads them transposed; any
    other one gets a copy of its own. A matrix that is more than a factor is left to the vector unit; a kernel is
    refused. UnsupportedError.
    """
    uses: dict[str, list[WeightUse]] = {}
    others: dict[str, Node] = {}
    clipped: set[str] = set()
    for survey in surveys:
        for key, found in survey.uses_by_key().items():
            uses.setdefault(key, []).extend(found)
        for key, node in survey.others.items():
            others.setdefault(key, node)
        clipped |= set(survey.clipped)
    layouts: StoredWeights = {}
    for key, found in uses.items():
        if key in others:
            continue
        _check_ops(found)
        # without the taps that only meet padding, unless clipping changes those too or more copies are needed
        choices = [
            copies
            for refined in ((False,) if key in clipped else (True, False))
            if (copies := _copies(key, names.get(key, key), found, refined, both_ways and key not in copied))
            is not None
        ]
        if choices:
            layouts[key] = min(choices, key=len)
    return layouts


def _check_ops(found: Sequence[WeightUse]) -> None:
    for use in found:
        op, x = use.node.op, use.x
        if isinstance(op, Conv | ConvTranspose) and len(op.strides) > MAX_SPATIAL:
            raise UnsupportedError(
                f"{op.name} over {len(op.strides)} spatial axes (at {where(use.node)}): address generators have "
                f"{MAX_SPATIAL}"
            )
        if x.tensor.dtype is not DType.F32:
            raise UnsupportedError(
                f"{op.name} of {x.tensor.dtype.name.lower()} (at {where(use.node)}): training works in float32; "
                "export the model in float32"
            )


def _copies(
    key: str, name: str, found: Sequence[WeightUse], refined: bool, both_ways: bool
) -> tuple[StoredWeight, ...] | None:
    """The copies that the uses of a weight need, in their order; None if one of them is no product."""
    copies: list[StoredWeight] = []
    for use in found:
        if any(read_as(use, layout) is not None for layout in copies):
            continue
        called = f"{name}.copy{len(copies)}" if copies else name
        product = use.direct(refined, called)
        if product is None:
            return None
        cells, start = product.of(use.view.index), sum(len(c.cells) for c in copies)
        copies.append(
            StoredWeight(key, called, product, cells, refined, both_ways, start, use.view.version.tensor.size)
        )
    return tuple(copies)


def read_as(use: WeightUse, layout: StoredWeight) -> tuple[Product, bool] | None:
    """(the product, whether it is read transposed) by which a use reads a stored weight; None if it cannot."""
    ways = ((False, use.direct), (True, use.adjoint)) if layout.both_ways else ((False, use.direct),)
    for transposed, make in ways:
        product = make(layout.refined, layout.name)
        if product is not None and equal(product.of(use.view.index), layout.cells):
            return product, transposed
    return None
