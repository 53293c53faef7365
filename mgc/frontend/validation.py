"""What must hold of a model before its nodes are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from google.protobuf.message import Message
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from mgc.frontend.errors import ModelError
from mgc.frontend.operand import has_ir_dtype
from mgc.ir.types import DType

_PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
_LARGEST_WEIGHT = 1e30
# far beyond any opset there will be; the schema look-up takes 32-bit numbers
MAX_OPSET = 10_000


def opset_versions(model: ModelProto) -> dict[str, int]:
    """Opset of each domain, "" being ONNX's own (1 if the model names none). ModelError for a nonsensical one."""
    opsets: dict[str, int] = {"": 1}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if not 1 <= entry.version <= MAX_OPSET:
            raise ModelError(f"opset {entry.version} of domain {domain!r}", where="model", todo="export it again")
        opsets[domain] = int(entry.version)
    return opsets


def check_text(message: Message) -> None:
    """Every name in a model is text: a damaged file may hold bytes that are not. ModelError."""
    try:
        whole = all(isinstance(n, str) for n in _texts(message))
    except UnicodeDecodeError:
        whole = False
    if not whole:
        raise ModelError("a name is not UTF-8", where="model", todo="the file is damaged: export it again")


def _texts(message: Message) -> Iterator[object]:
    """The fields of a message, and of those in it, that are text."""
    for field, value in message.ListFields():
        if field.cpp_type == field.CPPTYPE_STRING and field.type == field.TYPE_STRING:
            yield from (value,) if isinstance(value, (str, bytes)) else value
        elif field.cpp_type == field.CPPTYPE_MESSAGE:
            for part in (value,) if isinstance(value, Message) else value:
                yield from _texts(part)


def unique_names(nodes: Iterable[NodeProto]) -> list[str]:
    """A name for each node: its own, or its op type and index; repeated ones get a number."""
    taken: set[str] = set()
    names: list[str] = []
    next_of: dict[str, int] = {}
    for index, node in enumerate(nodes):
        base = node.name or f"{node.op_type}_{index}"
        name, k = base, next_of.get(base, 1)
        while name in taken:
            name, k = f"{base}_{k}", k + 1
        next_of[base] = k
        taken.add(name)
        names.append(name)
    return names


def check_definitions(graph: GraphProto, weights: Mapping[str, TensorProto], nodes: Sequence[str]) -> None:
    """Every name has one definition, and there is something to compute. ModelError."""
    outputs = [o.name for o in graph.output]
    if not outputs:
        raise ModelError("the graph has no outputs", where="model", todo="export the model again")
    if len(set(outputs)) < len(outputs):
        twice = next(o for o in outputs if outputs.count(o) > 1)
        raise ModelError("two outputs have this name", where=f"output {twice!r}")
    seen: dict[str, str] = {}
    for info in graph.input:
        if not info.name:
            raise ModelError("an input has no name", where="model")
        if info.name in seen:
            raise ModelError("two inputs have this name", where=f"input {info.name!r}")
        seen[info.name] = "a graph input"
    seen.update(dict.fromkeys(weights, "an initializer"))
    for node, source in zip(graph.node, nodes, strict=True):
        for name in filter(None, node.output):
            if name in seen:
                raise ModelError(
                    f"output {name!r} is already {seen[name]}: a name must be defined once",
                    where=f"node {source!r} ({node.op_type})",
                    todo="export the model again",
                )
            seen[name] = f"made by node {source!r}"


def check_finite(name: str, array: np.ndarray, readers: set[str]) -> None:
    """ModelError for NaN or infinite weights, as float32. Single numbers may be infinite, and so may masks: -inf
    that only Where or Add reads.
    """
    if array.size == 0 or not has_ir_dtype(array.dtype) or not DType.of(array.dtype).is_float:
        return
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32, copy=False)
    if np.isfinite(narrow).all():
        largest = float(np.abs(narrow).max(initial=0.0)) if readers & _PRODUCTS else 0.0
        if largest > _LARGEST_WEIGHT:
            raise ModelError(
                f"weights of up to {largest:.3g}: products of them are not finite in float32",
                where=f"initializer {name!r}",
                todo="train or export the model again",
            )
        return
    nans, infinities = int(np.isnan(narrow).sum()), int(np.isinf(narrow).sum())
    mask = readers <= {"Where", "Add"} and not np.isposinf(narrow).any()
    if nans == 0 and (array.size == 1 or mask):
        return
    raise ModelError(
        f"{nans} NaN and {infinities} infinite values (as float32) among {array.size}",
        where=f"initializer {name!r}",
        todo="train or export the model again",
    )
