"""Which PyTorch module, and which of its parameters, a node of an exported model works with.

The dynamo exporter notes on every node the scopes it was traced in and the traced call, whose arguments %p_NAME are
parameters and %b_NAME buffers (dots written as underscores). The TorchScript exporter names nodes after their scopes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass

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
# where a traced call of aten has the same parameters among its arguments, by the beginning of its name
ARGUMENTS: dict[str, dict[str, int]] = {
    "linear": {"weight": 1, "bias": 2},
    "conv": {"weight": 1, "bias": 2},
    "addmm": {"bias": 0, "weight": 2},
    "batch_norm": {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4},
    "_native_batch_norm": {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4},
    "instance_norm": {"weight": 1, "bias": 2, "running_mean": 3, "running_var": 4},
    "layer_norm": {"weight": 2, "bias": 3},
    "group_norm": {"weight": 2, "bias": 3},
    "prelu": {"weight": 1},
    "_prelu": {"weight": 1},
}
# what the operands of the plain nodes that such a call was made into are
_PARTS = {"Mul": "weight", "Add": "bias"}
_SCOPES = "pkg.torch.onnx.name_scopes"
_CALL = "pkg.torch.onnx.fx_node"
_HIERARCHY = "pkg.torch.onnx.class_hierarchy"
_RULE = "pkg.onnxscript.rewriter.rule_name"
_TARGET = re.compile(r"target=torch\.ops\.aten\.(\w+)")
_PARAMETER = re.compile(r"%([pb])_(\w+)", re.ASCII)


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

    By its notes; without notes by the name of the result, which is then that of the normalisation's.
    """
    weighted = node.op_type in ("Conv", "ConvTranspose", "Gemm")
    if is_noted(node):
        return weighted and ("batch_norm" in note(node, _CALL) or note(node, _RULE).startswith("FuseBatchNorm"))
    return weighted and re.fullmatch(r"getitem(_\d+)?", node.output[0]) is not None


@dataclass(frozen=True)
class Origin:
    """What an operand was in PyTorch. `kind`: "p" a parameter, "b" a buffer, "f" computed from others and folded into a
    constant by the exporter, "" a number of no module. `name`: the qualified name of a parameter or buffer.
    """

    kind: str
    name: str = ""


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

    def parameter(self, node: NodeProto, index: int) -> Origin | None:
        """What the traced call says operand `index` is; None if there is no note, or it does not say."""
        if not is_noted(node):
            return None
        target, arguments = _call(note(node, _CALL))
        places = next((p for name, p in ARGUMENTS.items() if target.startswith(name)), None)
        role = role_of(node, index)
        if target.startswith("group_norm") and node.op_type == "InstanceNormalization":
            return Origin("")  # scales and shifts of its own, ones and zeros
        if places is not None and not role:
            role = _PARTS.get(node.op_type, "")
        if places is not None and role in places:
            return self.argument(node, role) or Origin("")
        found = dict.fromkeys(a for a in arguments if _PARAMETER.fullmatch(a))
        if len(found) > 1:
            return None
        return self._origin(next(iter(found), ""), node)

    def argument(self, node: NodeProto, role: str) -> Origin | None:
        """What the traced call has as its weight, bias, ...; None if it has no such argument."""
        target, arguments = _call(note(node, _CALL))
        places = next((p for name, p in ARGUMENTS.items() if target.startswith(name)), {})
        place = places.get(role, len(arguments))
        return self._origin(arguments[place], node) if place < len(arguments) else None

    def _origin(self, argument: str, node: NodeProto) -> Origin:
        known = _PARAMETER.fullmatch(argument)
        if known is not None:
            return Origin(known[1], self._qualify(known[2], self.of(node)))
        return Origin("f" if argument.startswith("%") else "")

    def _qualify(self, flat: str, module: str) -> str:
        """The qualified name whose dots were written as underscores: of a known module, or of the one that used it."""
        candidates = set(self.paths)
        while module:
            candidates.add(module)
            module = module.rpartition(".")[0]
        fitting = [m for m in candidates if flat.startswith(m.replace(".", "_") + "_")]
        longest = max(fitting, key=len, default="")
        return f"{longest}.{flat[len(longest) + 1 :]}" if longest else flat


def _innermost(text: str) -> str:
    """The last module of a list of scopes, whose last entry is the operation."""
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) >= 2 else ""


def _call(text: str) -> tuple[str, list[str]]:
    """The aten function that a note says was called, and its positional arguments as they are written."""
    target = _TARGET.search(text)
    _, found, rest = text.partition("(args = (")
    if target is None or not found:
        return "", []
    arguments, depth, start = [], 0, 0
    for i, c in enumerate(rest):
        if c in "([{":
            depth += 1
        elif c in ")]}" and depth:
            depth -= 1
        elif (c == "," or c == ")") and depth == 0:
            arguments.append(rest[start:i].strip())
            start = i + 1
            if c == ")":
                break
    return target[1], arguments


def note_of_call(node: NodeProto) -> str:
    """The exporter's note of the traced call; "" if there is none."""
    return note(node, _CALL)


def traced_arguments(node: NodeProto) -> list[str]:
    """The positional arguments of the traced call, as the exporter's note has them."""
    return _call(note(node, _CALL))[1]


DETACH = "aten.detach"
"""What notes of a detach hold."""


def traced_call(node: NodeProto) -> tuple[str, list[str]]:
    """The name of a node's traced call, and the names of all values that it lists; ("", []) without a note."""
    text = note(node, _CALL)
    name = re.match(r"%(\w+)", text, re.ASCII)
    return ("", []) if name is None else (name[1], re.findall(r"%(\w+)", text[name.end() :], re.ASCII))


def is_detach(node: NodeProto) -> bool:
    """Whether a node stands for a `detach`: gradients end there."""
    return node.op_type == "StopGradient" or (
        node.op_type == "Identity" and any(DETACH in p.value for p in node.metadata_props)
    )


def of_dropout(node: NodeProto) -> bool:
    """Whether a node is (part of) a dropout, or stands where the exporter left one out."""
    return "torch.nn.modules.dropout" in note(node, _HIERARCHY)
