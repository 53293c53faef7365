"""lower-training: the linear work of a training step as products on crossbar groups, level 1 -> level 2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Copy, MvmPart, MvmT, Outer, Piece, UpdateCells
from mgc.ir.op import Op
from mgc.ir.ops import (
    Binary,
    Cast,
    Conv,
    ConvTranspose,
    ConvWeightGrad,
    Gather,
    MatMul,
    Reshape,
    Transpose,
    Unary,
    Update,
)
from mgc.ir.training import NEXT, State
from mgc.ir.types import DType, TensorType, tensor_type_of
from mgc.passes.lowering.strided import dense_strides, merge_axes
from mgc.passes.lowering.trained.gradients import (
    kernel_gradients,
    matrix_gradients,
)
from mgc.passes.lowering.trained.products import Cells, Product, boxed, equal, numbered
from mgc.passes.lowering.trained.weights import StoredWeight, StoredWeights, Survey, WeightUse, read_as, where
from mgc.passes.manager import UnsupportedError
from mgc.passes.mapping.residents import Residents

Parts = tuple[Value, ...]


def lower_graph(
    survey: Survey, states: Sequence[State], residents: Residents, layouts: StoredWeights, weight_bits: int
) -> Graph:
    """One graph of the step over residents: inputs are its data, then all residents; a state's new value is given by
    "NAME.next" of its residents. All values are real, the sums are those of the level-1 ops up to rounding.
    """
    return _Lowering(survey, states, residents, layouts, weight_bits).run()


@dataclass
class _Lowering:
    survey: Survey
    states: Sequence[State]
    residents: Residents
    layouts: StoredWeights
    weight_bits: int
    image: dict[Value, Value] = field(default_factory=dict)
    cells: dict[Value, Parts] = field(default_factory=dict)
    moments: dict[Value, Parts] = field(default_factory=dict)
    outers: dict[tuple[Value, Value, Outer], Parts] = field(default_factory=dict)

    def run(self) -> Graph:
        self.old = self.survey.graph
        self.producers = self.old.producers()
        self.new = Graph(self.old.name, absorbed=dict(self.old.absorbed))
        self._inputs()
        for value, constant in self.old.constants.items():
            key = self.survey.key_of.get(value)
            if key in self.layouts:
                self.cells[value] = self._residents_of(key)
            else:
                new = self.new.add_constant(constant.data, value.name, onnx_name=constant.onnx_name)
                self.image[value] = new
        for node in self.old.nodes:
            self._node(node)
        self._outputs()
        self.new.prune()
        return self.new

    # -- inputs and outputs ----------------------------------------------------------------------------------------

    def _inputs(self) -> None:
        states = {s.name: s for s in self.states}
        data = [v for v in self.old.inputs if v.name not in states]
        for value in data:
            self.image[value] = self.new.add_input(value.name, value.type)
        self.resident = {r.name: self.new.add_input(r.name, tensor_type_of(r.initial)) for r in self.residents.all}
        for value in self.old.inputs:
            if value.name not in states:
                continue
            state = states[value.name]
            owner = state.of or state.name
            if owner in self.layouts:
                parts = self._residents_of(value.name)
                (self.moments if state.kind == "moment" else self.cells)[value] = parts
            else:
                self.image[value] = self.resident[value.name]

    def _residents_of(self, key: str) -> Parts:
        return tuple(self.resident[name] for name in self.residents.weights[key])

    def _outputs(self) -> None:
        states = {s.next: s for s in self.states}
        for name, value in self.old.outputs:
            if name not in states:
                self.new.outputs.append((name, self.image[value]))
                continue
            state = states[name]
            parts = self.cells.get(value, self.moments.get(value))
            if parts is None:
                parts = (self.image[value],)
            names = self.residents.weights.get(state.name, (state.name,))
            self.new.outputs += [(n + NEXT, v) for n, v in zip(names, parts, strict=True)]

    # -- nodes -----------------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        use = self.survey.uses.get(node)
        key = None if use is None else self.survey.key_of[use.view.version]
        if use is not None and key in self.layouts:
            self.image[node.outputs[0]] = self._used(node, use, self.layouts[key])
            return
        if any(self.survey.key(v) in self.layouts for v in node.inputs) and isinstance(node.op, Reshape | Transpose):
            return  # a view of weights on crossbars
        match node.op:
            case Update() if node.inputs[0] in self.cells:
                self._update(node, node.op)
            case ConvWeightGrad():
                self._kernel_gradient(node, node.op)
            case Binary("add") if self._is_count(node):
                self._count(node)
            case Conv() | ConvTranspose():
                raise UnsupportedError(
                    f"the kernel of {node.op.name} (at {where(node)}) is computed from other values: crossbars hold "
                    "the weights themselves, times one number for each channel at most (docs/training.md, exporters)"
                )
            case Update(rule) if rule.counts:
                inputs = [self.image[v] for v in node.inputs]
                self._add(node, *inputs)
            case _:
                self._add(node, *(self._as_in(v) for v in node.inputs))

    def _add(self, node: Node, *inputs: Value) -> None:
        names = [v.name for v in node.outputs]
        new = self.new.add_multi(node.op, *inputs, names=names, sources=node.sources)
        self.image.update(zip(node.outputs, new, strict=True))

    def _emit(self, node: Node, op: Op, *inputs: Value, name: str = "") -> Value:
        return self.new.add(op, *inputs, name=name, sources=node.sources)

    def _reshaped(self, node: Node, value: Value, shape: tuple[int, ...], name: str = "") -> Value:
        return value if value.shape == shape else self._emit(node, Reshape(shape), value, name=name)

    def _as_in(self, value: Value) -> Value:
        """The image of a value, of the type that it has at level 1 (counters are integers on the chip)."""
        image = self.image[value]
        if image.type != value.type and image.tensor.dtype is DType.I64:
            image = self.new.add(Cast(value.tensor.dtype), image)
        return image

    # -- counters --------------------------------------------------------------------------------------------------

    def _is_count(self, node: Node) -> bool:
        counters = {s.name for s in self.states if s.kind == "counter"}
        by = self.old.data(node.inputs[1])
        return node.inputs[0].name in counters and node.inputs[0] in self.old.inputs and by is not None and by == 1

    def _count(self, node: Node) -> None:
        one = self.new.add_constant(np.ones((), np.int64), "one")
        self.image[node.outputs[0]] = self._emit(
            node, node.op, self.image[node.inputs[0]], one, name=node.outputs[0].name
        )

    # -- products --------------------------------------------------------------------------------------------------

    def _used(self, node: Node, use: WeightUse, copies: tuple[StoredWeight, ...]) -> Value:
        """A product by a weight: on the first copy that it can read."""
        for stored in copies:
            read = read_as(use, stored)
            if read is not None:
                product, transposed = read
                weights = self.cells[use.view.version][stored.start : stored.start + len(stored.cells)]
                return self._product(node, stored, product, transposed, self.image[use.x], weights)
        raise UnsupportedError(f"{node.op.name} (at {where(node)}): it does not read {copies[0].name} as stored")

    def _product(
        self, node: Node, stored: StoredWeight, product: Product, transposed: bool, x: Value, weights: Parts
    ) -> Value:
        y = node.outputs[0]
        if not product.parts:  # every tap meets padding only
            return self.new.add_constant(np.zeros(y.shape, y.tensor.dtype.numpy), y.name)
        parts = _named(product.op.parts, stored)
        if not transposed:
            x = self._reshaped(node, x, product.operand)
            made = self._emit(node, replace(product.op, parts=parts), x, *weights, name=y.name)
        else:
            of = product.op
            x = self._reshaped(node, x, of.out_shape)
            op = MvmT(parts, of.result, of.source, product.operand, of.macs_useful)
            made = self._emit(node, op, x, *weights, name=y.name)
        return self._reshaped(node, made, y.shape, y.name)

    # -- gradients -------------------------------------------------------------------------------------------------

    def _kernel_gradient(self, node: Node, op: ConvWeightGrad) -> None:
        """A kernel's gradient in the model's shape, put together from that of each part of the convolution."""
        found = kernel_gradients(op, node, self.survey, refined=True)[0]
        parts = self._outer(node, found.outer, self.image[found.x], self.image[found.dy])
        y = node.outputs[0]
        self.image[y] = self._joined(node, parts, found.outer.parts, found.cells, y.tensor, y.name)

    def _joined(
        self, node: Node, values: Parts, parts: Sequence[MvmPart], cells: Cells, type_: TensorType, name: str
    ) -> Value:
        """A gradient in the model's shape from those of parts; entries that no part has are zero."""
        pieces: list[Piece] = []
        for k, (part, each) in enumerate(zip(parts, cells, strict=True)):
            extents, base, strides = boxed(each, part)
            merged, (src, dst) = merge_axes(extents, dense_strides(extents), strides)
            pieces.append(Piece(k, tuple(merged) or (1,), 0, tuple(src) or (0,), base, tuple(dst) or (0,)))
        if not pieces:
            return self.new.add_constant(np.zeros(type_.shape, type_.dtype.numpy), name)
        return self._emit(node, Copy(tuple(pieces), type_), *values, name=name)

    def _outer(self, node: Node, op: Outer, x: Value, dy: Value) -> Parts:
        key = (x, dy, op)
        if key not in self.outers:
            self.outers[key] = self.new.add_multi(op, x, dy, sources=node.sources)
        return self.outers[key]

    def _in_layout(self, value: Value, cells: Cells, stored: StoredWeight) -> Parts:
        """A gradient in the layout of a weight's groups: entry `cells` of the value in each cell."""
        node = self.producers.get(value)
        if node is not None:
            found = self._pushed(node, cells, stored)
            if found is not None:
                return found
        return self._cut(self.image[value], cells, stored)

    def _cut(self, dense: Value, cells: Cells, stored: StoredWeight) -> Parts:
        """A dense gradient cut into the layout of a weight's groups."""
        results: list[Value] = []
        for part, each in zip(stored.product.parts, cells, strict=True):
            try:
                extents, base, strides = boxed(each, part)
            except ValueError:
                flat = self.new.add_constant(each.reshape(-1), f"{part.name}.order")
                picked = self.new.add(Gather(0), self.new.add(Reshape((dense.tensor.size,)), dense), flat)
                results.append(self.new.add(Reshape(each.shape), picked))
                continue
            merged, (src, dst) = merge_axes(extents, strides, dense_strides(extents))
            piece = Piece(0, tuple(merged) or (1,), base, tuple(src) or (0,), 0, tuple(dst) or (0,))
            type_ = TensorType(dense.tensor.dtype, each.shape)
            results.append(self.new.add(Copy((piece,), type_), dense, name=f"{part.name}.gradient"))
        return tuple(results)

    def _pushed(self, node: Node, cells: Cells, stored: StoredWeight) -> Parts | None:
        match node.op:
            case Reshape():
                return self._in_layout(node.inputs[0], cells, stored)
            case Transpose(perm):
                index = numbered(node.inputs[0].shape).transpose(perm).reshape(-1)
                return self._in_layout(node.inputs[0], tuple(index[c] for c in cells), stored)
            case Unary():
                return self._element_wise(node, cells, stored)
            case Binary() if any(v.shape == node.outputs[0].shape for v in node.inputs):
                whole = [v.shape == node.outputs[0].shape or v.tensor.size == 1 for v in node.inputs]
                return self._element_wise(node, cells, stored) if all(whole) else None
            case ConvWeightGrad() | MatMul():
                ways = (
                    kernel_gradients(node.op, node, self.survey, refined=stored.refined)
                    if isinstance(node.op, ConvWeightGrad)
                    else matrix_gradients(node, self.producers, self.image)
                )
                for found in ways:
                    if equal(found.cells, cells):
                        outer = replace(found.outer, parts=_named(found.outer.parts, stored))
                        return self._outer(node, outer, self.image[found.x], self.image[found.dy])
        return None

    def _element_wise(self, node: Node, cells: Cells, stored: StoredWeight) -> Parts:
        operands: list[Callable[[int], Value]] = []
        for value in node.inputs:
            if value.shape == node.outputs[0].shape:
                parts = self._in_layout(value, cells, stored)
                operands.append(parts.__getitem__)
            else:
                scalar = self._reshaped(node, self.image[value], ())
                operands.append(lambda k, scalar=scalar: scalar)
        return tuple(self._emit(node, node.op, *(o(k) for o in operands)) for k in range(len(cells)))

    # -- updates ---------------------------------------------------------------------------------------------------

    def _gradients(self, node: Node, g: Value, copies: tuple[StoredWeight, ...]) -> Parts:
        """A weight's gradient for the groups of all its copies: computed once, so that the copies stay equal."""
        first, *others = copies
        if not others:
            return self._in_layout(g, first.cells, first)
        if first.whole:
            parts = self._in_layout(g, first.cells, first)
            dense = self._joined(node, parts, first.product.parts, first.cells, g.tensor, g.name)
        else:
            dense = self.image[g]
            parts = self._cut(dense, first.cells, first)
        return (*parts, *(v for stored in others for v in self._cut(dense, stored.cells, stored)))

    def _update(self, node: Node, op: Update) -> None:
        """The update of a weight on crossbars: one of each of its groups."""
        w, g, *rest = node.inputs
        copies = self.layouts[self.survey.key_of[w]]
        gradient = self._gradients(node, g, copies)
        count = len(op.rule.moments)
        moments = [self.moments[m] for m in rest[:count]]
        step = [self.image[t] for t in rest[count:]]
        homes = [self.residents.by_name[name] for name in self.residents.weights[copies[0].key]]
        made: list[tuple[Value, ...]] = []
        for k, home in enumerate(homes):
            cells = UpdateCells(op.rule, home.weight_scale, self.weight_bits, op.clip)
            operands = (self.cells[w][k], gradient[k], *(m[k] for m in moments), *step)
            names = (f"{home.name}.new", *(f"{home.name}.{m}.new" for m in op.rule.moments))
            made.append(self.new.add_multi(cells, *operands, names=names, sources=node.sources))
        self.cells[node.outputs[0]] = tuple(results[0] for results in made)
        for k, value in enumerate(node.outputs[1:], 1):
            self.moments[value] = tuple(results[k] for results in made)


def _named(parts: Sequence[MvmPart], stored: StoredWeight) -> tuple[MvmPart, ...]:
    """Parts under the names of the stored groups."""
    return tuple(replace(p, name=s.name) for p, s in zip(parts, stored.product.parts, strict=True))
