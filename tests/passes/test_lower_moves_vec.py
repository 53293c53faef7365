"""lower-moves and lower-vec: equal results, structure, accounting."""

import numpy as np
import pytest
from hypothesis import given, settings
from move_graphs import move_graphs

from mgc.ir import ops
from mgc.ir.graph import Graph, evaluate
from mgc.ir.mapped import Copy, Dequant, Quant, Vec, View
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.lowering.lower_moves import lower_moves
from mgc.passes.lowering.lower_vec import lower_vec
from mgc.passes.lowering.pieces import runs
from mgc.passes.manager import UnsupportedError
from mgc.passes.streaming.analysis import best_split

F32 = DType.F32


def accounted(g: Graph) -> set[str]:
    return {s for n in g.nodes for s in n.sources} | set(g.absorbed)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@settings(max_examples=300, deadline=None)
@given(move_graphs())
def test_results_stay_equal_to_the_bit_and_every_source_is_accounted_for(case):
    g, feeds = case
    want = evaluate(g, feeds)
    moved = lower_moves(g.copy())
    verify(moved, levels=(1, 2))
    left = (ops.Reshape, ops.Transpose, ops.Slice, ops.Expand, ops.Concat, ops.Pad)
    assert not any(isinstance(n.op, left) for n in moved.nodes)
    fused = lower_vec(moved.copy())
    verify(fused, levels=(1, 2))
    assert all(isinstance(n.op, Copy | View | Vec) for n in fused.nodes)
    for stage in (moved, fused):
        got = evaluate(stage, feeds)
        assert all(same_bits(got[k], want[k]) for k in want)
        assert accounted(stage) >= accounted(g)


def single(op, *shape, then=()):
    g = Graph()
    x = g.add_input("x", TensorType(F32, shape))
    y = g.add(op, x, sources=["first"])
    for k, more in enumerate(then):
        y = g.add(more, y, sources=[f"then{k}"])
    g.outputs = [("y", y)]
    return lower_moves(g)


def test_reshape_and_moves_of_unit_axes_are_views():
    for g in (single(ops.Reshape((6,)), 2, 3), single(ops.Transpose((1, 0, 2)), 1, 3, 4)):
        (node,) = g.nodes
        assert isinstance(node.op, View)


def test_moves_that_cancel_leave_nothing_and_say_so():
    g = single(ops.Transpose((1, 0)), 2, 3, then=[ops.Transpose((1, 0))])
    assert not g.nodes
    assert g.outputs[0][1] is g.inputs[0]
    assert set(g.absorbed) == {"first", "then0"}


def test_depth_to_space_is_one_copy():
    g = single(
        ops.Reshape((1, 2, 2, 3, 4, 5)),
        1,
        12,
        4,
        5,
        then=[ops.Transpose((0, 3, 4, 1, 5, 2)), ops.Reshape((1, 3, 8, 10))],
    )
    copy, view = g.nodes
    assert isinstance(copy.op, Copy)
    assert len(copy.op.pieces) == 1
    assert isinstance(view.op, View)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_padding_two_axes_is_nine_pieces(mode):
    (node,) = single(ops.Pad((0, 0, 3, 3, 0, 0, 3, 3), mode), 1, 8, 8, 8).nodes
    assert isinstance(node.op, Copy)
    assert len(node.op.pieces) == 9


def test_padding_past_the_limit_becomes_gathers():
    g = single(ops.Pad((20, 20, 20, 20), "reflect"), 3, 3)
    assert [type(n.op) for n in g.nodes] == [ops.Gather, ops.Gather]


def test_nearest_upsampling_is_one_piece():
    index = np.repeat(np.arange(8), 2)
    (run,) = runs(index)
    assert run.extents == (8, 2)
    assert run.steps == (1, 0)


def test_constant_moves_are_folded():
    g = Graph()
    c = g.add_constant(np.arange(6, dtype=np.float32).reshape(2, 3))
    g.outputs = [("y", g.add(ops.Transpose((1, 0)), c, sources=["t"]))]
    lower_moves(g)
    assert not g.nodes
    assert "t" in g.absorbed


def test_quant_goes_ahead_of_concat_and_activation():
    g = Graph()
    a, b = (g.add_input(n, TensorType(F32, (1, 2, 3, 3))) for n in "ab")
    y = g.add(ops.Unary("relu"), g.add(ops.Concat(1), a, b, sources=["cat"]), sources=["relu"])
    g.outputs = [("y", g.add(Quant(0.1, 0, 255, DType.U8), y))]
    lower_vec(lower_moves(g))
    kinds = [type(n.op) for n in g.nodes]
    assert kinds == [Vec, Vec, Copy]
    assert g.nodes[-1].outputs[0].tensor.dtype is DType.U8


