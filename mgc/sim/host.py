"""Host segments: the ONNX models of a program, run off-chip."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mgc.functions.onnx_limits import Limits
from mgc.functions.onnx_model import ModelRunError, OnnxModel
from mgc.isa.program import Program
from mgc.sim.engine import SimulationError


class HostSegments:
    """Runs the host segments of a program; what runs them is made when first needed."""

    def __init__(self, program: Program, threads: int | None = None) -> None:
        self._program = program
        self._threads = threads
        self._models: dict[int, OnnxModel] = {}
        self._making = threading.Lock()

    def run(self, segment: int, args: Sequence[Any]) -> list[Any]:
        """Results of segment number `segment` on `args`, in the order of its outputs. Raises SimulationError."""
        entry = self._program.host_segments[segment]
        what = f"host segment {segment} ({', '.join(entry.op_types)})"
        try:
            with self._making:
                if segment not in self._models:
                    self._models[segment] = _loaded(self._program.tensors[entry.tensor].tobytes(), what, self._threads)
            model = self._models[segment]
            if len(args) != len(model.inputs):
                raise SimulationError(f"{what} takes {len(model.inputs)} operands, the program gives {len(args)}")
            return model.run(
                {n: _as(value, dtype) for (n, dtype), value in zip(model.inputs.items(), args, strict=True)}
            )
        except ModelRunError as error:
            raise SimulationError(f"{what} fails: {error}") from error


def _loaded(data: bytes, what: str, threads: int | None) -> OnnxModel:
    try:
        import onnx
    except ImportError as error:
        raise SimulationError(f"{what} runs on the host: install onnx and onnxruntime") from error
    model = OnnxModel(data, threads, limits=Limits())
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(model.proto)):
        raise SimulationError(f"{what} names data in other files, which a program must not; compile it again")
    return model


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
