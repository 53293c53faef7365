"""Batch normalisation; other normalisations are made of primitives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, same_dtype, tensors
from mgc.ir.types import TensorType, ValueType


@register
@dataclass(frozen=True)
class BatchNorm(Op):
    """y = scale (x - mean) / sqrt(var + epsilon) + bias along axis 1; all four are [C] for x[N, C, ...].

    With `training` mean and (biased) variance are those of x, and the operands mean and var are not read: they are
    the running statistics, which `batch-statistics` updates with `momentum` (ONNX's: the weight of the old value).
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    training: bool = False
    name: ClassVar[str] = "batch_norm"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        operands = ("x", "scale", "bias", "mean", "var")
        x, *statistics = tensors(self, types, *operands)
        require(self, x.rank >= 2 and x.dtype.is_float, f"x is {x}: a float tensor [N, C, ...] is needed")
        for operand, t in zip(operands[1:], statistics, strict=True):
            same_dtype(self, ("x", x), (operand, t))
            require(self, t.shape == (x.shape[1],), f"{operand} is {t} but x is {x}: [{x.shape[1]}] is needed")
        return (x,)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, scale, bias, mean, var = arrays
        if self.training:
            axes = (0, *range(2, x.ndim))
            mean, var = x.mean(axes), x.var(axes)
        with np.errstate(all="ignore"):
            factor = scale / np.sqrt(var + self.epsilon)
            shape = (-1, *(1,) * (x.ndim - 2))
            return (np.asarray((x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape), x.dtype),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        attributes = {"epsilon": float(self.epsilon)}
        if self.training:
            attributes |= {"momentum": float(self.momentum), "training_mode": 1}
        return OnnxForm("BatchNormalization", attributes)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] and not any(batched[1:]) and not self.training else None
