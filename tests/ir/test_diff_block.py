"""The diff-block op: closed forms, stability, pairings, tables, gradients, ONNX form, text, type rules."""

import math
import re

import numpy as np
import pytest
from gradient_checks import close, differences
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import run_ort

from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.op import IRError, NotDifferentiable
from mgc.ir.ops import DiffBlock, LossTable
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.types import DType, TensorType, tensor_type_of
from mgc.ir.verifier import verify
from mgc.passes.training.differentiate import gradients

FUNCTIONS = ("cross-entropy", "minimax", "least-squares", "wasserstein", "hinge")
SCORES = np.array(
    [-1e4, -777.7, -120, -90, -20, -17, -1, -1e-3, 0, 1e-3, 0.5, 1, 17, 20, 90, 120, 777.7, 1e4], np.float32
)
RELATIVE, ABSOLUTE = 1e-6, 1e-30


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def closed_form(op, u, t):
    """f(u) and f'(u), from definitions that share nothing with the op's."""
    match op.function:
        case "cross-entropy":
            return t * softplus(-u) + (1 - t) * softplus(u), (1 - t) * sigmoid(u) - t * sigmoid(-u)
        case "minimax":
            value, slope = closed_form(DiffBlock("cross-entropy"), u, t)
            return -value, -slope
        case "least-squares":
            return (u - t) ** 2, 2 * (u - t)
        case "wasserstein":
            return u, 1.0
    return max(0.0, op.sign * (u - t)), op.sign * float(op.sign * (u - t) > 0)


def near(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert np.isfinite(found).all()
    # float32 results: its own rounding, and its subnormal numbers, are not errors
    np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=ABSOLUTE)


def random_block(draw_function, pairing, target, sign, weight, count, targets):
    targets = targets and draw_function not in ("wasserstein",)
    return DiffBlock(draw_function, pairing, target, sign, weight, count, targets)


blocks = st.builds(
    random_block,
    st.sampled_from(FUNCTIONS),
    st.sampled_from(("single", "pair", "average")),
    st.sampled_from((0.0, 1.0, 0.9, 0.1, -1.0, 0.5)),
    st.sampled_from((1, -1)),
    st.sampled_from((1.0, 0.5, -2.0, 1 / 3)),
    st.sampled_from((0, 1, 64)),
    st.booleans(),
)


