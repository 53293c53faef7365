"""lower-conv: the products equal the level-1 op, nothing stuffed is stored, and the counts are the design's."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import state_of, weighted

from mgc.ir.graph import Graph, evaluate
from mgc.ir.mapped import Mvm
from mgc.ir.ops import Binary, Conv, ConvTranspose, Host, MatMul
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.lowering.lower_linear import LowerLinear
from mgc.passes.manager import Tools
from mgc.passes.mapping.work import macs_mapped, row_block_mvms, totals


def lowered(graph: Graph) -> Graph:
    result = LowerLinear().run(state_of(graph)).graph
    verify(result, levels=(1, 2))
    return result


def mvm_of(graph: Graph) -> Mvm:
    (op,) = (n.op for n in graph.nodes if isinstance(n.op, Mvm))
    return op


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small integers in float32: products and sums are exact, so results can be compared for equality."""
    return rng.integers(-4, 5, shape).astype(np.float32)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Any, ...]:
    rank = draw(st.integers(1, 3))
    most = {1: 9, 2: 5, 3: 3}[rank]

    def axis(lo: int, hi: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(lo, hi)) for _ in range(rank))

    op_class = draw(st.sampled_from([Conv, ConvTranspose]))
    kernel, strides, dilations = axis(1, 5 if rank < 3 else 3), axis(1, 4), axis(1, 4)
    groups, per_in, per_out = (draw(st.integers(1, 3)) for _ in range(3))
    spatial = axis(1, most)
    pads = axis(0, 4) + axis(0, 4)
    batch = draw(st.integers(1, 2))
    x = (batch, groups * per_in, *spatial)
    if op_class is Conv:
        op = Conv(strides, pads, dilations, groups)
        w = (groups * per_out, per_in, *kernel)
    else:
        extra = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True))
        op = ConvTranspose(strides, pads, extra, dilations, groups)
        w = (groups * per_in, per_out, *kernel)
    return op, x, w


@settings(max_examples=300, deadline=None)
@given(convolutions(), st.integers(0, 2**32 - 1))
def test_convolutions_equal_their_products(case: tuple[Any, ...], seed: int) -> None:
    op, x_shape, w_shape = case
    try:
        op.infer(TensorType(DType.F32, x_shape), TensorType(DType.F32, w_shape))
    except ValueError:
        return  # pads leave nothing
    rng = np.random.default_rng(seed)
    x, w = integers(rng, *x_shape), integers(rng, *w_shape)
    graph = weighted(op, x, w)
    result = lowered(graph)
    np.testing.assert_array_equal(evaluate(result, {"x": x})["y"], evaluate(graph, {"x": x})["y"])
    mvms = [n.op for n in result.nodes if isinstance(n.op, Mvm)]
    if not mvms:
        assert "/model/layer/Op" in result.absorbed  # every tap meets padding only
        return
    (mvm,) = mvms
    assert len({p.name for p in mvm.parts}) == len(mvm.parts)
    # no weight is stored twice, none is invented
    stored = sum(p.matrices * p.rows * p.cols for p in mvm.parts)
    assert stored <= w.size


SHAPES_MATMUL = [
    ((5, 7), (7, 3), False),
    ((7,), (7, 3), False),
    ((2, 5, 7), (7,), False),
    ((1, 5, 7), (7, 3), False),
    ((2, 4, 5, 7), (7, 3), False),
    ((2, 4, 5, 7), (4, 7, 3), False),
    ((4, 5, 7), (4, 7, 3), False),
    ((5, 7), (4, 7, 3), False),
    ((1, 2, 5, 7), (3, 1, 7, 3), False),
    ((2, 6, 5, 7), (2, 1, 7, 3), False),
    ((7, 3), (5, 7), True),
    ((7,), (5, 7), True),
    ((7, 3), (7,), True),
    ((2, 7, 3), (5, 7), True),
    ((2, 4, 7, 3), (4, 5, 7), True),
    ((4, 7, 3), (2, 1, 5, 7), True),
    ((2, 6, 7, 3), (2, 1, 5, 7), True),
    ((7,), (4, 5, 7), True),
]


@pytest.mark.parametrize(("x_shape", "w_shape", "left"), SHAPES_MATMUL)
def test_matrix_products_with_a_constant_side(x_shape: tuple[int, ...], w_shape: tuple[int, ...], left: bool) -> None:
    rng = np.random.default_rng(1)
    x, w = integers(rng, *x_shape), integers(rng, *w_shape)
    graph = weighted(MatMul(), x, w, left=left)
    result = lowered(graph)
    np.testing.assert_array_equal(evaluate(result, {"x": x})["y"], evaluate(graph, {"x": x})["y"])
    assert macs_mapped(mvm_of(result)) == mvm_of(result).macs_useful


