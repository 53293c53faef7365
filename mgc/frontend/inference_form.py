"""A model as it is tested: no dropout, batch normalisation by its running statistics."""

from __future__ import annotations

from onnx import GraphProto, ModelProto

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
    _drop_unread(copy.graph)
    return copy


def _drop_unread(graph: GraphProto) -> None:
    """Removes nodes and initializers that nothing reads any more."""
    before = -1
    while before != len(graph.node):
        before = len(graph.node)
        read = {n for node in graph.node for n in names_read(node)} | {o.name for o in graph.output}
        keep(graph.node, lambda node, read=read: any(n in read for n in node.output))
    read = {n for node in graph.node for n in names_read(node)} | {o.name for o in graph.output}
    keep(graph.initializer, lambda tensor: tensor.name in read)
