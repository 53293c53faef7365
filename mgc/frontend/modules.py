"""Which PyTorch module, and which of its parameters, a node of an exported model works with.

The dynamo exporter notes on every node the scopes it was traced in and the traced call, whose arguments %p_NAME are
parameters and %b_NAME buffers (dots written as underscores). The TorchScript exporter names nodes after their scopes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from onnx import NodeProto

# the parameter that an operand of a node is, by op type and position
ROLES: dict[str, dict[int, str]] = {
    "Conv": {1: "weight", 2: "bias"},
    "ConvTranspose": {1: "weight", 2: "bias"},
    "Gemm": {1: "weight", 2: "bias"},
    "MatMul": {1: "weight"},
    "BatchNormalization": {1: "weight", 2: "bias", 3: "running_mean", 4: "running_var"},
    "InstanceNormalization": {1: "weight", 2: "bias"},
    "LayerNormalization": {1: "weight", 2: "bias"},
    "GroupNormalization": {1: "weight", 2: "bias"},
    "PRelu": {1: "weight"},
}
_SCOPES = "pkg.torch.onnx.name_scopes"
_CALL = "pkg.torch.onnx.fx_node"
_RULE = "pkg.onnxscript.rewriter.rule_name"
_ARGUMENT = re.compile(r"%([pb])_(\w+)", re.ASCII)


def role_of(node: NodeProto, index: int) -> str:
    """weight, bias, running_mean or running_var: what operand `index` is to the node; "" if that is not known."""
    return ROLES.get(node.op_type, {}).get(index, "")


def note(node: NodeProto, key: str) -> str:
    """One of the exporter's notes on a node; "" if it is not there."""
    return next((p.value for p in node.metadata_props if p.key == key), "")


def is_noted(node: NodeProto) -> bool:
    """Whether the dynamo exporter's note of the traced call is there."""
    return bool(note(node, _CALL))


def folded_norm(node: NodeProto) -> bool:
    """Whether the exporter folded a batch normalisation into this node.

    By its note; without notes by the name of the result, which is then that of the normalisation's.
    """
    if is_noted(node):
        return note(node, _RULE).startswith("FuseBatchNorm")
    weighted = node.op_type in ("Conv", "ConvTranspose", "Gemm")
    return weighted and re.fullmatch(r"getitem(_\d+)?", node.output[0]) is not None


class Modules:
    """Module paths of nodes. `names` are those of the initializers; with the paths that occur as they are, they tell
    paths from numbered calls.
    """

    def __init__(self, names: Iterable[str], nodes: Iterable[NodeProto] = ()) -> None:
        self.paths: set[str] = set()
        self.seen: set[str] = set()
        self.seen = {self._from_name(node.name) for node in nodes}
        for name in names:
            parent = name.rpartition(".")[0]
            while parent and parent not in self.paths:
                self.paths.add(parent)
                parent = parent.rpartition(".")[0]

    def of(self, node: NodeProto) -> str:
        """ "discriminator.main.3"; "" if it is not known, or the model itself."""
        scopes = note(node, _SCOPES)
        return _innermost(scopes) if scopes else self._from_name(node.name)

    def _from_name(self, name: str) -> str:
        """From names such as /discriminator/main/main.3_1/Conv, where _1 stands for the second call of a module."""
        if not name.startswith("/"):
            return ""
        path, before = "", ""
        for part in name.split("/")[1:-1]:
            # an entry of a Sequential is called after its parent: main, main.3
            if before and part.startswith(before + "."):
                path = path[: len(path) - len(before)] + part
            else:
                path = f"{path}.{part}" if path else part
            before = part
            plain = re.sub(r"_\d+$", "", path)
            if path not in self.paths and (plain in self.paths or plain in self.seen):
                path, before = plain, re.sub(r"_\d+$", "", part)
        return path

    def parameter(self, node: NodeProto, index: int) -> tuple[str, str] | None:
        """What the traced call says operand `index` is: ("p" or "b", qualified name), ("", "") for neither parameter
        nor buffer; None if it does not say.
        """
        if not is_noted(node):
            return None
        arguments = dict.fromkeys(_ARGUMENT.findall(note(node, _CALL)))
        role = role_of(node, index)
        if role:
            arguments = {a: None for a in arguments if a[1].endswith(f"_{role}") or a[1] == role} or arguments
        if len(arguments) > 1:
            return None
        for kind, flat in arguments:
            return kind, self._dotted(flat, self.of(node))
        return "", ""

    def _dotted(self, flat: str, module: str) -> str:
        """The qualified name whose dots were written as underscores, given the module that used it."""
        while module:
            prefix = module.replace(".", "_") + "_"
            if flat.startswith(prefix):
                return f"{module}.{flat[len(prefix) :]}"
            module = module.rpartition(".")[0]
        return flat


def _innermost(text: str) -> str:
    """The last module of a list of scopes, whose last entry is the operation."""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) >= 2 else ""
