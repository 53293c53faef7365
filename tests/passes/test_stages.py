"""The stages of a small generator as text, and every level-1 stage of real models against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from pass_graphs import state_of

from mgc.frontend.exporter import export_graph
from mgc.frontend.importer import import_model
from mgc.ir.graph import Graph, evaluate
from mgc.ir.ops import BatchNorm, Binary, ConvTranspose, Unary
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.lowering.lower_linear import LowerLinear
from mgc.passes.quantizing.calibrate import Calibration
from mgc.passes.quantizing.quantize import Quantize
from mgc.passes.tensor.fold import Fold
from mgc.passes.tensor.split_batch import SplitBatch

MODELS = sorted((Path(__file__).parents[2] / "models").glob("*/*.onnx"))


def generator() -> Graph:
    """z[2, 2, 1, 1] -> images [2, 1, 4, 4], with whole-number weights."""
    graph = Graph("generator")
    z = graph.add_input("z", TensorType(DType.F32, (2, 2, 1, 1)))
    first = graph.add_constant(np.arange(-8, 8, dtype=np.float32).reshape(2, 2, 2, 2), "main.0.weight")
    x = graph.add(ConvTranspose((1, 1), (0,) * 4, (0, 0), (1, 1)), z, first, name="h", sources=("conv0",))
    scale, bias, mean, var = (
        graph.add_constant(np.array(v, np.float32), f"main.1.{n}")
        for n, v in (("weight", [2, 1]), ("bias", [1, -1]), ("mean", [0, 4]), ("var", [1, 4]))
    )
    x = graph.add(BatchNorm(0.0), x, scale, bias, mean, var, name="n", sources=("bn0",))
    x = graph.add(Unary("relu"), x, name="r", sources=("relu0",))
    second = graph.add_constant((np.arange(32, dtype=np.float32) - 16).reshape(2, 1, 4, 4), "main.3.weight")
    x = graph.add(ConvTranspose((2, 2), (1,) * 4, (0, 0), (1, 1)), x, second, name="c", sources=("conv1",))
    x = graph.add(Unary("tanh"), x, name="t", sources=("tanh0",))
    half = graph.add_constant(np.float32(0.5), "half")
    x = graph.add(Binary("mul"), x, half, name="image", sources=("mul",))
    graph.outputs = [("image", x)]
    return graph


def test_stages_of_a_small_generator(golden: Callable[[str, str], None]) -> None:
    state = state_of(generator(), batch=2, graph_batch=2, batched_inputs=("z",))
    for pass_, text in ((SplitBatch(), None), (Fold(), "fold"), (LowerLinear(), "lower-conv")):
        state = pass_.run(state)
        verify(state.graph, levels=pass_.levels)
        if text:
            golden(f"generator-{text}.ir", print_graph(state.graph))
        assert print_graph(parse_graph(print_graph(state.graph))) == print_graph(state.graph)
    ranges = {"z": (-4.0, 3.5), "r": (0.0, 51.0), "c": (-20.0, 20.0)}
    state.entry.attributes["calibration"] = Calibration((), ranges)
    state = Quantize("minmax").run(state)
    verify(state.graph, levels=(1, 2))
    golden("generator-quantize.ir", print_graph(state.graph, elide=True))


def session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def feeds_of(inputs: Sequence[tuple[str, tuple[int, ...]]]) -> Mapping[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in inputs}


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_level_1_stages_equal_the_model(path: Path) -> None:
    imported = import_model(path, batch=2)
    batched = tuple(i.name for i in imported.inputs if i.shape and i.shape[0] == imported.batch_dim)
    feeds = feeds_of([(v.name, v.shape) for v in imported.graph.inputs])
    expected = session(path.read_bytes()).run(None, dict(feeds))
    span = max(float(np.ptp(e)) for e in expected)
    state = state_of(imported.graph, batch=2, graph_batch=2, batched_inputs=batched)
    folded = Fold().run(state)
    results = session(export_graph(folded.graph).SerializeToString()).run(None, dict(feeds))
    for have, want in zip(results, expected, strict=True):
        assert np.max(np.abs(have - want)) <= 1e-5 * max(span, 1.0)
    # one sample at a time
    split = Fold().run(SplitBatch().run(state))
    assert (split.entry.micro_batch, split.entry.micro_batches, split.entry.batched) == (1, 2, True)
    model = session(export_graph(split.graph).SerializeToString())
    parts = [model.run(None, {k: a[i : i + 1] for k, a in feeds.items()}) for i in range(2)]
    for k, want in enumerate(expected):
        joined = np.concatenate([p[k] for p in parts])
        assert np.max(np.abs(joined - want)) <= 2e-5 * max(span, 1.0)
    lowered = LowerLinear().run(split).graph
    results = [evaluate(lowered, {k: a[i : i + 1] for k, a in feeds.items()}) for i in range(2)]
    for k, (name, want) in enumerate(zip((o.name for o in imported.outputs), expected, strict=True)):
        joined = np.concatenate([r[name] for r in results])
        assert np.max(np.abs(joined - want)) <= 2e-5 * max(span, 1.0), k
    # nothing is dropped silently, and nothing is folded twice
    held = {s for n in lowered.nodes for s in n.sources}
    assert held | set(lowered.absorbed) >= set(imported.node_names)
    assert not held & set(split.graph.absorbed)
    again = Fold().run(split)
    assert len(again.graph.nodes) == len(split.graph.nodes)


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_batch_norms_do_not_survive(path: Path) -> None:
    has = any(n.op_type == "BatchNormalization" for n in onnx.load(path).graph.node)
    graph = Fold().run(state_of(import_model(path, batch=2).graph)).graph
    assert not any(isinstance(n.op, BatchNorm) for n in graph.nodes), has
