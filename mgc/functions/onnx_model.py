"""Running ONNX models: by ONNX Runtime, or by ONNX's reference evaluator where that cannot.

Neither onnx nor onnxruntime is imported before a model is to be run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mgc.functions.onnx_limits import LimitError, Limits, ModelRunError, bound, evaluate, run_session

__all__ = ["ModelRunError", "OnnxModel", "session"]

# Ops where ONNX Runtime departs from ONNX's definition (accuracy of transforms, the output_shape of MaxUnpool, the
# random numbers that a seed gives).
BY_DEFINITION = frozenset({"DFT", "STFT", "MaxUnpool", "Dropout"})


def session(model: bytes | str, threads: int | None = 1, limits: Limits | None = None, *, optimize: bool = True) -> Any:
    """An ONNX Runtime session of a model (its bytes or its path) on the CPU that logs nothing. With one thread the same
    inputs give the same bits; None: as many threads as there are cores. Without `optimize` every node runs as it
    stands. Raises whatever ONNX Runtime raises: classes with no common base but Exception.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if limits is not None:
        bound(options, limits)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxModel:
    """A model and whatever runs it, made when first needed: of `threads` threads, None for all cores.

    `exact`: the reference evaluator goes first where ONNX Runtime departs from ONNX's definition. `optimize`: see
    `session`. Several threads may run it at once. Raises ModelRunError for bytes that are no ONNX model.
    """

    def __init__(
        self,
        model: bytes,
        threads: int | None = 1,
        *,
        exact: bool = True,
        optimize: bool = True,
        limits: Limits | None = None,
    ) -> None:
        import onnx
        from google.protobuf.message import DecodeError

        try:
            self.proto = onnx.load_model_from_string(model)
        except DecodeError as error:
            raise ModelRunError("it is no ONNX model") from error
        self._bytes = model
        self._limits, self._optimize = limits, optimize
        self._making = threading.Lock()
        self._threads = threads
        self.inputs = {i.name: _dtype(i) for i in self.proto.graph.input}
        self.outputs = {o.name: _dtype(o) for o in self.proto.graph.output}
        self._session: Any = None
        self._evaluator: Any = None
        runners = [self._with_runtime, self._with_reference]
        if exact and any(n.op_type in BY_DEFINITION for n in self.proto.graph.node):
            runners.reverse()
        self._runners: list[Callable[[Mapping[str, Any]], Sequence[Any]]] = runners

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs in order, in the element types that the model declares. Raises ModelRunError."""
        failures: list[str] = []
        for runner in list(self._runners):
            try:
                with np.errstate(all="ignore"):
                    results = runner(feeds)
            except LimitError:
                raise
            except Exception as error:  # neither runtime's errors have a common base below it
                failures.append(f"{_RUNTIMES[runner.__name__]} says {_first_line(error)}")
                continue
            self._runners = [runner, *(r for r in self._runners if r != runner)]
            return [_as_declared(value, dtype) for value, dtype in zip(results, self.outputs.values(), strict=True)]
        raise ModelRunError("; ".join(failures))

    def _with_runtime(self, feeds: Mapping[str, Any]) -> Sequence[Any]:
        with self._making:
            if self._session is None:
                self._session = session(self._bytes, self._threads, self._limits, optimize=self._optimize)
        if self._limits is not None:
            return run_session(self._session, list(self.outputs), feeds, self._limits)
        return self._session.run(list(self.outputs), dict(feeds))

    def _with_reference(self, feeds: Mapping[str, Any]) -> Sequence[Any]:
        if self._limits is not None:
            return evaluate(self.proto, list(self.outputs), feeds, self._limits)
        from onnx.reference import ReferenceEvaluator

        if self._evaluator is None:
            self._evaluator = ReferenceEvaluator(self.proto)
        return list(self._evaluator.run(list(self.outputs), dict(feeds)))


_RUNTIMES = {"_with_runtime": "ONNX Runtime", "_with_reference": "ONNX's reference evaluator"}


def _dtype(value: Any) -> np.dtype | None:
    """The NumPy dtype of a tensor, None for anything else."""
    from onnx.helper import tensor_dtype_to_np_dtype

    elem = value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
    try:
        return np.dtype(tensor_dtype_to_np_dtype(elem)) if elem else None
    except KeyError as error:
        raise ModelRunError(f"element type {elem} is unknown") from error


def _as_declared(value: Any, dtype: np.dtype | None) -> Any:
    """ONNX Runtime hands out 8-bit floats as bytes: the same bits under the declared type."""
    if isinstance(value, np.generic):
        value = np.asarray(value)
    bits = isinstance(value, np.ndarray) and value.dtype == np.uint8
    return value.view(dtype) if bits and dtype is not None and dtype.name.startswith("float8") else value


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
