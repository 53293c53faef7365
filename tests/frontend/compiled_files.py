"""Models compiled and run beside ONNX Runtime: where their products went, and how near the results are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto

import mgc
from mgc.evaluation.precise_model import unsigned
from mgc.isa.program import Program
from mgc.report.views.summary import headline


def reference(model: ModelProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All outputs in ONNX Runtime, every node as it stands in the model, without saturation in integer products."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(unsigned(model).SerializeToString(), options)
    names = [o.name for o in model.graph.output]
    return dict(zip(names, map(np.asarray, session.run(names, dict(feeds))), strict=True))


def elsewhere(program: Program) -> list[dict[str, Any]]:
    """The products that are not on crossbars, and what is on the host."""
    shown = headline(program)
    return [*shown["products_off_crossbars"], *shown["host_op_types"]]


def simulated(
    program: Program, feeds: Mapping[str, np.ndarray], numerics: str = "float", engine: str = "fast"
) -> dict[str, np.ndarray]:
    """All outputs of a run."""
    return mgc.Simulator(program, numerics=numerics, engine=engine).run(feeds)  # type: ignore[arg-type]


def off(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference, as a share of the largest number wanted."""
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    difference = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    return float(difference.max(initial=0.0) / (np.abs(wanted.astype(np.float64)).max(initial=0.0) or 1.0))
