"""lower-moves: shape ops become views (no data moves) or copies by address generators."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import ClassVar

import numpy as np

from mgc.ir import ops
from mgc.ir.graph import Constant, Graph, Node, Value
from mgc.ir.mapped import Copy, Mvm, Piece, View
from mgc.ir.module import Entry
from mgc.passes.lowering.hoist_quant import hoist_quant
from mgc.passes.lowering.pieces import indexed_pieces, piece, runs
from mgc.passes.lowering.strided import Strided, dense_strides
from mgc.passes.manager import Pass
from mgc.passes.state import CompileState, with_graph

MAX_PIECES = 32
"""Pieces a copy may have to stand in for a gather: past that, one gather step an axis is the smaller program."""


@dataclass(frozen=True)
class LowerMoves(Pass):
    """Reshape becomes `View`; Transpose, Slice, Expand, Concat, Pad and Gather at constant indices become `Copy`.

    Chains of them are composed into one copy; a copy that moves nothing becomes a `View`, and one of a constant is done
    now. Padding that would need many pieces becomes Gather steps. Results are equal bit for bit. Before that, `Quant`
    (and element-wise work that feeds only it) moves ahead of data movement: codes are smaller than reals.
    """

    name: ClassVar[str] = "lower-moves"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        return with_graph(entry, lower_moves(entry.graph.copy()))


def lower_moves(graph: Graph) -> Graph:
    """Lowers `graph` in place and returns it; see `LowerMoves`."""
    hoist_quant(graph)
    _Lowering(graph).run()
    graph.prune()
    return graph


@dataclass
class _Lowering:
    """The walk: `views` holds values that are so far only a way of looking at another one, with their sources."""

    graph: Graph
    nodes: list[Node] = field(default_factory=list)
    views: dict[Value, tuple[Strided, tuple[str, ...]]] = field(default_factory=dict)
    same: dict[Value, Value] = field(default_factory=dict)

    def run(self) -> None:
        held = {source for node in self.graph.nodes for source in node.sources}
        for node in self.graph.nodes:
            self._node(node)
        self.graph.outputs = [(name, self.dense(v)) for name, v in self.graph.outputs]
        self.graph.nodes = self.nodes
        left = {source for node in self.nodes for source in node.sources}
        for source in sorted(held - left):
            self.graph.absorbed.setdefault(source, "moves nothing")

    def _node(self, node: Node) -> None:
        match node.op:
            case ops.Reshape(shape):
                source, names = self.strided(node.inputs[0])
                view = source.reshape(shape)
                if view is None:
                    view = Strided.whole(self.dense(node.inputs[0])).reshape(shape)
                    names = ()
                assert view is not None  # a dense value has every shape of its size
                self.views[node.outputs[0]] = view, names + node.sources
            case ops.Transpose(perm):
                self._look(node, self.strided(node.inputs[0])[0].transpose(perm))
            case ops.Slice(starts, stops, steps):
                self._look(node, self.strided(node.inputs[0])[0].slice(starts, stops, steps))
            case ops.Expand(shape):
                self._look(node, self.strided(node.inputs[0])[0].expand(shape))
            case ops.Concat(axis):
                self._concat(node, axis)
            case ops.Pad():
                self._pad(node, node.op)
            case ops.Gather(axis) if self.graph.data(node.inputs[1]) is not None:
                self._gather(node, axis)
            case Mvm(parts=()):
                result = node.outputs[0]
                self._fold(result, np.zeros(result.shape, result.tensor.dtype.numpy))
            case _:
                self._keep(node)

    # -- values ----------------------------------------------------------------------------------------------------

    def strided(self, value: Value) -> tuple[Strided, tuple[str, ...]]:
        """How to look at a value, and the ONNX nodes that made it look so."""
        if value in self.views:
            return self.views[value]
        return Strided.whole(self.same.get(value, value)), ()

    def dense(self, value: Value) -> Value:
        """A value whose elements lie densely in memory, copied there if need be."""
        if value in self.same:
            return self.same[value]
        if value not in self.views:
            return value
        view, sources = self.views.pop(value)
        root = view.root
        if view.is_whole and root.shape == value.shape:
            self.same[value] = root
            return root
        data = self.graph.data(root)
        op = View(value.shape) if view.is_whole else Copy(_pieces(view), value.tensor)
        if data is not None:
            self._fold(value, op.evaluate(data)[0])
        else:
            self.nodes.append(Node(op, (root,), (value,), tuple(dict.fromkeys(sources))))
        return value

    def _fold(self, value: Value, data: np.ndarray) -> None:
        self.graph.constants[value] = Constant(value, data)

    # -- ops -------------------------------------------------------------------------------------------------------

    def _look(self, node: Node, view: Strided) -> None:
        self.views[node.outputs[0]] = view, self.strided(node.inputs[0])[1] + node.sources

    def _keep(self, node: Node) -> None:
        self.nodes.append(Node(node.op, tuple(map(self.dense, node.inputs)), node.outputs, node.sources))

    def _copy(
        self,
        node: Node,
        pieces: list[tuple[Strided, list[Piece]]],
        sources: tuple[str, ...],
        first: Value | None = None,
    ) -> None:
        """Emits a copy; pieces come grouped by the view they read, their operand numbers are set here: `first` is 0."""
        roots = ([] if first is None else [first]) + [view.root for view, _ in pieces]
        operands = {value: k for k, value in enumerate(dict.fromkeys(roots))}
        done = tuple(replace(p, operand=operands[view.root]) for view, group in pieces for p in group)
        result = node.outputs[0]
        op = Copy(done, result.tensor)
        data = [self.graph.data(v) for v in operands]
        known = [d for d in data if d is not None]
        if len(known) == len(data):
            self._fold(result, op.evaluate(*known)[0])
        else:
            names = tuple(dict.fromkeys(sources + node.sources))
            self.nodes.append(Node(op, tuple(operands), (result,), names))

    def _concat(self, node: Node, axis: int) -> None:
        result = node.outputs[0]
        strides = dense_strides(result.shape)
        pieces: list[tuple[Strided, list[Piece]]] = []
        sources: tuple[str, ...] = ()
        at = 0
        for value in node.inputs:
            view, names = self.strided(value)
            sources += names
            if prod(view.shape):
                pieces.append((view, [piece(0, view, at * strides[axis], strides)]))
            at += value.shape[axis]
        if len(pieces) == 1:
            self.views[result] = pieces[0][0], sources + node.sources
        else:
            self._copy(node, pieces, sources)

    def _pad(self, node: Node, op: ops.Pad) -> None:
        (x,), result = node.inputs, node.outputs[0]
        rank = len(x.shape)
        begins, ends = op.pads[:rank], op.pads[rank:]
        view, sources = self.strided(x)
        strides = dense_strides(result.shape)
        if not any(op.pads):
            self._look(node, view)
            return
        if op.mode == "constant":
            base = sum(b * s for b, s in zip(begins, strides, strict=True))
            pieces = [(view, [piece(0, view, base, strides)] if prod(view.shape) else [])]
            value = np.array([op.value]).astype(x.tensor.dtype.numpy)
            if value.view(np.uint8).any():  # a copy leaves zeros (+0) where no piece writes
                fill = Strided.whole(self.graph.add_constant(value, "fill")).expand([1] * rank).expand(result.shape)
                pieces.insert(0, (fill, [piece(0, fill, 0, strides)]))
            # the operand that holds data comes first: a copy's kind of contents is that of operand 0
            self._copy(node, pieces, sources, first=view.root)
            return
        index = [_padded_index(n, b, e, op.mode) for n, b, e in zip(x.shape, begins, ends, strict=True)]
        axes = [runs(i) for i in index]
        if prod(map(len, axes)) <= MAX_PIECES:
            self._copy(node, [(view, list(indexed_pieces(0, view, axes, 0, strides)))], sources)
            return
        value = self.dense(x)
        padded = [axis for axis in range(rank) if begins[axis] or ends[axis]]
        for axis in padded:
            indices = self.graph.add_constant(index[axis].astype(np.int64), "indices")
            gather = ops.Gather(axis)
            (type_,) = gather.infer(value.type, indices.type)
            last = axis == padded[-1]
            out = result if last else Value(self.graph.fresh_name(result.name), type_)
            self.nodes.append(Node(gather, (value, indices), (out,), node.sources))
            value = out

    def _gather(self, node: Node, axis: int) -> None:
        x, indices = node.inputs
        result = node.outputs[0]
        data = self.graph.data(indices)
        assert data is not None
        size = x.shape[axis]
        index = np.where(data < 0, data.astype(np.int64) + size, data.astype(np.int64))
        inside = bool(((index >= 0) & (index < size)).all())  # else it is an error, which the gather itself reports
        pattern = runs(index.reshape(-1)) if inside else []
        if not inside or len(pattern) > MAX_PIECES:
            self._keep(node)
            return
        view, sources = self.strided(x)
        if len(pattern) == 1 and len(pattern[0].extents) == 1 and index.ndim <= 1:
            run = pattern[0]
            base = view.base + run.first * view.strides[axis]
            shape, strides = list(view.shape), list(view.strides)
            shape[axis : axis + 1] = index.shape
            strides[axis : axis + 1] = [run.steps[0] * view.strides[axis]] * index.ndim
            self._look(node, Strided(view.root, base, tuple(shape), tuple(strides)))
            return
        every = [runs(np.arange(n)) for n in view.shape]
        every[axis] = pattern
        flat = (*result.shape[:axis], index.size, *result.shape[axis + index.ndim :])
        self._copy(node, [(view, list(indexed_pieces(0, view, every, 0, dense_strides(flat))))], sources)


def _padded_index(size: int, begin: int, end: int, mode: str) -> np.ndarray:
    return np.pad(np.arange(size), (begin, end), mode)  # type: ignore[call-overload]


def _pieces(view: Strided) -> tuple[Piece, ...]:
    return (piece(0, view, 0, dense_strides(view.shape)),) if prod(view.shape) else ()
