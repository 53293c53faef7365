"""What the passes make of a tiny training step, as golden text; versions in their order."""

import numpy as np
import pytest
from steps import step_of, to_homes

from mgc.ir.graph import Graph, evaluate
from mgc.ir.mapped import UpdateCells
from mgc.ir.ops import Adam, Binary, Reduce, Sgd, Update
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.lowering.lower_moves import lower_moves
from mgc.passes.lowering.lower_vec import lower_vec
from mgc.passes.lowering.trained.entries import lower_training
from mgc.passes.lowering.versions import homes_of, is_update, order, settle
from mgc.passes.manager import UnsupportedError
from mgc.passes.quantizing.on_chip import quantize_training
from mgc.passes.tensor.prepare import prepare
from mgc.targets.loader import load_target

TARGET = load_target("liu2018")
BITS = {"weight_bits": TARGET.training.master_bits}
WIDE = TARGET.model_copy(update={"crossbar": TARGET.crossbar.model_copy(update=BITS)})


def tiny():
    """Two layers without a bias, and an offset that is a state of its own."""
    weights = {
        "a.weight": np.array([[0.5, -0.25], [0.125, 1.0]], np.float32),
        "b.weight": np.array([[1.0], [-0.5]], np.float32),
        "b.bias": np.array([0.25], np.float32),
    }

    def make(build, values):
        hidden = build.unary("relu", build.matmul(values["x"], values["a.weight"]))
        return build.add(build.matmul(hidden, values["b.weight"]), values["b.bias"])

    return step_of(make, {"x": (3, 2)}, weights, Adam(0.5, 0.5, 0.75))


def test_stages_of_a_tiny_step(golden):
    step = tiny()
    lowered = lower_training([prepare(step.graph)], step.states, TARGET)
    (graph,) = lowered.graphs
    names = [r.name for r in lowered.residents.all]

    def check(stage):
        verify(graph, levels=(1, 2))
        text = print_graph(graph)
        assert print_graph(parse_graph(text)) == text
        golden(f"tiny-{stage}.ir", text)

    check("lower-training")
    graph = quantize_training(graph, lowered.residents, WIDE, 3)
    check("quantize")
    lower_moves(graph)
    settle(graph, names)
    order(graph, homes_of(graph, names))
    lower_vec(graph, homes_of(graph, names))
    order(graph, homes_of(graph, names))
    check("lower-vec")


def test_codes_are_shared_and_unsigned_where_they_can_be():
    step = tiny()
    lowered = lower_training([prepare(step.graph)], step.states, TARGET)
    graph = quantize_training(lowered.graphs[0], lowered.residents, WIDE, 3)
    coded = [n for n in graph.nodes if n.op.name == "quant_by"]
    # x, the hidden layer, and the errors of both layers: each once, though forward and weight gradient read it
    assert len(coded) == 4
    hidden = [n for n in coded if n.outputs[0].tensor.dtype is DType.U8]
    assert len(hidden) == 1


def test_errors_are_dithered_and_activations_are_not():
    step = tiny()
    lowered = lower_training([prepare(step.graph)], step.states, TARGET)
    graph = quantize_training(lowered.graphs[0], lowered.residents, WIDE, 3)
    coded = {n.outputs[0]: n for n in graph.nodes if n.op.name == "quant_by"}
    read = {
        node.op.name: {v for v in node.inputs if v in coded} for node in graph.nodes if node.op.name in ("mvm", "mvm_t")
    }
    assert all(not coded[v].op.dithered for v in read["mvm"])
    assert all(coded[v].op.dithered for v in read["mvm_t"])
    for outer in (n for n in graph.nodes if n.op.name == "outer"):
        assert [coded[v].op.dithered for v in outer.inputs if v in coded] == [False, True]
    offsets = {graph.constants[n.inputs[2]].data.tobytes(): n.inputs[2] for n in coded.values() if n.op.dithered}
    (dither,) = offsets.values()
    np.testing.assert_allclose(np.sort(graph.constants[dither].data, 0), [[-1 / 3], [0], [1 / 3]], atol=1e-6)


