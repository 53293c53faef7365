"""What the importer knows of an ONNX value: data, or an IR value with its ONNX type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, TypeProto
from onnx.helper import make_tensor_type_proto, np_dtype_to_tensor_dtype, tensor_dtype_to_np_dtype

from mgc.ir.graph import Value
from mgc.ir.types import DType, OpaqueType, TensorType, ValueType

# ONNX's element types that the IR has, by number
_IR_DTYPE: dict[int, DType] = {int(np_dtype_to_tensor_dtype(d.numpy)): d for d in DType}


@dataclass(frozen=True, eq=False)
class Known:
    """A value known at import: an array in its ONNX element type (or a list, None, strings: whatever ONNX holds).

    `name` is the initializer it is, "" if computed; `hint` then may say from what.
    """

    array: Any
    name: str = ""
    hint: str = ""

    @property
    def is_parameter(self) -> bool:
        """Whether it may be trained: a float initializer."""
        return bool(self.name) and self.is_tensor and DType.of(self.array.dtype).is_float

    @property
    def is_tensor(self) -> bool:
        """Whether it is an array of an element type that the IR has."""
        return isinstance(self.array, np.ndarray) and has_ir_dtype(self.array.dtype)


@dataclass(frozen=True, eq=False)
class Sym:
    """A value known at run time: `value` in the graph, `type` its ONNX type with what is known of the shape."""

    value: Value
    type: TypeProto


def has_ir_dtype(dtype: np.dtype) -> bool:
    """Whether the IR has an element type for `dtype`."""
    try:
        DType.of(dtype)
    except KeyError:
        return False
    return True


def ir_dtype(elem_type: int) -> DType | None:
    """The IR's element type for ONNX's, None if it has none (strings, complex, float8, 4-bit)."""
    return _IR_DTYPE.get(elem_type)


def elem_type_of(dtype: DType) -> int:
    """ONNX's number for an IR element type."""
    return int(np_dtype_to_tensor_dtype(dtype.numpy))


def ir_type(proto: TypeProto) -> ValueType:
    """The IR type for an ONNX type: opaque unless it is a tensor with static shape and an element type of the IR."""
    if proto.WhichOneof("value") != "tensor_type" or not proto.tensor_type.HasField("shape"):
        return OpaqueType()
    dtype = ir_dtype(proto.tensor_type.elem_type)
    dims = proto.tensor_type.shape.dim
    if dtype is None or any(d.WhichOneof("value") != "dim_value" or d.dim_value < 0 for d in dims):
        return OpaqueType()
    return TensorType(dtype, tuple(d.dim_value for d in dims))


def onnx_type(type_: TensorType) -> TypeProto:
    """The ONNX type for an IR tensor type."""
    return make_tensor_type_proto(elem_type_of(type_.dtype), type_.shape)


def elem_type_name(elem_type: int) -> str:
    """ "float", "int64", ...: ONNX's name in lower case."""
    return TensorProto.DataType.Name(elem_type).lower() if elem_type in TensorProto.DataType.values() else "undefined"


def numpy_of(elem_type: int) -> np.dtype:
    """NumPy's dtype for an ONNX element type."""
    return tensor_dtype_to_np_dtype(elem_type)


def type_of_known(array: Any) -> TypeProto | None:
    """The ONNX type of known data; None for what has none (lists, None)."""
    if not isinstance(array, np.ndarray):
        return None
    if array.dtype.kind in "OSU":
        return make_tensor_type_proto(onnx.TensorProto.STRING, array.shape)
    return make_tensor_type_proto(int(np_dtype_to_tensor_dtype(array.dtype)), array.shape)
