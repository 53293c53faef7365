"""Gradient rules against numerical differentiation in float64, over random shapes and attributes."""

import numpy as np
import pytest
from gradient_checks import check_gradient
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mgc.ir.gradients import GRADIENTS, vjp
from mgc.ir.graph import Graph
from mgc.ir.op import REGISTRY, IRError, NotDifferentiable, Op
from mgc.ir.ops import (
    AveragePoolGrad,
    AxisMap,
    BatchNorm,
    Binary,
    Cast,
    Concat,
    Conv,
    ConvTranspose,
    ConvWeightGrad,
    Expand,
    Gather,
    Host,
    MatMul,
    MaxPoolGrad,
    MaxPoolPick,
    Pad,
    Pool,
    Reduce,
    Reshape,
    ScatterAdd,
    Slice,
    Transpose,
    Where,
)
from mgc.ir.types import DType, TensorType, tensor_type_of

FEW = settings(max_examples=12, deadline=None)


def draws(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def apart(shape, seed=0):
    """Numbers no two of which are close: nothing ties, and no difference quotient crosses a kink."""
    rng = np.random.default_rng(seed)
    count = int(np.prod(shape))
    return ((rng.permutation(count) - count / 2 + 0.3) / 7).reshape(shape)


def fits(op: Op, *arrays: np.ndarray) -> None:
    try:
        op.infer(*map(tensor_type_of, arrays))
    except IRError:
        assume(False)


shapes = st.lists(st.integers(1, 3), min_size=0, max_size=3).map(tuple)


@st.composite
def windows(draw):
    rank = draw(st.integers(1, 3))
    most = {1: 6, 2: 4, 3: 3}[rank]

    def each(low, high, count=rank):
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    return {
        "batch": draw(st.integers(1, 2)),
        "groups": draw(st.integers(1, 2)),
        "channels": draw(st.integers(1, 2)),
        "filters": draw(st.integers(1, 2)),
        "spatial": each(1, most),
        "kernel": each(1, 3 if rank < 3 else 2),
        "strides": each(1, 3),
        "dilations": each(1, 2),
        "pads": each(0, 2, 2 * rank),
        "output_padding": each(0, 3),
    }


@FEW
@given(windows())
def test_conv(w):
    g = w["groups"]
    x = draws((w["batch"], w["channels"] * g, *w["spatial"]))
    weight = draws((w["filters"] * g, w["channels"], *w["kernel"]), 1)
    op = Conv(w["strides"], w["pads"], w["dilations"], g)
    fits(op, x, weight)
    check_gradient(op, x, weight)


@FEW
@given(windows())
def test_conv_transpose(w):
    g = w["groups"]
    x = draws((w["batch"], w["channels"] * g, *w["spatial"]))
    weight = draws((w["channels"] * g, w["filters"], *w["kernel"]), 1)
    op = ConvTranspose(w["strides"], w["pads"], w["output_padding"], w["dilations"], g)
    fits(op, x, weight)
    check_gradient(op, x, weight)


@FEW
@given(windows(), st.integers(0, 2))
def test_conv_weight_grad(w, less):
    g = w["groups"]
    x = draws((w["batch"], w["channels"] * g, *w["spatial"]))
    weight = draws((w["filters"] * g, w["channels"], *w["kernel"]), 1)
    conv = Conv(w["strides"], w["pads"], w["dilations"], g)
    fits(conv, x, weight)
    (y,) = conv.infer(tensor_type_of(x), tensor_type_of(weight))
    dy = draws((*y.shape[:2], *(max(n - less, 1) for n in y.shape[2:])), 2)
    check_gradient(ConvWeightGrad(w["kernel"], w["strides"], w["pads"], w["dilations"], g), x, dy)


@FEW
@given(windows(), st.sampled_from(["max", "average"]), st.booleans())
def test_pool(w, kind, include):
    x = apart((w["batch"], w["channels"], *w["spatial"]))
    pads = tuple(min(p, k - 1) for p, k in zip(w["pads"], w["kernel"] * 2, strict=True))
    dilations = w["dilations"] if kind == "max" else (1,) * len(w["kernel"])
    op = Pool(kind, w["kernel"], w["strides"], pads, dilations, include and kind == "average")
    fits(op, x)
    # a window without elements is -inf or NaN: nothing to differentiate
    assume(np.all(np.isfinite(op.evaluate(x)[0])))
    check_gradient(op, x)


def test_pool_gradients_are_ops_with_gradients_of_their_own():
    window = ((2, 2), (1, 2), (1, 0, 0, 1), (1, 1))
    x = apart((2, 2, 4, 3))
    check_gradient(AveragePoolGrad((4, 3), *window), draws((2, 2, 4, 2)))
    check_gradient(MaxPoolGrad(*window), x, draws((2, 2, 4, 2)), wrt=[1])
    check_gradient(MaxPoolPick(*window), x, draws((2, 2, 4, 3)), wrt=[1])


def test_pool_with_pads_beyond_the_kernel_runs_in_onnx_runtime():
    x = apart((1, 2, 5))
    check_gradient(Pool("max", (2,), (2,), (1, 2), (1,)), x[..., :4])
    check_gradient(Pool("average", (2,), (1,), (2, 3), (1,), True), x)


MATMULS = [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 2)), ((2, 2, 3), (3, 2)), ((3,), (2, 3, 2))]
MATMULS += [((2, 2, 3), (2, 3, 1)), ((1, 2, 3), (2, 3, 2)), ((2, 1, 2, 3), (2, 3, 1)), ((2, 3), (2, 3, 2))]


