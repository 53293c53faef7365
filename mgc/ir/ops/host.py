"""The host op: an ONNX model run off-chip."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from mgc.functions.onnx_limits import Limits
from mgc.functions.onnx_model import ModelRunError, OnnxModel
from mgc.ir.op import IRError, Op, register
from mgc.ir.types import TensorType, ValueType


@register
@dataclass(frozen=True)
class Host(Op):
    """An ONNX model that the chip cannot run, with the reason why. Operands are the model's graph inputs in order,
    results its graph outputs in order, of types `out_types` (opaque where no static shape is known).
    """

    model: bytes = field(repr=False)
    reason: str
    op_types: tuple[str, ...]
    out_types: tuple[ValueType, ...]
    name: ClassVar[str] = "host"

    @property
    def not_differentiable(self) -> str:
        return f"{', '.join(self.op_types)} runs on the host ({self.reason})"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return self.out_types

    def evaluate(self, *arrays: Any) -> tuple[Any, ...]:
        """Runs the model in ONNX Runtime, or in ONNX's reference evaluator where that cannot.

        Opaque values are whatever those hold (lists, None, arrays of strings).
        """
        try:
            model = _model(self.model)
            results = tuple(model.run(dict(zip(model.inputs, arrays, strict=True))))
        except ModelRunError as error:
            raise IRError(f"{self.name} ({', '.join(self.op_types)}): {error}") from error
        for i, (result, type_) in enumerate(zip(results, self.out_types, strict=True)):
            if isinstance(type_, TensorType) and np.shape(result) != type_.shape:
                raise IRError(
                    f"{self.name}: result {i} has shape {list(np.shape(result))} at run time, {type_} was inferred"
                )
        return results


@lru_cache(maxsize=16)
def _model(data: bytes) -> OnnxModel:
    return OnnxModel(data, limits=Limits())