def test_scales_of_zeros_are_one():
    """Nothing to stream: the codes are zero and the sums come out as zero, not as NaN."""
    step = tiny()
    lowered = lower_training([prepare(step.graph)], step.states, TARGET)
    graph = quantize_training(lowered.graphs[0], lowered.residents, WIDE, 3)
    homes = to_homes(lowered.residents, {s.name: s.initial for s in step.states})
    scales = {r.name: r.weight_scale for r in lowered.residents.groups}
    cells = {n: np.rint(homes[n] / s).astype(np.int16) for n, s in scales.items()}
    feeds = {"x": np.zeros((3, 2), np.float32), "target": np.zeros((3, 1), np.float32)}
    out = evaluate(graph, {**homes, **cells, **feeds})
    assert out["loss"] == 0
    assert all(np.array_equal(out[f"{n}.next"], cells[n]) for n in cells)


def scalar(graph, name):
    return graph.add_input(name, TensorType(DType.F32, (2,)))


def versions(*, late_reader):
    """w is read by `early`, updated, and read again by `late` - of the new version, or of the old one after it."""
    graph = Graph("versions")
    w, g = scalar(graph, "w"), scalar(graph, "g")
    (new,) = graph.add_multi(Update(Sgd(0.1)), w, g, names=["w.new"])
    late = graph.add(Binary("mul"), w, new, name="late") if late_reader else graph.add(Binary("mul"), new, new)
    early = graph.add(Binary("add"), w, w, name="early")
    graph.outputs = [("y", late), ("z", early), ("w.next", new)]
    return graph


def test_readers_of_a_version_come_before_the_next():
    graph = versions(late_reader=False)
    homes = homes_of(graph, ["w"])
    order(graph, homes)
    kinds = [n.outputs[0].name for n in graph.nodes]
    assert kinds.index("early") < kinds.index("w.new")
    update = next(n for n in graph.nodes if is_update(n))
    assert homes[update.outputs[0]] == "w"


def test_an_old_version_that_is_needed_after_the_new_one_is_refused():
    graph = versions(late_reader=True)
    with pytest.raises(UnsupportedError, match="overwrites an old version"):
        order(graph, homes_of(graph, ["w"]))


def test_what_no_update_writes_is_copied_into_place_last():
    graph = Graph("statistic")
    mean, x = scalar(graph, "mean"), scalar(graph, "x")
    new = graph.add(Binary("add"), mean, x, name="mean.new")
    seen = graph.add(Binary("mul"), mean, x, name="seen")
    total = graph.add(Reduce("sum", (0,), False), seen, name="total")
    graph.outputs = [("mean.next", new), ("y", total)]
    settle(graph, ["mean"])
    homes = homes_of(graph, ["mean"])
    order(graph, homes)
    copy = next(n for n in graph.nodes if n.op.name == "copy")
    assert homes[copy.outputs[0]] == "mean"
    assert graph.nodes.index(copy) > max(k for k, n in enumerate(graph.nodes) if mean in n.inputs)


def test_an_update_of_what_is_computed_is_refused():
    graph = Graph("computed")
    w, g = scalar(graph, "w"), scalar(graph, "g")
    double = graph.add(Binary("add"), w, w, name="double")
    (new,) = graph.add_multi(Update(Sgd(0.1)), double, g, names=["new"])
    graph.outputs = [("w.next", new)]
    with pytest.raises(UnsupportedError, match="update of %double, which is computed"):
        homes_of(graph, ["w"])


def test_updates_of_cells_name_their_scale_and_bits():
    step = tiny()
    lowered = lower_training([step.graph], step.states, TARGET)
    scales = {r.name: r.weight_scale for r in lowered.residents.groups}
    updates = [n for n in lowered.graphs[0].nodes if isinstance(n.op, UpdateCells)]
    assert [n.op.weight_scale for n in updates] == [scales[n.inputs[0].name] for n in updates]
    assert {n.op.weight_bits for n in updates} == {TARGET.training.master_bits}
