"""Level-1 ops: type rules and NumPy meanings against ONNX Runtime, over random shapes and attributes."""

import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from op_checks import check

from mgc.ir.op import REGISTRY, IRError, Op
from mgc.ir.ops import (
    AxisMap,
    BatchNorm,
    Binary,
    Cast,
    Concat,
    Conv,
    ConvTranspose,
    Expand,
    Gather,
    MatMul,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Slice,
    Transpose,
    Unary,
    Where,
)
from mgc.ir.types import DType, OpaqueType, TensorType

FEW = settings(max_examples=30, deadline=None)


def draws(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


shapes = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)


@st.composite
def windows(draw, transposed=False):
    rank = draw(st.integers(1, 3))
    most = 5 if rank < 3 else 4

    def each(low, high, count=rank):
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    return {
        "groups": draw(st.integers(1, 3)),
        "channels": draw(st.integers(1, 2)),
        "filters": draw(st.integers(1, 2)),
        "spatial": each(1, most),
        "kernel": each(1, 3),
        "strides": each(1, 3),
        "dilations": each(1, 2),
        "pads": each(0, 2, 2 * rank),
        "output_padding": each(0, 3),
    }


@FEW
@given(windows())
def test_conv(w):
    g = w["groups"]
    x = draws((2, w["channels"] * g, *w["spatial"]))
    weight = draws((w["filters"] * g, w["channels"], *w["kernel"]), 1)
    op = Conv(w["strides"], w["pads"], w["dilations"], g)
    try:
        op.infer(TensorType(DType.F32, x.shape), TensorType(DType.F32, weight.shape))
    except IRError:
        assume(False)
    check(op, x, weight)


@FEW
@given(windows())
def test_conv_transpose(w):
    g = w["groups"]
    x = draws((2, w["channels"] * g, *w["spatial"]))
    weight = draws((w["channels"] * g, w["filters"], *w["kernel"]), 1)
    op = ConvTranspose(w["strides"], w["pads"], w["output_padding"], w["dilations"], g)
    try:
        op.infer(TensorType(DType.F32, x.shape), TensorType(DType.F32, weight.shape))
    except IRError:
        assume(False)
    check(op, x, weight)


def test_conv_transpose_is_the_transpose_of_conv():
    rng = np.random.default_rng(0)
    x, w, y = (rng.standard_normal(s) for s in ((2, 4, 7, 5), (6, 2, 3, 2), (2, 6, 4, 4)))
    attributes = {"strides": (2, 1), "pads": (1, 0, 1, 0), "dilations": (1, 1), "groups": 2}
    down = Conv(**attributes).evaluate(x, w)[0]
    up = ConvTranspose(output_padding=(0, 0), **attributes).evaluate(y, w)[0]
    assert down.shape == y.shape
    assert up.shape == x.shape
    assert np.vdot(down, y) == pytest.approx(np.vdot(x, up))


@FEW
@given(windows(), st.sampled_from(["max", "average"]), st.booleans())
def test_pool(w, kind, count):
    rank = len(w["kernel"])
    pads = tuple(min(p, k - 1) for p, k in zip(w["pads"], w["kernel"] * 2, strict=True))
    op = Pool(kind, w["kernel"], w["strides"], pads, w["dilations"], count and kind == "average")
    x = draws((2, 3, *(s + 2 for s in w["spatial"])))
    try:
        op.infer(TensorType(DType.F32, x.shape))
    except IRError:
        assume(False)
    assume(rank < 3 or kind == "max" or w["dilations"] == (1,) * rank)
    check(op, x)


@pytest.mark.parametrize(("kind", "count"), [("max", False), ("average", True)])
def test_pool_with_pads_as_large_as_the_kernel_still_exports(kind, count):
    check(Pool(kind, (2, 2), (1, 1), (2, 0, 0, 3), (1, 1), count), draws((1, 2, 4, 4)))


def test_max_pool_of_bytes():
    x = np.random.default_rng(0).integers(0, 255, (1, 2, 5, 5)).astype(np.uint8)
    check(Pool("max", (2, 2), (2, 2), (1, 1, 0, 0), (1, 1)), x)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4,), (4,)),
        ((3, 4), (4,)),
        ((4,), (4, 2)),
        ((3, 4), (4, 2)),
        ((2, 3, 4), (4, 2)),
        ((1, 3, 4), (5, 4, 2)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((4,), (2, 4, 3)),
    ],
)
def test_matmul(a, b):
    check(MatMul(), draws(a), draws(b, 1))


def test_batch_norm():
    x = draws((2, 3, 4, 5))
    check(BatchNorm(1e-3), x, draws(3, 1), draws(3, 2), draws(3, 3), np.abs(draws(3, 4)))


@FEW
@given(st.integers(0, 3), st.integers(1, 5))
def test_axis_map(axis, out):
    x = draws((2, 3, 4, 5))
    check(AxisMap(axis), x, draws((out, x.shape[axis]), 1))


