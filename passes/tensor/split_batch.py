"""The split-batch pass: a network whose samples do not mix is compiled for one sample at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.module import Entry
from mgc.ir.op import IRError, register_attr
from mgc.ir.ops import Conv, ConvTranspose, MatMul
from mgc.ir.types import TensorType, ValueType
from mgc.passes.manager import Pass
from mgc.passes.state import CompileState, with_graph
from mgc.passes.tensor.modulation import scale_activations


@register_attr
@dataclass(frozen=True)
class Batching:
    """What batch an inference entry is for.

    batch: samples asked for. graph_batch: the size of the batch dimension in the graph as imported; `inputs` names the
    inputs whose axis 0 it is (none: the model has no dynamic batch). For a batch of 1 the graph is imported at 2, so
    that the batch can be told from other ones of size 1; `model` (ONNX, with the sizes `dims` of named dimensions) is
    then there to be imported at the batch asked for.
    """

    batch: int
    graph_batch: int
    inputs: tuple[str, ...] = ()
    model: bytes = b""
    dims: Mapping[str, int] = field(default_factory=dict)


def _one_sample(type_: ValueType, factor: int) -> ValueType:
    assert isinstance(type_, TensorType)
    return type_.with_shape((type_.shape[0] // factor, *type_.shape[1:]))


def _repeated(graph: Graph, value: Value, factor: int) -> np.ndarray | None:
    """The common part of a constant whose axis 0 is `factor` equal parts; None for anything else."""
    data = graph.data(value)
    if data is None or data.ndim == 0 or data.shape[0] == 0 or data.shape[0] % factor:
        return None
    parts = data.reshape(factor, -1)
    return data[: data.shape[0] // factor] if bool(np.all(parts == parts[0])) else None


def split(graph: Graph, batched_inputs: Sequence[str], factor: int) -> Graph | str:
    """The graph for one of `factor` equal parts of axis 0 of the batched inputs; or, if samples mix, a sentence that
    says why. Other inputs go whole to every part, and an output that depends on none of them is the same for all.

    Sound by each op's `split_batch`: running the result on every part and concatenating its outputs along axis 0
    equals running `graph` on the whole.
    """
    image: dict[Value, Value] = {}
    batched: set[Value] = set()
    new = Graph(graph.name, absorbed=dict(graph.absorbed))
    for value in graph.inputs:
        if value.name not in batched_inputs:
            image[value] = new.add_input(value.name, value.type)
            continue
        if not isinstance(value.type, TensorType) or not value.shape or value.shape[0] % factor:
            return f"input {value.name!r}: axis 0 of {value.type} does not divide by {factor}"
        image[value] = new.add_input(value.name, _one_sample(value.type, factor))
        batched.add(value)
    for value, constant in graph.constants.items():
        image[value] = new.add_constant(constant.data, value.name, group=constant.group, onnx_name=constant.onnx_name)
    for node in graph.nodes:
        operands = [image[v] for v in node.inputs]
        flags = [v in batched for v in node.inputs]
        where = node.sources[0] if node.sources else f"%{node.outputs[0].name}"
        op = node.op
        if any(flags):
            if not all(isinstance(v.type, TensorType) for v in (*node.inputs, *node.outputs)):
                return f"{where} ({op.name}) has an operand or result with no static shape"
            types = [v.tensor for v in node.inputs]
            part = op.split_batch(types, flags, factor)
            if part is None:
                # a learned constant that the model expands to the batch arrives here as `factor` equal copies
                for k, value in enumerate(node.inputs):
                    sample = _repeated(graph, value, factor)
                    if sample is not None:
                        operands[k], flags[k] = new.add_constant(sample, value.name), True
                part = op.split_batch(types, flags, factor)
            if part is None:
                return f"{where} ({op.name}) mixes samples"
            op = part
            batched.update(node.outputs)
        try:
            types = op.infer(*(v.type for v in operands))
        except IRError as error:
            return f"{where} ({op.name}) has no form for one sample: {error}"
        wanted = tuple(_one_sample(v.type, factor) if v in batched else v.type for v in node.outputs)
        if types != wanted:
            return f"{where} ({op.name}) does not keep samples on axis 0"
        for value, type_ in zip(node.outputs, types, strict=True):
            image[value] = Value(new.fresh_name(value.name), type_)
        new.nodes.append(Node(op, tuple(operands), tuple(image[v] for v in node.outputs), node.sources))
    for name, value in graph.outputs:
        new.outputs.append((name, image[value]))
    if graph.outputs and not any(value in batched for _, value in graph.outputs):
        return "no output depends on the batch"
    new.prune()
    return new


def _whole_ports(whole: Graph, part: Graph) -> frozenset[str]:
    """Inputs and outputs that are the same for every part: a part of them is all of them."""
    inputs = {v.name for v, one in zip(whole.inputs, part.inputs, strict=True) if v.type == one.type}
    outputs = {name for (name, v), (_, one) in zip(whole.outputs, part.outputs, strict=True) if v.type == one.type}
    return frozenset(inputs | outputs)


def _fit(graph: Graph, state: CompileState) -> bool:
    """Whether the crossbars have cells enough for all weights."""
    crossbar = state.chip.crossbar
    held = {v for n in graph.nodes if isinstance(n.op, Conv | ConvTranspose | MatMul) for v in n.inputs[1:2]}
    cells = sum(v.tensor.size for v in held if v in graph.constants) * crossbar.slices() * crossbar.signs
    return cells <= state.chip.structure.crossbars * crossbar.rows * crossbar.cols


@dataclass(frozen=True)
class SplitBatch(Pass):
    """Rewrites a graph whose samples do not mix to a micro-batch of one sample, to be run `batch` times; sets an
    entry's `micro_batch`, `micro_batches`, `batched` and `whole_ports`. The batch is axis 0 of the inputs that the
    importer names, or, in a model without a dynamic batch, axis 0 of all inputs if it has one size. An input or output
    without it (a style's strength, a learned constant) is the same for all samples. Where some op mixes samples, the
    graph is kept whole (imported again at the batch asked for if need be): one micro-batch, not batched. For a batch of
    1 the importer binds 2, because a 1 cannot be told from other ones. A static batch of 1 needs no proof, its samples
    cannot meet: it counts as batched if every output has a leading 1. Where weights are constants times computed
    numbers, which may make a group of channels of each sample, activations are scaled instead first: see
    `scale_activations`. Weights that the target has not crossbars enough for are written in turns, in every run: the
    batch is then kept whole, to share them.
    """

    name: ClassVar[str] = "split-batch"

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        batching: Batching | None = entry.attributes.get("batching")
        if batching is None:
            return entry
        graph, batch, factor = scale_activations(entry.graph), batching.batch, batching.graph_batch
        names: Sequence[str] = batching.inputs
        if not names:
            names = [v.name for v in graph.inputs]
            sizes = {v.shape[0] if isinstance(v.type, TensorType) and v.shape else 0 for v in graph.inputs}
            batch = factor = sizes.pop() if len(sizes) == 1 else 0
            if factor == 1 and all(isinstance(v.type, TensorType) and v.shape[:1] == (1,) for _, v in graph.outputs):
                return replace(with_graph(entry, graph, batching=None), micro_batch=1, micro_batches=1, batched=True)
        if factor > 1 and (batch == 1 or _fit(graph, state)):
            part = split(graph, names, factor)
            if isinstance(part, Graph):
                alike = _whole_ports(graph, part)
                done = with_graph(entry, part, batching=None, whole_ports=alike)
                return replace(done, micro_batch=1, micro_batches=batch, batched=True)
        if batching.graph_batch != batching.batch:
            graph = scale_activations(state.tools.reimport(batching.model, batching.batch, batching.dims))
        done = with_graph(entry, graph, batching=None)
        return replace(done, micro_batch=max(batching.batch, 1), micro_batches=1, batched=False)
