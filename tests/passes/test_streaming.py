"""How a batch flows through graphs: part by part, added up, or at once; checked against what it means to run a part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.ir.flow import reshaped
from mgc.ir.graph import Graph
from mgc.ir.mapped import Copy, Layout, Mvm, MvmPart, Outer, Piece, QuantBy, View, Windows
from mgc.ir.ops import Binary, DiffBlock, Reduce, Reshape, Sgd, Unary, Update
from mgc.ir.types import DType, TensorType
from mgc.passes.lowering.lower_vec import lower_vec
from mgc.passes.streaming.analysis import best_split, streaming_of

BATCH, GROUPS = 8, 4


def tensor(*shape, dtype=DType.F32):
    return TensorType(dtype, shape)


def one(op, types, axes, split=4):
    results = op.infer(*types)
    return op.flow(types, axes, results, split)


X = tensor(BATCH, 3, 2)


@pytest.mark.parametrize(
    ("op", "types", "axes", "expected"),
    [
        (Unary("relu"), [X], [0], (True, (0,))),
        (Binary("add"), [X, tensor(3, 2)], [0, None], (True, (0,))),  # a whole operand is broadcast
        (Binary("add"), [X, X], [0, None], (True, (0,))),  # a whole operand of full size is read where it is
        (Binary("mul"), [tensor(BATCH, 8), tensor(8)], [0, 0], (False, (None,))),  # two axes that are not one
        (Reduce("sum", (1, 2), False), [X], [0], (True, (0,))),
        (Reduce("max", (1,), False), [tensor(3, 2, BATCH)], [2], (True, (1,))),
        (Reduce("mean", (0,), False), [X], [0], (True, (None,))),  # complete after the last part
        (Reduce("mean", (0, 2), True), [X], [0], (True, (None,))),
        (View((BATCH * 3, 2)), [X], [0], (True, (0,))),
        (View((3, BATCH, 2)), [X], [0], (True, (None,))),
        (DiffBlock("cross-entropy"), [tensor(BATCH, 1)], [0], (True, (None, 0))),
        (DiffBlock("cross-entropy", pairing="average"), [tensor(BATCH, 1)] * 2, [0, 0], (False, (None,) * 3)),
    ],
)
def test_flow_of_ops(op, types, axes, expected):
    flow = one(op, types, axes)
    assert (flow.streamed, flow.axes) == expected


@given(st.permutations([0, 1, 2]), st.sampled_from([2, 4, 8]))
def test_a_copy_goes_by_parts_if_and_only_if_its_parts_come_from_the_same_parts(axes, split):
    shape = (BATCH, 3, 2)
    strides = [int(s) for s in np.array([6, 2, 1])[axes]]
    moved = tuple(shape[a] for a in axes)
    copy = Copy((Piece(0, moved, 0, tuple(strides), 0, Layout.nchw(moved).strides),), tensor(*moved))
    flow = one(copy, [X], [0], split)
    assert flow.streamed == (axes[0] == 0)
    if flow.streamed:
        x = np.arange(48, dtype=np.float32).reshape(shape)
        (y,) = copy.evaluate(x)
        part = x.copy()
        part[BATCH // split :] = -1  # what the first part of the result does not need
        assert np.array_equal(copy.evaluate(part)[0][: BATCH // split], y[: BATCH // split])


@given(st.integers(0, 2), st.sampled_from([(4, 6, 8), (4, 48), (24, 8), (4, 2, 3, 8), (192,)]))
def test_a_reshape_keeps_the_elements_of_each_part(axis, new):
    old, split = (4, 6, 8), 2
    found = reshaped(axis, old, new, split)
    labels = np.zeros(old, int)
    labels += np.expand_dims(np.arange(old[axis]) // (old[axis] // split), [a for a in range(3) if a != axis])
    if found is not None:
        told = np.arange(new[found]) // (new[found] // split)
        shape = [1] * len(new)
        shape[found] = new[found]
        assert np.array_equal(labels.reshape(new), np.broadcast_to(told.reshape(shape), new))


def product():
    windows = Windows((1,), (1,), (0,), (1,), (1,), (0,), (1,))
    part = MvmPart("w", 1, 3, 2, "channel-major", windows)
    layouts = Layout((BATCH, 3, 1), (3, 1, 3)), Layout((BATCH, 2, 1), (2, 1, 2))
    return Mvm((part,), *layouts, (BATCH, 2)), Outer((part,), *layouts)


def test_products_go_by_parts_and_weight_gradients_add_up():
    mvm, outer = product()
    rows, errors, weights = tensor(BATCH, 3), tensor(BATCH, 2), tensor(1, 3, 2)
    assert one(mvm, [rows, weights], [0, None]) == (True, (0,))
    assert one(outer, [rows, errors], [0, 0]) == (True, (None,))
    assert one(mvm, [rows, weights], [1, None], split=3) == (False, (None,))
    assert not one(outer, [rows, errors], [0, 0], split=5).streamed


def quantised(groups):
    """x -> codes with a scale of the whole batch (groups = 0), or one for each of some groups of samples."""
    graph = Graph("codes")
    x = graph.add_input("x", tensor(BATCH, 6))
    size = graph.add(Unary("abs"), x)
    if not groups:
        scale = graph.add(Reduce("max", (0, 1), False), size)
        codes = graph.add(QuantBy(-127, 127, DType.I8), x, scale)
    else:
        shape = (groups, BATCH // groups, 6)
        grouped = graph.add(Reshape(shape), size)
        scale = graph.add(Reduce("max", (1, 2), True), grouped)
        codes = graph.add(QuantBy(-127, 127, DType.I8), graph.add(Reshape(shape), x), scale)
        codes = graph.add(Reshape((BATCH, 6)), codes)
    graph.outputs = [("codes", codes)]
    for node in graph.nodes:
        if isinstance(node.op, Reshape):
            node.op = View(node.op.shape)
    return graph


def test_a_scale_of_the_whole_batch_is_a_barrier():
    graph = quantised(0)
    found = best_split(graph, ["x"], (), BATCH)
    assert found.split == BATCH
    fused = lower_vec(graph, None, found)
    # the maximum is complete after the last part, only then are codes made
    assert len([n for n in fused.nodes if n.op.name == "vec"]) == 2


@pytest.mark.parametrize("split", [2, 4, 8])
def test_scales_of_groups_are_none_if_parts_are_groups_or_several(split):
    graph = quantised(GROUPS)
    found = streaming_of(graph, ["x"], (), split)
    codes = graph.outputs[0][1]
    assert (found.axes.get(codes) == 0) == (split <= GROUPS)
    assert best_split(graph, ["x"], (), BATCH).split == GROUPS
    if split <= GROUPS:
        fused = lower_vec(quantised(GROUPS), None, streaming_of(quantised(GROUPS), ["x"], (), split))
        assert fused.nodes


def test_what_is_written_in_the_place_of_a_version_happens_at_once():
    graph = Graph("update")
    x, w = graph.add_input("x", tensor(BATCH, 2)), graph.add_input("w", tensor(2))
    gradient = graph.add(Reduce("sum", (0,), False), x)
    (new,) = graph.add_multi(Update(Sgd(0.1)), w, gradient, names=["new"])
    graph.outputs = [("w.next", new)]
    found = streaming_of(graph, ["x"], {new}, 4)
    assert [n.op.name for n in graph.nodes if n in found.nodes] == ["reduce"]
    assert gradient not in found.axes


def test_fewer_parts_keep_what_more_parts_allow():
    graph = quantised(GROUPS)
    fine = streaming_of(graph, ["x"], (), 4)
    coarse = streaming_of(graph, ["x"], (), 2)
    assert fine.nodes <= coarse.nodes
    assert fine.coarser(2).split == 2
    with pytest.raises(ValueError, match="do not go into"):
        fine.coarser(3)
