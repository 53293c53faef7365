"""Types of IR values: element type and static shape, or an opaque type that only the host may touch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import prod

import ml_dtypes
import numpy as np


class DType(Enum):
    """Element type of a tensor; the value is its name in the text form."""

    BOOL = "bool"
    I8 = "i8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    U8 = "u8"
    U16 = "u16"
    U32 = "u32"
    U64 = "u64"
    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"
    F64 = "f64"

    @property
    def numpy(self) -> np.dtype:
        """The NumPy dtype that holds it."""
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        """Whether it is a floating-point type."""
        return self in (DType.F16, DType.BF16, DType.F32, DType.F64)

    @property
    def is_integer(self) -> bool:
        """Whether it is a signed or unsigned integer type (bool is not)."""
        return not self.is_float and self is not DType.BOOL

    @staticmethod
    def of(dtype: np.dtype | type) -> DType:
        """The IR type of a NumPy dtype. Raises KeyError for strings, complex and the like."""
        return _FROM_NUMPY[np.dtype(dtype)]


_NUMPY: dict[DType, np.dtype] = {
    DType.BOOL: np.dtype(np.bool_),
    DType.I8: np.dtype(np.int8),
    DType.I16: np.dtype(np.int16),
    DType.I32: np.dtype(np.int32),
    DType.I64: np.dtype(np.int64),
    DType.U8: np.dtype(np.uint8),
    DType.U16: np.dtype(np.uint16),
    DType.U32: np.dtype(np.uint32),
    DType.U64: np.dtype(np.uint64),
    DType.F16: np.dtype(np.float16),
    DType.BF16: np.dtype(ml_dtypes.bfloat16),
    DType.F32: np.dtype(np.float32),
    DType.F64: np.dtype(np.float64),
}
_FROM_NUMPY = {v: k for k, v in _NUMPY.items()}


@dataclass(frozen=True)
class TensorType:
    """A dense tensor with static shape. Text form: `f32[1,100,1,1]`; a scalar is `f32[]`."""

    dtype: DType
    shape: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in host form."""
        return self.size * self.dtype.numpy.itemsize

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        """The same element type with another shape."""
        return TensorType(self.dtype, tuple(int(d) for d in shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        """The same shape with another element type."""
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.value}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class OpaqueType:
    """A value whose shape or kind is not static (sequence, string, data-dependent shape): only `host` ops touch it.

    Text form: `opaque`.
    """

    def __str__(self) -> str:
        return "opaque"


ValueType = TensorType | OpaqueType


def tensor_type_of(array: np.ndarray) -> TensorType:
    """The type of a NumPy array."""
    return TensorType(DType.of(array.dtype), tuple(int(d) for d in array.shape))