@FEW
@given(shapes, st.sampled_from(["sum", "mean", "max", "min", "prod", "variance"]), st.booleans(), st.data())
def test_reduce(shape, fn, keepdims, data):
    axes = data.draw(st.sets(st.integers(0, max(len(shape) - 1, 0)))) if shape else set()
    check(Reduce(fn, tuple(sorted(axes)), keepdims), draws(shape))


def test_reduce_of_integers_and_bools():
    check(Reduce("sum", (1,)), np.arange(6).reshape(2, 3))
    check(Reduce("max", (0,), False), np.array([[True, False], [False, False]]))
    check(Reduce("mean", (0,)), np.array([-3, 0, 1, 1], np.int32))


@FEW
@given(shapes, st.data())
def test_reshape_and_transpose(shape, data):
    x = draws(shape)
    perm = data.draw(st.permutations(range(len(shape))))
    y = check(Transpose(tuple(perm)), x)
    assert y.flags.c_contiguous
    check(Reshape((x.size, 1)), x)
    check(Reshape(tuple(reversed(shape))), x)


def test_reshape_of_nothing():
    check(Reshape((4, 0)), draws((2, 0, 3)))


@FEW
@given(shapes, st.data())
def test_expand(shape, data):
    small = tuple(data.draw(st.sampled_from([1, d])) for d in shape)
    cut = data.draw(st.integers(0, len(shape)))
    check(Expand(shape), draws(small[cut:]))


@FEW
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.data())
def test_slice(shape, data):
    starts, stops, steps = [], [], []
    for n in shape:
        step = data.draw(st.sampled_from([1, 2, 3, -1, -2]))
        start, stop, _ = slice(data.draw(st.integers(-n, n)), data.draw(st.integers(-n, n)), step).indices(n)
        if not range(start, stop, step):
            start, stop, step = 0, 0, 1
        starts.append(start)
        stops.append(stop)
        steps.append(step)
    check(Slice(tuple(starts), tuple(stops), tuple(steps)), draws(shape))