@pytest.mark.parametrize(("a", "b"), MATMULS)
def test_matmul(a, b):
    check_gradient(MatMul(), draws(a), draws(b, 1))


@FEW
@given(shapes.filter(bool), st.data(), st.integers(1, 3))
def test_axis_map(shape, data, out):
    axis = data.draw(st.integers(0, len(shape) - 1))
    check_gradient(AxisMap(axis), draws(shape), draws((out, shape[axis]), 1))


@FEW
@given(shapes, st.data())
def test_shape_ops(shape, data):
    x = draws(shape)
    perm = data.draw(st.permutations(range(len(shape))))
    check_gradient(Transpose(tuple(perm)), x)
    check_gradient(Reshape((x.size,)), x)
    wide = tuple(data.draw(st.integers(1, 3)) if d == 1 else d for d in shape)
    check_gradient(Expand((2, *wide)), x)


@FEW
@given(shapes.filter(bool), st.data())
def test_concat(shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    parts = [
        draws((*shape[:axis], n, *shape[axis + 1 :]), n)
        for n in data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    ]
    check_gradient(Concat(axis), *parts)


@FEW
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple), st.data())
def test_slice(shape, data):
    starts, stops, steps = [], [], []
    for n in shape:
        step = data.draw(st.sampled_from([1, 2, 3, -1, -2]))
        start = data.draw(st.integers(0, n - 1))
        stop = data.draw(st.integers(start + 1, n) if step > 0 else st.integers(-1, start - 1))
        starts.append(start)
        stops.append(stop)
        steps.append(step)
    check_gradient(Slice(tuple(starts), tuple(stops), tuple(steps)), draws(shape))


@FEW
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
    st.sampled_from(["constant", "reflect", "edge", "wrap"]),
    st.data(),
)
def test_pad(shape, mode, data):
    # ONNX Runtime pads by less than the axis in these modes
    most = [3 if mode in ("constant", "edge") else n - 1 for n in shape]
    pads = tuple(data.draw(st.integers(0, m)) for m in most * 2)
    check_gradient(Pad(pads, mode, 0.5), draws(shape))


@pytest.mark.parametrize("mode", ["reflect", "wrap"])
def test_pad_that_repeats_itself(mode):
    check_gradient(Pad((5, 7), mode), draws((3,)), ort=False)
    check_gradient(Pad((2, 1), mode), draws((1,)), ort=False)


@FEW
@given(shapes.filter(bool), st.data())
def test_gather_and_scatter_add(shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    count = data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=2).map(tuple))
    indices = np.random.default_rng(3).integers(-shape[axis], shape[axis], count)
    check_gradient(Gather(axis), draws(shape), indices)
    (dy,) = Gather(axis).evaluate(draws(shape, 1), indices)
    check_gradient(ScatterAdd(axis, shape[axis]), dy, indices)


@FEW
@given(st.sampled_from(["sum", "mean", "max", "min", "prod", "variance"]), shapes, st.booleans(), st.data())
def test_reduce(fn, shape, keepdims, data):
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1))))) if shape else ()
    check_gradient(Reduce(fn, axes, keepdims), apart(shape))


def test_reduce_prod_at_zeros():
    x = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 4.0], [1.0, 2.0, 3.0]])
    from gradient_checks import close, differences, feeds_of, gradient_graph

    from mgc.ir.graph import evaluate

    graph = gradient_graph(Reduce("prod", (1,)), [x], [0])
    feeds = feeds_of(graph, [x])
    close(evaluate(graph, feeds)["g0"], differences(graph, feeds, "x0"))


@FEW
@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(1, 2), max_size=2))
def test_batch_norm(n, c, spatial):
    vectors = [draws(c, k) for k in range(3)]
    check_gradient(BatchNorm(1e-3), draws((n, c, *spatial)), *vectors, np.abs(draws(c, 4)) + 0.5)


def test_where_and_cast():
    condition = np.array([[True], [False]])
    check_gradient(Where(), condition, draws((1, 3)), draws((2, 1), 1))
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2,)))
    y = graph.add(Cast(DType.F64), x)
    z = graph.add(Cast(DType.I32), x)
    from mgc.ir.build import Build

    dy = graph.add_input("dy", y.type)
    assert vjp(Build(graph), Cast(DType.F64), [x], [y], [dy])[0].type == x.type
    assert vjp(Build(graph), Cast(DType.I32), [x], [z], [graph.add_input("dz", z.type)]) == (None,)


def test_what_runs_on_the_host_says_so():
    op = Host(b"", "the chip has no Foo", ("Foo",), ())
    with pytest.raises(NotDifferentiable, match=r"host: no gradient: Foo runs on the host \(the chip has no Foo\)"):
        vjp(None, op, [], [], [])


def test_every_level_1_op_has_a_rule():
    for name, cls in REGISTRY.items():
        if cls.level == 1:
            assert cls in GRADIENTS or cls.not_differentiable is not Op.not_differentiable, (
                f"{name} has no gradient rule"
            )


def test_broadcast_operands_get_their_own_shape():
    for a, b in [((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 2)), ((2, 1, 2), (3, 1))]:
        check_gradient(Binary("mul"), draws(a), draws(b, 1))
        check_gradient(Binary("sub"), draws(a), draws(b, 1))
