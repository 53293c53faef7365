"""Trains with a training iteration, in ONNX Runtime or in NumPy's float64, and compares with what PyTorch recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from iterations import Iteration, Step

from mgc.frontend import export_graph
from mgc.frontend.training_model import TrainableModel, load_trainable
from mgc.ir.graph import Constant, Graph, Value
from mgc.ir.module import Entry
from mgc.ir.ops import Adam, Cast, RmsProp, Sgd
from mgc.ir.types import DType
from mgc.passes.training.model import Weights

DATA = Path(__file__).parents[2] / "data" / "training"
# those of tests/data/training/make.py
RULES = {"sgd": Sgd(0.05), "momentum": Sgd(0.02, 0.9), "adam": Adam(2e-3, 0.5, 0.999), "rmsprop": RmsProp(1e-3)}
# the same as the compiler's options
OPTIMIZERS: dict[str, dict] = {
    "sgd": {"optimizer": "sgd", "lr": 0.05},
    "momentum": {"optimizer": "momentum", "lr": 0.02},
    "adam": {"optimizer": "adam", "lr": 2e-3, "betas": (0.5, 0.999)},
    "rmsprop": {"optimizer": "rmsprop", "lr": 1e-3},
}
BATCH = 4
ITERATIONS = 4

Arrays = dict[str, np.ndarray]


def load(name: str) -> TrainableModel:
    return load_trainable(DATA / f"{name}.onnx", batch=BATCH)


def network(model: TrainableModel) -> Entry:
    weights = Weights(model.weights, model.parameters)
    return Entry("network", "train", model.imported.graph, attributes={"weights": weights})


class OrtStep:
    """A training step exported to plain ONNX, in ONNX Runtime."""

    def __init__(self, step: Step) -> None:
        self.step = step
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(export_graph(step.graph).SerializeToString(), options)

    def run(self, data: Mapping[str, np.ndarray], states: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
        feeds = {**{s.name: states[s.name] for s in self.step.states}, **data}
        names = [o.name for o in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(names, feeds), strict=True))
        written = {s.name: found[s.next] for s in self.step.written()}
        return {name: found[name] for name in self.step.losses}, {**states, **written}


def in_float64(step: Step) -> Step:
    """The same step with every float32 as float64."""
    source, new = step.graph, Graph(step.graph.name)
    image: dict[Value, Value] = {}

    def wide(type_):
        return type_.with_dtype(DType.F64) if type_.dtype is DType.F32 else type_

    for value in source.inputs:
        image[value] = new.add_input(value.name, wide(value.type))
    for value, held in source.constants.items():
        data = held.data.astype(np.float64) if held.data.dtype == np.float32 else held.data
        image[value] = Value(value.name, wide(value.type))
        new.constants[image[value]] = Constant(image[value], data)
    for node in source.nodes:
        op = Cast(DType.F64) if node.op == Cast(DType.F32) else node.op
        made = new.add_multi(op, *(image[v] for v in node.inputs), names=[v.name for v in node.outputs])
        image.update(zip(node.outputs, made, strict=True))
    new.outputs = [(name, image[v]) for name, v in source.outputs]
    states = tuple(replace(s, initial=s.initial.astype(np.float64)) for s in step.states)
    return replace(step, graph=new, states=states)


def recorded(archive: Mapping[str, np.ndarray], run: str) -> Arrays:
    return {k.removeprefix(f"{run}/"): archive[k] for k in archive if k.startswith(f"{run}/")}


def follow(
    iteration: Iteration,
    data: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    qualified: Mapping[str, str],
    *,
    initial: Mapping[str, np.ndarray] | None = None,
    float64: bool = False,
    tolerance: float = 1e-3,
) -> None:
    """Runs the iterations that PyTorch recorded and compares all losses, parameters and statistics after each.

    `qualified` maps the states that are compared to PyTorch's names; weights that an exporter transposed are
    transposed back.
    """
    (step,) = iteration.steps
    step = in_float64(step) if float64 else step
    runner = step if float64 else OrtStep(step)
    # what does not affect any loss is not in the step, and stays as it is
    states = {**(initial or {}), **{s.name: s.initial for s in step.states}}
    compared = set()
    for i in range(ITERATIONS):
        now = {d.name: data[d.name][i] for d in step.data}
        if float64:
            now = {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in now.items()}
        losses, states = runner.run(now, states)
        for name, loss in losses.items():
            np.testing.assert_allclose(
                loss,
                expected[f"losses/{name}"][i],
                rtol=tolerance,
                atol=tolerance * 1e-2,
                err_msg=f"{name}, iteration {i}",
            )
        for name, key in qualified.items():
            found, right = states[name], expected[key][i]
            if found.shape != right.shape:
                found = found.T.reshape(right.shape)
            scale = float(np.max(np.abs(right)))
            np.testing.assert_allclose(
                found,
                right,
                rtol=tolerance,
                atol=max(tolerance * 0.1 * scale, 1e-9),
                err_msg=f"{name} ({key}), iteration {i}",
            )
            compared.add(key)
    missing = {k for k in expected if not k.startswith("losses/")} - compared
    assert not missing, f"not compared: {sorted(missing)}"
