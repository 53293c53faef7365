"""The host op: an ONNX model run off-chip."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from mgc.ir.op import IRError, Op, register
from mgc.ir.types import TensorType, ValueType

# Ops where ONNX Runtime departs from ONNX's definition (accuracy of transforms, the output_shape of MaxUnpool, the
# random numbers that a seed gives): the reference evaluator goes first.
_REFERENCE_FIRST = frozenset({"DFT", "STFT", "MaxUnpool", "Dropout"})


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
        results = tuple(_runner(self.model).run(arrays))
        for i, (result, type_) in enumerate(zip(results, self.out_types, strict=True)):
            if isinstance(type_, TensorType) and tuple(result.shape) != type_.shape:
                raise IRError(
                    f"{self.name}: result {i} has shape {list(result.shape)} at run time, {type_} was inferred"
                )
        return results


class _Runner:
    """Both executors of one model, made when first needed."""

    def __init__(self, model: bytes) -> None:
        import onnx

        self._proto = onnx.load_model_from_string(model)
        self._inputs = [i.name for i in self._proto.graph.input]
        self._outputs = [o.name for o in self._proto.graph.output]
        self._reference_only = any(node.op_type in _REFERENCE_FIRST for node in self._proto.graph.node)
        self._session: Any = None
        self._evaluator: Any = None

    def run(self, arrays: tuple[Any, ...]) -> list[Any]:
        feeds = dict(zip(self._inputs, arrays, strict=True))
        if not self._reference_only:
            try:
                return self._typed(self._run_ort(feeds))
            except Exception:  # onnxruntime's own C++ errors have no common base class but this
                self._reference_only = True
        return self._run_reference(feeds)

    def _run_ort(self, feeds: dict[str, Any]) -> list[Any]:
        import onnxruntime

        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = 1
            model = self._proto.SerializeToString()
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return self._session.run(self._outputs, feeds)

    def _typed(self, results: list[Any]) -> list[Any]:
        """ONNX Runtime gives 8-bit floats as their bytes: restores the declared element type."""
        from onnx.helper import tensor_dtype_to_np_dtype

        typed: list[Any] = []
        for result, info in zip(results, self._proto.graph.output, strict=True):
            elem = info.type.tensor_type.elem_type if info.type.HasField("tensor_type") else 0
            if elem and isinstance(result, np.ndarray) and result.dtype == np.uint8:
                result = result.view(tensor_dtype_to_np_dtype(elem))
            typed.append(result)
        return typed

    def _run_reference(self, feeds: dict[str, Any]) -> list[Any]:
        from onnx.reference import ReferenceEvaluator

        if self._evaluator is None:
            self._evaluator = ReferenceEvaluator(self._proto)
        with np.errstate(all="ignore"):
            return self._evaluator.run(self._outputs, feeds)


@lru_cache(maxsize=16)
def _runner(model: bytes) -> _Runner:
    return _Runner(model)
