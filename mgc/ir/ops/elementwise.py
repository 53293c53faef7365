"""Element-wise ops: a function of one operand, of two, a choice, a cast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.functions.binary import BINARY
from mgc.functions.dtypes import CODES, in_domain
from mgc.functions.unary import UNARY
from mgc.ir.op import IRError, OnnxForm, Op, register
from mgc.ir.ops.check import broadcast, require, same_dtype, tensors
from mgc.ir.types import DType, TensorType, ValueType


@register
@dataclass(frozen=True)
class Unary(Op):
    """y = fn(x), element by element; `fn` is a key of `mgc.functions.unary.UNARY`, which says what alpha and beta
    mean.
    """

    fn: str
    alpha: float = 0.0
    beta: float = 0.0
    name: ClassVar[str] = "unary"
    elementwise = "all"

    def is_nonnegative(self, operands: Sequence[bool]) -> bool:
        f = UNARY[self.fn]
        kept = f.keeps_sign and operands[0] and self.alpha >= 0 and self.beta >= 0
        return f.nonnegative(self.alpha, self.beta) or kept

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        if self.fn not in UNARY:
            raise IRError(f"{self.name}: no function {self.fn!r}; there are {', '.join(UNARY)}")
        entry = UNARY[self.fn]
        if not in_domain(x.dtype.numpy, entry.domain):  # asked often: the message is made only where it is needed
            raise IRError(f"{self.name}: {self.fn} of {x}: {entry.domain} elements are needed")
        return (x.with_dtype(DType.BOOL) if entry.to_bool else x,)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = arrays
        with np.errstate(all="ignore"):
            return (UNARY[self.fn].meaning(x, self.alpha, self.beta),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return UNARY[self.fn].onnx_form(self.alpha, self.beta)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.fn, (self.alpha, self.beta)


@register
@dataclass(frozen=True)
class Binary(Op):
    """y = fn(a, b) with NumPy broadcasting; `fn` is a key of `mgc.functions.binary.BINARY`.

    Both operands have one element type (`pow`: the exponent's is free); comparisons and logic give bool; `prelu`
    takes x and a slope that broadcasts to x's shape.
    """

    fn: str
    name: ClassVar[str] = "binary"
    elementwise = "all"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        a, b = tensors(self, types, "a", "b")
        if self.fn not in BINARY:
            raise IRError(f"{self.name}: no function {self.fn!r}; there are {', '.join(BINARY)}")
        entry = BINARY[self.fn]
        if self.fn != "pow":
            same_dtype(self, ("a", a), ("b", b))
        for t in (a, b):
            if not in_domain(t.dtype.numpy, entry.domain):
                raise IRError(f"{self.name}: {self.fn} of {t}: {entry.domain} elements are needed")
        shape = broadcast(self, a.shape, b.shape)
        if self.fn == "prelu":
            require(self, shape == a.shape, f"prelu: slope {b} does not broadcast to x {a}")
        return (TensorType(DType.BOOL if entry.to_bool else a.dtype, shape),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        a, b = arrays
        with np.errstate(all="ignore"):
            y = BINARY[self.fn].meaning(a, b)
        return (np.asarray(y, bool if BINARY[self.fn].to_bool else a.dtype),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        if self.fn == "mod" and types[0].dtype.is_float:
            # ONNX Runtime has no floored modulus of floats: a - floor(a / b) b
            whole = OnnxForm("Floor", operands=(OnnxForm("Div"),))
            return OnnxForm("Sub", operands=(0, OnnxForm("Mul", operands=(whole, 1))))
        return BINARY[self.fn].onnx

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.fn, ()

    def is_nonnegative(self, operands: Sequence[bool]) -> bool:
        return BINARY[self.fn].nonnegative(operands[0], operands[1])


@register
@dataclass(frozen=True)
class Where(Op):
    """y = condition ? a : b with NumPy broadcasting; condition is bool, a and b of one element type."""

    name: ClassVar[str] = "where"
    elementwise = "all"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        condition, a, b = tensors(self, types, "condition", "a", "b")
        require(self, condition.dtype is DType.BOOL, f"condition is {condition}, bool is needed")
        same_dtype(self, ("a", a), ("b", b))
        return (a.with_shape(broadcast(self, condition.shape, a.shape, b.shape)),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.where(*arrays),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("Where")

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, ()

    def is_nonnegative(self, operands: Sequence[bool]) -> bool:
        return all(operands[1:])


@register
@dataclass(frozen=True)
class Cast(Op):
    """y = x in element type `to`. Float to integer truncates toward zero; anything nonzero is true."""

    to: DType
    name: ClassVar[str] = "cast"
    elementwise = "all"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        return (x.with_dtype(self.to),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            return (arrays[0].astype(self.to.numpy),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        from onnx.helper import np_dtype_to_tensor_dtype

        return OnnxForm("Cast", {"to": int(np_dtype_to_tensor_dtype(self.to.numpy))})

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, (float(CODES[self.to.numpy.name]),)

    def is_nonnegative(self, operands: Sequence[bool]) -> bool:
        # a cast to a narrower integer may wrap
        return operands[0] and (self.to.is_float or self.to is DType.BOOL)
