"""Running ONNX models within limits of time and memory.

A model from elsewhere may loop for ever or make values of any size. ONNX Runtime is told to end when the time is over,
and takes memory from one arena that is not larger than `Limits.memory`. The evaluator is asked for the shapes of all
values before it makes any, and looks at the clock at every call of Python. Neither onnx nor onnxruntime is imported
before there is something to run.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from types import FrameType
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Limits:
    """What one run of a model may take: seconds, and bytes of memory for its values."""

    seconds: float = 10.0
    memory: int = 1 << 30


class ModelRunError(Exception):
    """Nothing can run a model; the message says why."""


class LimitError(ModelRunError):
    """A run that takes longer, or more memory, than it may."""


class _Expired(Exception):  # noqa: N818 - becomes a LimitError
    """The time is over."""


_ARENA: list[int] = []
"""The bytes of the one arena of this process, once there is one: ONNX Runtime makes it for good."""
_MAKING = threading.Lock()
_SMALL = 1024
"""Elements of the largest operand whose values shape inference is told."""
_NEVER_EVALUATED = frozenset({"RegexFullMatch"})
"""Python's regular expressions take exponential time, and nothing can end them; ONNX Runtime's take linear time."""


def bound(options: Any, limits: Limits) -> None:
    """Makes the session of these ONNX Runtime options take its memory from the arena."""
    _make_arena(limits.memory)
    options.add_session_config_entry("session.use_env_allocators", "1")


def _make_arena(memory: int) -> None:
    import onnxruntime as ort

    with _MAKING:
        if not _ARENA:
            kind = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
            ort.create_and_register_allocator(kind, ort.OrtArenaCfg(memory, 1, -1, -1))
            _ARENA.append(memory)


def run_session(session: Any, names: Sequence[str], feeds: Mapping[str, Any], limits: Limits) -> list[Any]:
    """The outputs of a session with `bound` options. LimitError where the limits do not suffice."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    expired = threading.Event()

    def end() -> None:
        expired.set()
        options.terminate = True

    watch = threading.Timer(limits.seconds, end)
    watch.daemon = True
    watch.start()
    try:
        return session.run(list(names), dict(feeds), options)
    except Exception as error:  # ONNX Runtime's errors have no common base
        if expired.is_set():
            raise _too_long(limits) from error
        if "bfc_arena" in str(error) or "Failed to allocate memory" in str(error):
            raise LimitError(f"it takes more than {(_ARENA or [limits.memory])[0] >> 20} MiB of memory") from error
        raise
    finally:
        watch.cancel()


def evaluate(model: Any, names: Sequence[str], feeds: Mapping[str, Any], limits: Limits) -> list[Any]:
    """The outputs of a ModelProto by ONNX's reference evaluator. LimitError where the limits do not suffice.

    Raises whatever the evaluator's code raises.
    """
    from onnx.reference import ReferenceEvaluator

    found = [op for op in op_types(model.graph) if op in _NEVER_EVALUATED]
    if found:
        raise LimitError(f"{found[0]} is not computed by ONNX's reference evaluator, which may take for ever")
    check_sizes(model, feeds, limits.memory // 8)
    with np.errstate(all="ignore"), _within(limits):
        return list(ReferenceEvaluator(model).run(list(names), dict(feeds)))


def op_types(graph: Any) -> Iterator[str]:
    """The op types of a GraphProto's nodes, those of their subgraphs included."""
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") or attribute.graphs else ():
                yield from op_types(inner)


@contextmanager
def _within(limits: Limits) -> Iterator[None]:
    end = time.thread_time() + limits.seconds

    def look(frame: FrameType, event: str, value: object) -> None:
        if time.thread_time() > end:
            raise _Expired

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    except _Expired as error:
        raise _too_long(limits) from error
    except RecursionError as error:
        raise LimitError("it is nested too deep") from error
    finally:
        sys.setprofile(before)


def _too_long(limits: Limits) -> LimitError:
    return LimitError(f"it takes longer than {limits.seconds:g} s")


def check_sizes(model: Any, feeds: Mapping[str, Any], elements: int) -> None:
    """LimitError if shape inference finds a value of more than `elements` elements; nothing is computed."""
    import onnx
    from onnx.helper import make_tensor_value_info, np_dtype_to_tensor_dtype

    light = onnx.ModelProto()
    light.CopyFrom(model)
    graph = light.graph
    for info in graph.input:
        array = feeds.get(info.name)
        if not isinstance(array, np.ndarray) or array.dtype.kind in "OSU":
            continue
        kind = np_dtype_to_tensor_dtype(array.dtype)
        info.CopyFrom(make_tensor_value_info(info.name, kind, array.shape))
        if array.size <= _SMALL and array.dtype.kind in "iufb":
            graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
    try:
        inferred = onnx.shape_inference.infer_shapes(light, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return  # where inference fails nothing is known
    for info in (*inferred.graph.value_info, *inferred.graph.output):
        dims = info.type.tensor_type.shape.dim
        size = prod(d.dim_value for d in dims)
        if size > elements and all(d.HasField("dim_value") for d in dims):
            shape = " x ".join(str(d.dim_value) for d in dims)
            raise LimitError(f"it makes a value of {shape} elements, more than {elements}")
