"""Reading a model: bytes to a checked ModelProto, weights as arrays, external data confined to the model's folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import GraphProto, ModelProto, TensorProto

from mgc.frontend.errors import ModelError
from mgc.frontend.onnx_graph import subgraphs
from mgc.frontend.validation import check_text, opset_versions
from mgc.functions.regular_files import open_regular, read_regular

# Protocol buffers are no longer.
_MOST_BYTES = (1 << 31) - 1

Source = str | os.PathLike[str] | bytes | ModelProto


@dataclass
class LoadedModel:
    """A model with its weights taken out: `proto` keeps the initializers' names only."""

    proto: ModelProto
    weights: dict[str, TensorProto]
    folder: Path | None  # where external data may lie; None if the model came without a path
    sha256: str  # of the file and, one after the other, of the external data it names
    opsets: dict[str, int]


def load_model(source: Source) -> LoadedModel:
    """Reads a model. ModelError if it is no ONNX model or its external data is out of bounds."""
    data, folder, name = _read(source)
    if not data:
        raise ModelError("the file is empty", where=name, todo="give an ONNX model")
    proto = ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise ModelError(
            f"not an ONNX model, or a damaged one ({_first_line(error)})", where=name, todo="export the model again"
        ) from error
    digest = hashlib.sha256(data)
    del data
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError("holds no graph", where=name, todo="give an ONNX model (a .onnx file)")
    if proto.graph.sparse_initializer:
        raise ModelError("sparse initializers are not supported", where=name, todo="store them dense")
    check_text(proto)
    opsets = opset_versions(proto)
    for tensor in _nested_tensors(proto.graph):
        embed_data(tensor, folder)
    weights: dict[str, TensorProto] = {}
    for tensor in proto.graph.initializer:
        if not tensor.name:
            raise ModelError("an initializer has no name", where=name)
        if tensor.name in weights:
            raise ModelError("two initializers have this name", where=f"initializer {tensor.name!r}")
        weights[tensor.name] = tensor
        if tensor.data_location == TensorProto.EXTERNAL:
            digest.update(external_bytes(tensor, folder))
    return LoadedModel(proto, weights, folder, digest.hexdigest(), opsets)


def self_contained(source: Source) -> bytes:
    """A model as bytes, external data included."""
    data, folder, _ = _read(source)
    if b"location" not in data:  # the key under which external data would be named
        return data
    proto = ModelProto.FromString(data)
    for tensor in (*proto.graph.initializer, *_nested_tensors(proto.graph)):
        embed_data(tensor, folder)
    return proto.SerializeToString()


def _read(source: Source) -> tuple[bytes, Path | None, str]:
    if isinstance(source, ModelProto):
        try:
            return source.SerializeToString(), None, "model"
        except (EncodeError, ValueError) as error:
            raise ModelError(f"cannot be serialised ({_first_line(error)})", where="model") from error
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), None, "model"
    path = Path(source)
    try:
        return (
            read_regular(path, _MOST_BYTES),
            path.resolve().parent if not path.is_symlink() else path.parent.resolve(),
            str(path),
        )
    except (OSError, RuntimeError) as error:  # a circle of links
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"cannot be read ({reason})", where=str(path), todo="check the path") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _nested_tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Tensors in attributes and subgraphs, not the graph's own initializers."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for sub in subgraphs(node):
            yield from sub.initializer
            yield from _nested_tensors(sub)


def embed_data(tensor: TensorProto, folder: Path | None) -> None:
    """Takes a tensor's data out of another file into the tensor, in place."""
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor.raw_data = external_bytes(tensor, folder)
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT


def external_bytes(tensor: TensorProto, folder: Path | None) -> bytes:
    """The bytes of a tensor that lies in another file, which must be inside the model's folder."""
    where = f"tensor {tensor.name!r}"
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError("its data is in another file", where=where, todo="give the model as a file, not as bytes")
    if not location or os.path.isabs(location) or ".." in Path(location).parts or "\\" in location:
        raise ModelError(f"external data at {location!r}", where=where, todo="it must lie in the model's own folder")
    try:
        path = (folder / location).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, links in a circle, a name that is too long
        raise ModelError(f"external data at {location!r}: no such place ({error})", where=where) from error
    if not path.is_relative_to(folder):
        raise ModelError(f"external data at {location!r} leads outside", where=where, todo="remove the link")
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries["length"]) if entries.get("length") else None
        if not 0 <= offset < 1 << 62 or not 0 <= (length or 0) < 1 << 62:
            raise ValueError("out of range")
    except ValueError as error:
        raise ModelError(f"external data with offset and length {entries}", where=where) from error
    try:
        if not path.is_file():
            raise ModelError(f"external data file {location!r} is missing", where=where, todo="put it beside the model")
        with open_regular(path) as file:
            file.seek(offset)
            data = file.read() if length is None else file.read(min(length, path.stat().st_size))
    except OSError as error:
        raise ModelError(f"external data file {location!r} cannot be read ({error.strerror})", where=where) from error
    if length is not None and len(data) < length:
        raise ModelError(
            f"external data file {location!r} ends after {len(data)} of {length} bytes",
            where=where,
            todo="copy it again",
        )
    return data


def to_array(tensor: TensorProto, folder: Path | None = None) -> np.ndarray:
    """The tensor's data in its own element type; not copied where that can be avoided. ModelError if it is damaged."""
    where = f"initializer {tensor.name!r}"
    try:
        if tensor.data_location == TensorProto.EXTERNAL:
            plain = TensorProto(dims=tensor.dims, data_type=tensor.data_type, name=tensor.name)
            plain.raw_data = external_bytes(tensor, folder)
            tensor = plain
        if any(d < 0 for d in tensor.dims):
            raise ValueError("a negative dimension")
        return onnx.numpy_helper.to_array(tensor)
    except ModelError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise ModelError(
            f"data does not fit type and shape {list(tensor.dims)} ({_first_line(error)})", where=where
        ) from error
