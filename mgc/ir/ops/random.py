"""Random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mgc.functions.draws import random_numbers
from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, tensors
from mgc.ir.types import DType, TensorType, ValueType


@register
@dataclass(frozen=True)
class Random(Op):
    """Numbers uniform in [0, 1) (`fn` "uniform") or ~ N(0, 1) ("normal") of `shape`, float32, by counter.

    Operands: the key [samples, 2] (see `mgc.functions.draws`), then, for a while, what the numbers are drawn for: where
    that is computed anew, so are they. `number` tells the random ops of a program apart. `each`: axis 0 of the
    result is the key's, each sample having its own draws; else all are the first sample's.

    Exported it draws by the runtime's own generator: equal in distribution, not in value.
    """

    fn: str
    number: int
    shape: tuple[int, ...]
    each: bool
    name: ClassVar[str] = "random"

    def is_nonnegative(self, operands: Sequence[bool]) -> bool:
        return self.fn == "uniform"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (key,) = tensors(self, types[:1], "key")
        require(self, self.fn in ("uniform", "normal"), f"{self.fn!r} is no distribution")
        require(self, key.dtype is DType.I64 and key.rank == 2 and key.shape[1] == 2, f"the key is {key}: i64[n,2]")
        fits = not self.each or self.shape[:1] == key.shape[:1]
        require(self, fits, f"shape {list(self.shape)} does not begin with the {key.shape[0]} samples of the key")
        require(self, len(types) <= 2, "one key, and one operand that it is drawn for")
        return (TensorType(DType.F32, self.shape),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        key, shape = (arrays[0], self.shape[1:]) if self.each else (arrays[0][:1], self.shape)
        drawn = random_numbers(self.fn, key, self.number, shape)
        return (drawn if self.each else drawn[0],)

    def onnx(self, *types: TensorType) -> OnnxForm:
        form = {"shape": list(self.shape), "seed": float(self.number)}
        return OnnxForm(f"Random{self.fn.capitalize()}", form, operands=())

    def vec(self) -> tuple[str, tuple[float, ...]]:
        shape = self.shape[1:] if self.each else self.shape
        return f"random_{self.fn}", (float(self.number), float(self.each), *map(float, shape))

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return replace(self, shape=(self.shape[0] // factor, *self.shape[1:])) if self.each else None
