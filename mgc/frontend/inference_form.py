"""A model as it is tested: no dropout, batch normalisation by its running statistics."""

from __future__ import annotations

from onnx import ModelProto, NodeProto


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
            _drop_attribute(node, "training_mode")
            del node.output[1:]
        elif node.op_type == "Dropout":
            del node.input[1:]  # its ratio and training_mode
            del node.output[1:]
    _drop_unread(copy)
    return copy


def _drop_attribute(node: NodeProto, name: str) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


def _drop_unread(model: ModelProto) -> None:
    """Removes nodes and initializers that nothing reads any more."""
    from mgc.frontend.networks import node_inputs

    graph = model.graph
    while True:
        read = {n for node in graph.node for n in node_inputs(node)} | {o.name for o in graph.output}
        kept = [node for node in graph.node if any(n in read for n in node.output)]
        if len(kept) == len(graph.node):
            break
        nodes = [NodeProto.FromString(node.SerializeToString()) for node in kept]
        del graph.node[:]
        graph.node.extend(nodes)
    tensors = [t for t in graph.initializer if t.name in read]
    if len(tensors) < len(graph.initializer):
        kept_tensors = [type(t).FromString(t.SerializeToString()) for t in tensors]
        del graph.initializer[:]
        graph.initializer.extend(kept_tensors)