def test_dequant_activation_quant_is_one_kernel_with_two_results():
    g = Graph()
    acc = g.add_input("acc", TensorType(DType.I64, (1, 2, 3, 3)))
    column = TensorType(DType.F64, (1, 2, 1, 1))
    scale, bias, real = (g.add_constant(np.ones(column.shape)) for _ in range(3))
    y = g.add(ops.Unary("relu"), g.add(Dequant(), acc, scale, bias, real, sources=["conv"]), sources=["relu"])
    q = g.add(Quant(0.1, 0, 255, DType.U8), y, sources=["next"])
    g.outputs = [("y", y), ("q", q)]
    lower_vec(g)
    (node,) = g.nodes
    assert node.outputs == (y, q)
    assert node.sources == ("conv", "relu", "next")
    assert len(node.op.steps) == 3


def test_a_branch_through_a_move_is_not_fused_into_a_cycle():
    g = Graph()
    x = g.add_input("x", TensorType(F32, (2, 2)))
    a = g.add(ops.Unary("relu"), x)
    t = g.add(ops.Transpose((1, 0)), a)
    g.outputs = [("y", g.add(ops.Binary("add"), a, g.add(ops.Unary("neg"), t)))]
    lower_vec(lower_moves(g))
    assert [type(n.op) for n in g.nodes] == [Vec, Copy, Vec]


def test_an_op_without_unit_is_refused_by_name():
    g = Graph()
    x = g.add_input("x", TensorType(F32, (1, 1, 3, 3)))
    w = g.add_constant(np.ones((1, 1, 1, 1), np.float32))
    g.outputs = [("y", g.add(ops.Conv((1, 1), (0, 0, 0, 0), (1, 1)), x, w, sources=["/conv"]))]
    with pytest.raises(UnsupportedError, match=r"conv .of /conv."):
        lower_vec(g)


def test_work_that_meets_itself_on_its_way_up_is_done_once():
    g = Graph()
    x = g.add_input("x", TensorType(F32, (1, 2, 3, 3)))
    a, b = (g.add(ops.Pad((0, 0, k, k, 0, 0, k, k)), x, sources=[f"pad{k}"]) for k in (1, 2))
    outs = [g.add(Quant(0.1, -128, 127, DType.I8), v, sources=[f"quant{k}"]) for k, v in enumerate((a, b))]
    g.outputs = [(f"y{k}", v) for k, v in enumerate(outs)]
    lower_vec(lower_moves(g))
    assert [type(n.op) for n in g.nodes] == [Vec, Copy, Copy]
    assert g.nodes[0].sources == ("quant0", "quant1")


def centred_graph() -> Graph:
    """x less its mean over the batch, read before a sum over the batch and again after it."""
    g = Graph()
    x, w = (g.add_input(n, TensorType(F32, (8, 4, 6, 6))) for n in ("x", "w"))
    size = g.add(ops.Unary("relu"), x)
    mean = g.add(ops.Reduce("mean", (0, 2, 3)), size)
    centred = g.add(ops.Binary("sub"), size, mean, name="centred")
    total = g.add(ops.Reduce("sum", (0, 2, 3)), g.add(ops.Binary("mul"), centred, w))
    g.outputs = [("size", size), ("y", g.add(ops.Binary("mul"), centred, total))]
    return g


def test_what_is_quick_to_make_again_is_not_stored():
    g = centred_graph()
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in g.inputs}
    want = evaluate(g, feeds)
    fused = lower_vec(g, {}, best_split(g, ["x", "w"], (), 8))
    verify(fused, levels=(1, 2))
    found = evaluate(fused, feeds)
    assert all(same_bits(found[name], want[name]) for name in want)
    assert [len(op.steps) for op in (n.op for n in fused.nodes) if isinstance(op, Vec)] == [2, 3, 2]
    large = {v.name for n in fused.nodes for v in n.outputs if v.tensor.size > 4}
    assert len(large) == 2  # the outputs: kernels centre x themselves


def test_a_version_that_is_overwritten_is_not_read_later_for_it():
    g = Graph()
    x, row = g.add_input("x", TensorType(F32, (8, 4, 6, 6))), g.add_input("row", TensorType(F32, (1, 4, 1, 1)))
    moved = g.add(ops.Binary("sub"), g.add(ops.Unary("relu"), x), row)
    total = g.add(ops.Reduce("sum", (0, 2, 3)), moved)
    g.outputs = [("y", g.add(ops.Binary("mul"), moved, total))]
    lower_vec(g, {row: "row"}, best_split(g, ["x"], (), 8))
    assert sum(row in n.inputs for n in g.nodes) == 1