def test_matmul_of_two_activations_stays() -> None:
    graph = Graph()
    a = graph.add_input("a", TensorType(DType.F32, (2, 3)))
    b = graph.add_input("b", TensorType(DType.F32, (3, 4)))
    graph.outputs = [("y", graph.add(MatMul(), a, b))]
    assert [n.op for n in lowered(graph).nodes] == [MatMul()]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_cast_around_the_product(dtype: type) -> None:
    rng = np.random.default_rng(2)
    x, w = integers(rng, 1, 2, 4).astype(dtype), integers(rng, 3, 2, 3).astype(dtype)
    graph = weighted(Conv((1,), (1, 1), (1,)), x, w)
    result = evaluate(lowered(graph), {"x": x})["y"]
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, evaluate(graph, {"x": x})["y"])


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "extra"),
    [(4, 2, 1, 0), (5, 2, 2, 1), (3, 2, 1, 1), (2, 2, 0, 0), (6, 3, 1, 0), (3, 3, 0, 0)],
)
def test_strided_conv_transpose_maps_no_zero(kernel: int, stride: int, pad: int, extra: int) -> None:
    op = ConvTranspose((stride,) * 2, (pad,) * 4, (extra,) * 2, (1, 1))
    x, w = np.zeros((1, 3, 5, 7), np.float32), np.zeros((3, 4, kernel, kernel), np.float32)
    mvm = mvm_of(lowered(weighted(op, x, w)))
    extent = kernel + stride * (5 - 1) + extra - 2 * pad
    if extent == 5 * stride:
        assert macs_mapped(mvm) == mvm.macs_useful == 35 * kernel * kernel * 3 * 4
    assert sum(p.rows for p in mvm.parts) == 3 * kernel * kernel


def test_one_position_input_has_a_part_for_each_tap() -> None:
    op = ConvTranspose((1, 1), (0,) * 4, (0, 0), (1, 1))
    mvm = mvm_of(lowered(weighted(op, np.zeros((1, 100, 1, 1), np.float32), np.zeros((100, 8, 4, 4), np.float32))))
    assert [p.rows for p in mvm.parts] == [100] * 16
    assert [p.windows.total for p in mvm.parts] == [1] * 16
    assert mvm.parts[6].name == "layer.1,2"


def test_padding_that_a_whole_class_reads_is_dropped() -> None:
    # the outer taps of a 3x3 kernel meet only padding on a 1x1 input; those of a bordered input stay
    op = Conv((1, 1), (1,) * 4, (1, 1))
    w = np.zeros((2, 3, 3, 3), np.float32)
    assert [p.rows for p in mvm_of(lowered(weighted(op, np.zeros((1, 3, 1, 1), np.float32), w))).parts] == [3]
    assert [p.rows for p in mvm_of(lowered(weighted(op, np.zeros((1, 3, 2, 2), np.float32), w))).parts] == [27]


def test_empty_residue_class_has_no_part() -> None:
    op = ConvTranspose((2,), (0, 0), (0,), (2,))
    mvm = mvm_of(lowered(weighted(op, np.zeros((1, 2, 4), np.float32), np.zeros((2, 3, 3), np.float32))))
    (part,) = mvm.parts
    assert (part.windows.out_base, part.windows.out_stride, part.windows.taps) == ((0,), (2,), (3,))


def dcgan_generator(channels: tuple[int, ...]) -> Graph:
    graph = Graph()
    value = graph.add_input("z", TensorType(DType.F32, (1, channels[0], 1, 1)))
    for k, (a, b) in enumerate(pairwise(channels)):
        w = graph.add_constant(np.broadcast_to(np.float32(0), (a, b, 4, 4)), f"main.{3 * k}.weight")
        stride, pad = (1, 0) if k == 0 else (2, 1)
        value = graph.add(ConvTranspose((stride,) * 2, (pad,) * 4, (0, 0), (1, 1)), value, w)
        bias = graph.add_constant(np.zeros((1, b, 1, 1), np.float32))
        value = graph.add(Binary("add"), value, bias)
    graph.outputs = [("image", value)]
    return graph


def test_dcgan_generator_needs_30736_row_block_reads() -> None:
    graph = lowered(dcgan_generator((100, 1024, 512, 256, 128, 3)))
    ops = [n.op for n in graph.nodes if isinstance(n.op, Mvm)]
    assert [row_block_mvms(op, 128) for op in ops] == [16, 2048, 4096, 8192, 16384]
    useful, mapped, reads = totals(graph, 128)
    assert reads == 30_736
    assert useful == mapped


def test_computed_weights_go_to_the_host_with_the_reason() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 2, 4)))
    w = graph.add_input("w", TensorType(DType.F32, (3, 2, 3)))
    graph.outputs = [("y", graph.add(Conv((1,), (0, 0), (1,)), x, w, sources=("c",)))]
    exported: list[Graph] = []

    def export(alone: Graph) -> bytes:
        exported.append(alone)
        return b"model"

    state = state_of(graph, tools=Tools(export))
    (node,) = LowerLinear().run(state).graph.nodes
    assert isinstance(node.op, Host)
    assert node.op.reason == "conv with computed weights: crossbars hold constants"
    assert node.op.op_types == ("Conv",)
    assert node.sources == ("c",)
    assert [v.name for v in exported[0].inputs] == ["x0", "x1"]


def test_stored_taps_are_each_stored_once() -> None:
    op = ConvTranspose((2, 2), (1,) * 4, (0, 0), (1, 1))
    w = np.arange(3 * 2 * 4 * 4, dtype=np.float32).reshape(3, 2, 4, 4)
    graph = lowered(weighted(op, np.zeros((1, 3, 4, 4), np.float32), w))
    stored = np.concatenate([c.data.ravel() for c in graph.constants.values()])
    assert sorted(stored) == sorted(w.ravel())
    assert prod(w.shape) == stored.size
