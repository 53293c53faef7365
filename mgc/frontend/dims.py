"""Binding of dynamic dimensions, and what the user is told of inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import TypeProto, ValueInfoProto

from mgc.frontend.errors import ModelError
from mgc.frontend.operand import elem_type_name

# nothing larger fits a host's memory in float32
MAX_INPUT_ELEMENTS = 1 << 31
_SIZES = "at least 1 and at most 2^31"


@dataclass(frozen=True)
class IODescription:
    """A graph input or output as the model declares it.

    `dtype` is ONNX's name in lower case ("float", "float16", ..., "" if it is no tensor); `shape` has a name for each
    dynamic dimension, None where no shape is declared; `bound` is the static shape, None if there is none.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None
    bound: tuple[int, ...] | None


def dimension_names(info: ValueInfoProto) -> tuple[int | str, ...] | None:
    """Declared shape with a name for each dynamic dimension ("NAME.AXIS" where the model has none)."""
    if info.type.WhichOneof("value") != "tensor_type" or not info.type.tensor_type.HasField("shape"):
        return None
    names: list[int | str] = []
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        kind = dim.WhichOneof("value")
        if kind == "dim_value" and dim.dim_value >= 0:
            names.append(int(dim.dim_value))
        else:
            names.append(dim.dim_param if kind == "dim_param" and dim.dim_param else f"{info.name}.{axis}")
    return tuple(names)


def describe(info: ValueInfoProto, bound: tuple[int, ...] | None) -> IODescription:
    """An input or output as declared, with its static shape."""
    is_tensor = info.type.WhichOneof("value") == "tensor_type"
    dtype = elem_type_name(info.type.tensor_type.elem_type) if is_tensor else ""
    return IODescription(info.name, dtype, dimension_names(info), bound)


def bind(inputs: list[ValueInfoProto], batch: int, dims: Mapping[str, int]) -> tuple[dict[str, int], str | None]:
    """Sizes of all dynamic dimensions of the inputs by name, and the name that `batch` bound (None if none).

    The first dynamic dimension gets `batch` unless `dims` names it. ModelError lists what remains unbound.
    """
    if not 1 <= batch <= MAX_INPUT_ELEMENTS:
        raise ModelError(f"batch is {batch}", where="batch", todo=f"give a number of {_SIZES}")
    order: dict[str, None] = {}
    for info in inputs:
        order.update({d: None for d in dimension_names(info) or () if isinstance(d, str)})
    for name, size in dims.items():
        if name not in order:
            known = ", ".join(order) or "none"
            raise ModelError(f"no input has a dimension {name!r}", where="dims", todo=f"dynamic dimensions: {known}")
        if not 1 <= size <= MAX_INPUT_ELEMENTS:
            raise ModelError(f"dimension {name!r} is {size}", where="dims", todo=f"give a number of {_SIZES}")
    sizes = {name: int(size) for name, size in dims.items()}
    first = next(iter(order), None)
    bound_by_batch = None
    if first is not None and first not in sizes:
        sizes[first] = batch
        bound_by_batch = first
    missing = [name for name in order if name not in sizes]
    if missing:
        options = " ".join(f"--dim {name}=N" for name in missing)
        raise ModelError(
            f"dynamic dimensions without a size: {', '.join(missing)}", where="inputs", todo=f"add {options}"
        )
    return sizes, bound_by_batch


def bound_type(info: ValueInfoProto, sizes: Mapping[str, int]) -> TypeProto:
    """The input's type with every dimension static."""
    proto = TypeProto()
    proto.CopyFrom(info.type)
    names = dimension_names(info)
    if names is not None:
        for dim, name in zip(proto.tensor_type.shape.dim, names, strict=True):
            dim.Clear()
            dim.dim_value = name if isinstance(name, int) else sizes[name]
    return proto