def operands(op, shape, scale=3.0, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    arrays = [(scale * rng.standard_normal(shape)).astype(dtype)]
    if op.scores == 2:
        arrays.append((scale * rng.standard_normal((5, 1) if op.pairing == "average" else shape)).astype(dtype))
    if op.targets:
        arrays.append(rng.random(shape).astype(dtype))
    return arrays


@settings(max_examples=150, deadline=None)
@given(blocks, st.sampled_from([(), (1,), (6, 1), (2, 1, 3, 3)]), st.sampled_from([1.0, 30.0, 3000.0]))
def test_loss_and_deltas_are_the_closed_forms(op, shape, scale):
    arrays = operands(op, shape, scale)
    loss, *deltas = op.evaluate(*arrays)
    a = arrays[0].astype(np.float64)
    u = a.copy()
    if op.pairing == "pair":
        u = a - arrays[1].astype(np.float64)
    elif op.pairing == "average":
        u = a - math.fsum(arrays[1].reshape(-1).tolist()) / arrays[1].size
    t = arrays[-1].astype(np.float64) if op.targets else np.full(shape, op.target)
    pairs = [closed_form(op, float(x), float(y)) for x, y in zip(u.reshape(-1), t.reshape(-1), strict=True)]
    k = op.weight / (op.count or a.size)
    values, slopes = np.array(pairs).reshape(-1, 2).T
    size = abs(k) * np.abs(values).sum()
    assert loss.dtype == np.float32
    assert loss.shape == ()
    np.testing.assert_allclose(float(loss), k * math.fsum(values), rtol=RELATIVE, atol=ABSOLUTE + 1e-13 * size)
    tolerance = {"rtol": RELATIVE, "atol": 1e-13 * abs(k) * (1 + np.abs(slopes).max())}
    np.testing.assert_allclose(deltas[0], (k * slopes).reshape(shape), **tolerance)
    if op.pairing == "pair":
        np.testing.assert_allclose(deltas[1], -(k * slopes).reshape(shape), **tolerance)
    if op.pairing == "average":
        np.testing.assert_allclose(deltas[1], np.full((5, 1), -k * math.fsum(slopes) / 5), **tolerance)


@pytest.mark.parametrize("target", [0.0, 1.0, 0.9, 0.3])
@pytest.mark.parametrize("function", ["cross-entropy", "minimax"])
def test_scores_up_to_ten_thousand_are_right_to_a_millionth(function, target):
    op = DiffBlock(function, target=target)
    for score in SCORES:
        loss, delta = op.evaluate(score.reshape(1, 1))
        value, slope = closed_form(op, float(score), target)
        near(loss, value)
        near(delta.item(), slope)


def test_where_the_exported_graphs_give_inf_or_nan():
    """The table of the numerics of exported graphs (targets 0 and 1), with PyTorch's own values."""
    scores = np.array([-120, -90, -20, 0, 17, 20, 90, 120], np.float32)
    for target, expected in (
        (
            0.0,
            [7.667648e-53, 8.194013e-40, 2.0611537e-09, math.log(2), 17.000000041399375, 20.000000002061153, 90, 120],
        ),
        (1.0, [120, 90, 20.00000000206115, math.log(2), 4.1399375e-08, 2.0611537e-09, 8.194013e-40, 7.667648e-53]),
    ):
        for score, value in zip(scores, expected, strict=True):
            near(DiffBlock("cross-entropy", target=target).evaluate(score.reshape(1))[0], value)


def graph_of(op, arrays):
    graph = Graph("block")
    inputs = [graph.add_input(f"x{i}", tensor_type_of(a)) for i, a in enumerate(arrays)]
    outputs = graph.add_multi(op, *inputs)
    graph.outputs += [(f"y{i}", v) for i, v in enumerate(outputs)]
    return graph


@settings(max_examples=60, deadline=None)
@given(blocks, st.sampled_from([(1,), (6, 1), (2, 1, 3, 3)]))
def test_onnx_runtime_agrees_with_the_meaning(op, shape):
    arrays = operands(op, shape)
    graph = graph_of(op, arrays)
    verify(graph)
    assert parse_graph(print_graph(graph)).nodes[0].op == op
    found = run_ort(graph, {f"x{i}": a for i, a in enumerate(arrays)})
    for i, value in enumerate(op.evaluate(*arrays)):
        assert found[f"y{i}"].dtype == value.dtype
        assert found[f"y{i}"].shape == value.shape
        size = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(found[f"y{i}"], value, rtol=2e-6, atol=1e-5 * size)


@pytest.mark.parametrize("target", [0.0, 1.0, 0.9])
def test_the_onnx_form_is_stable_too(target):
    op = DiffBlock("cross-entropy", target=target)
    for score in SCORES:
        x = score.reshape(1)
        found = run_ort(graph_of(op, [x]), {"x0": x})
        value, slope = closed_form(op, float(score), target)
        np.testing.assert_allclose([found["y0"], found["y1"].item()], [value, slope], rtol=2e-6, atol=1e-30)


@settings(max_examples=40, deadline=None)
@given(blocks)
def test_the_delta_is_the_numeric_derivative_of_the_loss(op):
    arrays = operands(op, (4, 1), seed=3, dtype=np.float64)
    graph = graph_of(op, arrays)
    feeds = {f"x{i}": a for i, a in enumerate(arrays)}
    found = evaluate(graph, feeds)
    for i in range(op.scores):
        close(found[f"y{i + 1}"], differences(graph, feeds, f"x{i}", "y0"))


@settings(max_examples=40, deadline=None)
@given(blocks)
def test_first_and_second_derivatives(op):
    """d (c loss + sum r delta) by every operand, against differences: the deltas' own cotangents go by f''."""
    arrays = operands(op, (3, 1), scale=1.0, seed=5, dtype=np.float64)
    graph = graph_of(op, arrays)
    build, outputs = Build(graph), dict(graph.outputs)
    total = build.mul(outputs["y0"], 0.7)
    rng = np.random.default_rng(2)
    for i in range(op.scores):
        delta = outputs[f"y{i + 1}"]
        total = build.add(total, build.total(build.mul(delta, build.array(rng.standard_normal(delta.shape)))))
    graph.outputs.append(("total", total))
    inputs = list(graph.inputs)
    for value, d in zip(inputs, gradients(graph, total, inputs), strict=True):
        graph.outputs.append((f"d.{value.name}", build.full(0.0, value) if d is None else d))
    graph.prune()
    verify(graph)
    feeds = {f"x{i}": a for i, a in enumerate(arrays)}
    found = evaluate(graph, feeds)
    for name in feeds:
        close(found[f"d.{name}"], differences(graph, feeds, name, "total"), 1e-5)


def test_the_delta_itself_is_the_gradient_of_a_loss_on_its_own():
    graph = graph_of(DiffBlock("cross-entropy", target=1.0), [np.zeros((4, 1), np.float32)])
    (found,) = gradients(graph, dict(graph.outputs)["y0"], graph.inputs)
    assert found is dict(graph.outputs)["y1"]


def test_label_smoothing_weights_and_sums():
    scores = np.array([[-1.5], [0.25], [2.0]], np.float32)
    smooth = DiffBlock("cross-entropy", target=0.9)
    mixed = 0.9 * DiffBlock("cross-entropy", target=1.0).evaluate(scores)[0]
    mixed += 0.1 * DiffBlock("cross-entropy", target=0.0).evaluate(scores)[0]
    near(smooth.evaluate(scores)[0], mixed)
    near(DiffBlock("least-squares", count=1).evaluate(scores)[0], 3 * DiffBlock("least-squares").evaluate(scores)[0])
    near(DiffBlock("hinge", weight=0.5).evaluate(scores)[1], 0.5 * DiffBlock("hinge").evaluate(scores)[1])
    # a block that sees a part of the batch
    parts = [DiffBlock("cross-entropy", count=3).evaluate(scores[i : i + 1])[0] for i in range(3)]
    near(sum(map(float, parts)), DiffBlock("cross-entropy").evaluate(scores)[0])


def test_kinds():
    assert DiffBlock("hinge").kind == "hinge"
    assert DiffBlock("hinge", "pair").kind == "relativistic"
    assert DiffBlock("least-squares", "average").kind == "relativistic-average"


# |u| by three segments and a step at 2 that f' has and f has not
TABLE = LossTable.of(
    np.array([[-1.0, 1, -1, -1, 0], [0.0, 0, 1, 1, 0], [2.0, 2, 1, 5, 0.5]]), -1.0, 3.0, 1e-6, 1e-5, (0.0, 2.0)
)


def test_tables_are_looked_up():
    op = DiffBlock("tabulated", table=TABLE, weight=2.0, count=1)
    scores = np.array([-3.0, -0.5, 0.0, 1.5, 2.0, 4.0], np.float32)
    loss, delta = op.evaluate(scores)
    assert float(loss) == 2 * (3 + 0.5 + 0 + 1.5 + 2 + 4)
    assert delta.tolist() == [-2, -2, 2, 2, 10, 12]
    graph = graph_of(op, [scores])
    assert parse_graph(print_graph(graph)).nodes[0].op == op
    found = run_ort(graph, {"x0": scores})
    assert float(found["y0"]) == float(loss)
    assert found["y1"].tolist() == delta.tolist()


def test_a_table_has_one_derivative_only():
    graph = graph_of(DiffBlock("tabulated", table=TABLE), [np.zeros(3, np.float32)])
    outputs = dict(graph.outputs)
    gradients(graph, outputs["y0"], graph.inputs)
    with pytest.raises(NotDifferentiable, match=r"diff_block: .*a tabulated loss has no second derivative"):
        gradients(graph, Build(graph).total(outputs["y1"]), graph.inputs)


BAD = [
    (DiffBlock("nll"), ["f32[2]"], "no function 'nll'; there are cross-entropy"),
    (DiffBlock("hinge", "mean"), ["f32[2]", "f32[2]"], "no pairing 'mean'"),
    (DiffBlock("hinge", sign=2), ["f32[2]"], "sign is 2"),
    (DiffBlock("hinge", count=-1), ["f32[2]"], "count is -1"),
    (DiffBlock("hinge", weight=math.inf), ["f32[2]"], "weight inf"),
    (DiffBlock("hinge"), ["i64[2]"], "a is i64[2]: float elements are needed"),
    (DiffBlock("hinge"), ["f32[0]"], "a is f32[0], which is empty"),
    (DiffBlock("hinge"), ["f32[2]", "f32[2]"], "takes 1 operands (a), got 2"),
    (DiffBlock("hinge", "pair"), ["f32[2]", "f32[2,1]"], "a is f32[2] but b is f32[2,1]: shapes differ"),
    (DiffBlock("hinge", "average"), ["f32[2]", "f64[3]"], "element types differ"),
    (DiffBlock("hinge", targets=True), ["f32[2]", "f32[3]"], "a is f32[2] but t is f32[3]"),
    (DiffBlock("wasserstein", targets=True), ["f32[2]", "f32[2]"], "function 'wasserstein' has no target"),
    (DiffBlock("tabulated"), ["f32[2]"], "function 'tabulated' with table None"),
    (DiffBlock("hinge", table=TABLE), ["f32[2]"], "function 'hinge' with table"),
    (DiffBlock("tabulated", table=LossTable(b"12", 0.0, 1.0, 0.0, 0.0)), ["f32[2]"], "its data is 2 bytes"),
    (
        DiffBlock("tabulated", table=LossTable.of(TABLE.segments[::-1], 0.0, 1.0, 0.0, 0.0)),
        ["f32[2]"],
        "the left ends of its segments do not ascend",
    ),
    (
        DiffBlock("tabulated", table=LossTable.of(TABLE.segments * np.nan, 0.0, 1.0, 0.0, 0.0)),
        ["f32[2]"],
        "its data is not finite",
    ),
]


@pytest.mark.parametrize(("op", "types", "message"), BAD)
def test_type_rules_say_what_is_wrong(op, types, message):
    def parsed(text):
        name, dims = text.rstrip("]").split("[")
        return TensorType(DType(name), tuple(int(d) for d in dims.split(",") if d))

    with pytest.raises(IRError, match=re.escape(message)) as error:
        op.infer(*map(parsed, types))
    assert str(error.value).startswith("diff_block: ")
