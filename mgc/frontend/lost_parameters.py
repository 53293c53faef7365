"""What the exporters' constant folding left of parameters: copies that are tied to them, and constants that are not.

Where a parameter is not read as it is (`w.t()`, `gain.view(1, -1, 1, 1)`, `log_scale.exp()`), both exporters may
compute that when they export, and store the result under a name that they make up. The parameter itself is gone, or has
become independent of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import numpy as np
from onnx import GraphProto, TensorProto
from onnx.helper import make_node

from mgc.frontend.load import to_array
from mgc.frontend.modules import Modules, is_noted, traced_arguments

MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)+", re.ASCII)
"""Names that PyTorch's modules give."""
KEEP_DYNAMO = "torch.onnx.export(..., dynamo=True, optimize=False)"
KEEP_TORCHSCRIPT = (
    "torch.onnx.export(model.train(), ..., dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, "
    "do_constant_folding=False)"
)
"""How to export so that nothing is folded, by exporter."""

_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_MADE = re.compile(r"(scalar_tensor|full|ones|zeros|arange|eye|linspace|lift_fresh|_tensor_constant)")
"""Calls that make a tensor from numbers alone, by the beginnings of their results' names."""
_PARAMETER = re.compile(r"^\w+: PARAMETER target='([^']+)'", re.M)


def tie_transposed(graph: GraphProto, tensors: dict[str, TensorProto]) -> None:
    """A matrix under a made-up name that is the transpose of a parameter becomes just that, in place: a Transpose."""
    named = {n: t for n, t in tensors.items() if MODULE_NAME.fullmatch(n) and len(t.dims) == 2}
    for name, tensor in list(tensors.items()):
        if name in named or len(tensor.dims) != 2 or tensor.data_location == TensorProto.EXTERNAL:
            continue
        dims = list(tensor.dims)[::-1]
        fitting = [n for n, t in named.items() if list(t.dims) == dims and t.data_type == tensor.data_type]
        array = to_array(tensor)
        if not fitting or np.array_equal(array, array.T) or bool((array == array.reshape(-1)[:1]).all()):
            continue  # nothing tells a copy from a layer that was filled alike
        original = next((n for n in fitting if np.array_equal(to_array(tensors[n]), array.T)), None)
        if original is None:
            continue
        graph.node.insert(0, make_node("Transpose", [original], [name], name=f"{name}/Transpose", perm=[1, 0]))
        graph.initializer.remove(tensor)
        del tensors[name]


def lost_parameters(
    graph: GraphProto,
    tensors: Mapping[str, TensorProto],
    trained: Mapping[str, str],
    folded_norms: Collection[str],
    modules: Modules,
) -> list[str]:
    """Warnings about parameters that are in the file as constants at most.

    By the dynamo exporter's list of parameters where the file still has it; else what a module's node reads under a
    made-up name. `trained`: initializers and the names of the parameters that they are. `folded_norms`: modules whose
    parameters are spoken of elsewhere.
    """
    signature = next((p.value for p in graph.metadata_props if p.key == _SIGNATURE), None)
    if signature is not None:
        held = set(trained.values())
        lost = [n for n in _PARAMETER.findall(signature) if n not in held and n.rpartition(".")[0] not in folded_norms]
        if not lost:
            return []
        verb = "is in the file as a constant" if len(lost) == 1 else "are in the file as constants"
        return [f"{', '.join(lost)} {verb} at most, so not trained; to keep all, export with {KEEP_DYNAMO}"]
    found: dict[str, str] = {}
    for node in graph.node:
        where = modules.of(node)
        for name in node.input:
            if not where or name not in tensors or name in trained or MODULE_NAME.fullmatch(name):
                continue
            noted = is_noted(node)
            named = f"%{name}" in traced_arguments(node) and not _MADE.match(name)
            if named if noted else name.startswith("onnx::"):
                found.setdefault(name, f"{name} (in {where})")
    if not found:
        return []
    keep = KEEP_TORCHSCRIPT if any(n.startswith("onnx::") for n in found) else KEEP_DYNAMO
    return [
        f"computed by the exporter, so not trained, whatever parameters are in it: {', '.join(found.values())}; "
        f"to keep them, export with {keep}"
    ]