@FEW
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), st.data())
def test_concat(shape, count, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    parts = [draws([*shape[:axis], data.draw(st.integers(1, 3)), *shape[axis + 1 :]], i) for i in range(count)]
    check(Concat(axis), *parts)


@FEW
@given(
    st.sampled_from(["constant", "reflect", "edge", "wrap"]),
    st.lists(st.integers(2, 5), min_size=1, max_size=3),
    st.data(),
)
def test_pad(mode, shape, data):
    most = [n - 1 for n in shape]
    pads = tuple(data.draw(st.integers(0, m)) for m in most * 2)
    check(Pad(pads, mode, 1.5 if mode == "constant" else 0.0), draws(shape))


def test_pad_of_integers_and_minus_infinity():
    check(Pad((1, 2), "constant", 7.0), np.arange(3))
    check(Pad((1, 0), "constant", -np.inf), draws(3))


@FEW
@given(st.integers(0, 2), shapes, st.data())
def test_gather(axis, index_shape, data):
    x = draws((3, 4, 5))
    n = x.shape[axis]
    picks = np.random.default_rng(data.draw(st.integers(0, 9))).integers(-n, n, index_shape)
    check(Gather(axis), x, picks)


@pytest.mark.parametrize("to", [DType.F32, DType.F16, DType.F64, DType.I32, DType.I64, DType.U8, DType.BOOL])
def test_cast(to):
    check(Cast(to), np.array([0.0, 1.5, 2.5, 100.0], np.float32))
    check(Cast(to), np.array([0, 1, 3, 100], np.int64))
    check(Cast(to), np.array([True, False]))


def test_cast_truncates_toward_zero():
    assert Cast(DType.I32).evaluate(np.array([-1.9, 1.9], np.float32))[0].tolist() == [-1, 1]


def test_where():
    check(Where(), np.array([[True], [False]]), draws((1, 3)), draws((2, 1, 1), 1))


BAD = [
    (Unary("relux"), "f32[2]", "no function 'relux'"),
    (Unary("exp"), "i32[2]", "exp of i32[2]: float elements are needed"),
    (Unary("not"), "f32[2]", "bool elements are needed"),
    (Binary("add"), "f32[2] f32[3]", "shapes [2] and [3] do not broadcast"),
    (Binary("add"), "f32[2] i32[2]", "a is f32[2] but b is i32[2]: element types differ"),
    (Binary("prelu"), "f32[2] f32[3,2]", "slope f32[3,2] does not broadcast to x f32[2]"),
    (Binary("add"), "f32[2]", "takes 2 operands (a, b), got 1"),
    (Binary("add"), "f32[2] opaque", "operand b is opaque"),
    (Where(), "f32[2] f32[2] f32[2]", "condition is f32[2], bool is needed"),
    (Conv((1, 1), (0, 0, 0, 0), (1, 1)), "f32[1,3,8,8] f32[4,2,3,3]", "x is f32[1,3,8,8] with 3 channels"),
    (Conv((1, 1), (0, 0, 0, 0), (1, 1)), "f32[1,3,2,2] f32[4,3,3,3]", "does not fit into x f32[1,3,2,2]"),
    (Conv((1,), (0, 0, 0, 0), (1, 1)), "f32[1,3,8,8] f32[4,3,3,3]", "strides (1,): 2 numbers are needed"),
    (Conv((1, 1), (0, -1, 0, 0), (1, 1)), "f32[1,3,8,8] f32[4,3,3,3]", "pads (0, -1, 0, 0): each must be at least 0"),
    (Conv((1, 1), (0, 0, 0, 0), (1, 1), 2), "f32[1,4,8,8] f32[3,2,3,3]", "3 filters do not divide into 2 groups"),
    (ConvTranspose((1,), (0, 0), (0,), (1,)), "f32[1,3,8] f32[4,2,3]", "its first dimension must be 3"),
    (ConvTranspose((1,), (9, 9), (0,), (1,)), "f32[1,3,8] f32[3,2,3]", "leave nothing of the output"),
    (MatMul(), "f32[2,3] f32[4,5]", "inner dimensions 3 and 4 differ"),
    (MatMul(), "f32[] f32[4]", "a scalar cannot be an operand"),
    (BatchNorm(), "f32[1,3,2] f32[3] f32[3] f32[2] f32[3]", "mean is f32[2] but x is f32[1,3,2]: [3] is needed"),
    (AxisMap(1), "f32[2,3] f32[4,4]", "matrix is f32[4,4] but x is f32[2,3]"),
    (Reduce("sum", (2,)), "f32[2,3]", "axes (2,) of x f32[2,3]"),
    (Reduce("max", (0,)), "f32[0,3]", "which are empty"),
    (Reshape((5,)), "f32[2,3]", "x is f32[2,3] with 6 elements, which shape [5] does not hold"),
    (Transpose((0, 0)), "f32[2,3]", "perm (0, 0) is no permutation"),
    (Expand((4, 3)), "f32[2,3]", "do not broadcast"),
    (Slice((0,), (5,), (1,)), "f32[3]", "0:5:1 is outside axis 0"),
    (Slice((0,), (3,), (0,)), "f32[3]", "step 0 on axis 0"),
    (Concat(1), "f32[2,3] f32[3,3]", "#0 is f32[2,3] but #1 is f32[3,3]: only axis 1 may differ"),
    (Concat(0), "", "at least one operand"),
    (Pad((1, -1)), "f32[3]", "pads (1, -1) of x f32[3]"),
    (Pad((1, 1), "mirror"), "f32[3]", "no mode 'mirror'"),
    (Gather(2), "f32[2,3] i64[1]", "axis 2 is outside data"),
    (Gather(0), "f32[2,3] f32[1]", "indices are f32[1]: integers are needed"),
    (Pool("sum", (2,), (1,), (0, 0), (1,)), "f32[1,1,4]", "no kind 'sum'"),
    (Pool("max", (5,), (1,), (0, 0), (1,)), "f32[1,1,4]", "kernel (5,) does not fit"),
    (Pool("average", (2,), (1,), (0, 0), (1,)), "i32[1,1,4]", "average of x i32[1,1,4]"),
]


def parse_type(text):
    if text == "opaque":
        return OpaqueType()
    name, dims = text.rstrip("]").split("[")
    return TensorType(DType(name), tuple(int(d) for d in dims.split(",") if d))


@pytest.mark.parametrize(("op", "types", "message"), BAD, ids=lambda v: v.name if isinstance(v, Op) else None)
def test_type_rules_say_what_is_wrong(op, types, message):
    with pytest.raises(IRError, match=re.escape(message)) as error:
        op.infer(*map(parse_type, types.split()))
    assert str(error.value).startswith(op.name)


def test_every_op_is_registered_and_exported():
    import mgc.ir.ops as ops

    classes = {getattr(ops, name) for name in ops.__all__}
    classes = {c for c in classes if issubclass(c, Op)}
    assert {c for c in REGISTRY.values() if c.__module__.startswith("mgc.ir.ops")} == classes
    assert all(c.infer is not Op.infer and c.evaluate is not Op.evaluate for c in classes)


def test_every_op_of_the_forward_pass_has_an_onnx_form():
    forward = (AxisMap, BatchNorm, Binary, Cast, Concat, Conv, ConvTranspose, Expand, Gather, MatMul, Pad, Pool, Reduce)
    for op in (*forward, Reshape, Slice, Transpose, Unary, Where):
        assert op.onnx is not Op.onnx
        assert op.split_batch is not Op.split_batch or op.elementwise == "all"
