"""A model as it is tested: no dropout, batch normalisation by its running statistics."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnx.numpy_helper import to_array

from mgc.frontend.interpreter import RANDOM
from mgc.frontend.modules import Modules, of_dropout
from mgc.frontend.onnx_graph import keep, names_read


def to_inference_form(model: ModelProto) -> ModelProto:
    """A copy without the training mode of BatchNormalization and Dropout.

    Other outputs of these nodes than the first are dropped: nothing may read them.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type == "BatchNormalization":
            keep(node.attribute, lambda a: a.name != "training_mode")
            del node.output[1:]
        elif node.op_type == "Dropout":
            del node.input[1:]  # its ratio and training_mode
            del node.output[1:]
    _bypass_dropouts(copy.graph)
    _bypass_masks(copy.graph)
    _drop_unread(copy.graph)
    return copy


def _bypass_dropouts(graph: GraphProto) -> None:
    """Lets what reads a dropout that the exporter wrote out in simple ops read what goes into it."""
    modules = Modules([t.name for t in graph.initializer], graph.node)
    regions: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if of_dropout(node) and node.op_type != "Dropout":
            regions.setdefault(modules.of(node), []).append(node)
    known = {t.name for t in graph.initializer} | {o for n in graph.node if n.op_type == "Constant" for o in n.output}
    for nodes in regions.values():
        if not any(n.op_type in RANDOM for n in nodes):
            continue
        made = {o for n in nodes for o in n.output}
        given = dict.fromkeys(i for n in nodes if n.op_type in ("Mul", "Add", "Where") for i in n.input)
        entering = [i for i in given if i and i not in made and i not in known]
        read = {i for n in graph.node if n not in nodes for i in names_read(n)} | {o.name for o in graph.output}
        leaving = [o for o in made if o in read]
        if len(entering) != 1 or len(leaving) != 1:
            continue  # applied more than once under one name, or not to a single value
        last = next(n for n in nodes if leaving[0] in n.output)
        last.CopyFrom(NodeProto(op_type="Identity", name=last.name, input=entering, output=leaving))


def _bypass_masks(graph: GraphProto) -> None:
    """Lets what reads values times a mask of draws, over the probability of a one, read the values: so the exporter
    writes a dropout that a script calls as a function, and no module's name is noted.
    """
    made = {o: n for n in graph.node for o in n.output}
    held = {t.name: t for t in graph.initializer}

    def origin(name: str) -> str:
        """The value that one is but for casts."""
        while name in made and made[name].op_type in ("Cast", "CastLike", "Identity"):
            name = made[name].input[0]
        return name

    def maker(name: str, *op_types: str) -> NodeProto | None:
        node = made.get(origin(name))
        return node if node is not None and node.op_type in op_types else None

    def number(name: str) -> np.float32 | None:
        name = origin(name)
        found = [held[name]] if name in held else []
        for a in made[name].attribute if name in made else ():
            found += {"value": [a.t], "value_float": [a.f]}.get(a.name, [])
        values = [to_array(v) if isinstance(v, TensorProto) else np.array(v) for v in found]
        return np.float32(values[0].item()) if len(values) == 1 and values[0].size == 1 else None

    def is_mask(name: str) -> bool:
        scaled = maker(name, "Div")
        ones = maker(scaled.input[0], "Less") if scaled is not None else None
        if scaled is None or ones is None or maker(ones.input[0], "RandomUniform", "RandomUniformLike") is None:
            return False
        share = number(ones.input[1])
        return share is not None and share == number(scaled.input[1])

    for node in [n for n in graph.node if n.op_type == "Mul"]:
        masks = [k for k in (0, 1) if is_mask(node.input[k])]
        if len(masks) == 1:
            kept = node.input[1 - masks[0]]
            node.CopyFrom(NodeProto(op_type="Identity", name=node.name, input=[kept], output=node.output))


def _drop_unread(graph: GraphProto) -> None:
    """Removes nodes and initializers that nothing reads any more."""
    before = -1
    while before != len(graph.node):
        before = len(graph.node)
        read = {n for node in graph.node for n in names_read(node)} | {o.name for o in graph.output}
        keep(graph.node, lambda node, read=read: any(n in read for n in node.output))
    read = {n for node in graph.node for n in names_read(node)} | {o.name for o in graph.output}
    keep(graph.initializer, lambda tensor: tensor.name in read)
