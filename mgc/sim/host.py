"""Host segments: ONNX models run by ONNX Runtime, or by ONNX's reference evaluator where that cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mgc.isa.program import Program
from mgc.sim.engine import SimulationError

# Ops where ONNX Runtime departs from ONNX's definition (accuracy of transforms, the output_shape of MaxUnpool, the
# random numbers that a seed gives): the reference evaluator goes first.
_REFERENCE_FIRST = frozenset({"DFT", "STFT", "MaxUnpool", "Dropout"})


class HostSegments:
    """Runs the host segments of a program; sessions are made when first needed.

    Neither onnx nor onnxruntime is imported before the first run of a segment.
    """

    def __init__(self, program: Program, threads: int | None = None) -> None:
        self._program = program
        self._threads = threads
        self._sessions: dict[int, _Session] = {}

    def run(self, segment: int, args: Sequence[Any]) -> list[Any]:
        """Results of segment number `segment` on `args`, in the order of its outputs. Raises SimulationError."""
        if segment not in self._sessions:
            entry = self._program.host_segments[segment]
            what = f"host segment {segment} ({', '.join(entry.op_types)})"
            self._sessions[segment] = _Session(self._program.tensors[entry.tensor].tobytes(), what, self._threads)
        return self._sessions[segment].run(args)


class _Session:
    """One model and whatever runs it."""

    def __init__(self, model: bytes, what: str, threads: int | None) -> None:
        try:
            import onnx
        except ImportError as error:
            raise SimulationError(f"{what} runs on the host: install onnx and onnxruntime") from error

        self._what = what
        self._threads = threads
        self._model = onnx.load_model_from_string(model)
        if any(t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(self._model)):
            raise SimulationError(f"{what} names data in other files, which a program must not; compile it again")
        self._names = [i.name for i in self._model.graph.input]
        self._outputs = [o.name for o in self._model.graph.output]
        self._dtypes = [_declared_dtype(i) for i in self._model.graph.input]
        self._declared = [_declared_dtype(o) for o in self._model.graph.output]
        self._session: Any = None
        runners = [self._with_runtime, self._with_reference]
        if any(n.op_type in _REFERENCE_FIRST for n in self._model.graph.node):
            runners.reverse()
        self._runners: list[Callable[[dict[str, Any]], list[Any]]] = runners

    def run(self, args: Sequence[Any]) -> list[Any]:
        feeds = {name: _as(value, dtype) for name, value, dtype in zip(self._names, args, self._dtypes, strict=True)}
        failures: list[str] = []
        for runner in list(self._runners):
            try:
                with np.errstate(all="ignore"):
                    results = runner(feeds)
            except Exception as error:  # neither runtime's errors have a common base below it
                failures.append(f"{_RUNTIMES[runner.__name__]} says {_first_line(error)}")
                continue
            self._runners = [runner, *(r for r in self._runners if r != runner)]
            return [_as_declared(value, dtype) for value, dtype in zip(results, self._declared, strict=True)]
        raise SimulationError(f"{self._what} fails: {'; '.join(failures)}")

    def _with_runtime(self, feeds: dict[str, Any]) -> list[Any]:
        import onnxruntime

        if self._session is None:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            if self._threads is not None:
                options.intra_op_num_threads = self._threads
            self._session = onnxruntime.InferenceSession(
                self._model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        return self._session.run(self._outputs, feeds)

    def _with_reference(self, feeds: dict[str, Any]) -> list[Any]:
        from onnx.reference import ReferenceEvaluator

        return list(ReferenceEvaluator(self._model).run(self._outputs, feeds))


_RUNTIMES = {"_with_runtime": "ONNX Runtime", "_with_reference": "ONNX's reference evaluator"}


def _declared_dtype(value: Any) -> np.dtype | None:
    """The NumPy dtype of a tensor, None for anything else."""
    from onnx.helper import tensor_dtype_to_np_dtype

    elem = value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
    return np.dtype(tensor_dtype_to_np_dtype(elem)) if elem else None


def _as_declared(value: Any, dtype: np.dtype | None) -> Any:
    """ONNX Runtime hands out 8-bit floats as bytes: the same bits under the declared type."""
    if (
        isinstance(value, np.ndarray)
        and dtype is not None
        and value.dtype == np.uint8
        and dtype.name.startswith("float8")
    ):
        return value.view(dtype)
    return value


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere inside a protobuf message of ONNX."""
    if type(message).__name__ == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            repeated = not hasattr(value, "ListFields")
            for part in value if repeated else (value,):
                if hasattr(part, "ListFields"):
                    yield from _tensors(part)


def _as(value: Any, dtype: np.dtype | None) -> Any:
    """The value in the element type that the segment declares (the chip's float is float32)."""
    if isinstance(value, np.ndarray) and dtype is not None and value.dtype != dtype and value.dtype.kind != "O":
        with np.errstate(all="ignore"):
            return value.astype(dtype)
    return value


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
