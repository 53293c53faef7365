"""The ops that gradients need: type rules, NumPy against ONNX Runtime, batch rules."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from op_checks import check, check_split

from mgc.ir.op import IRError
from mgc.ir.ops import AveragePoolGrad, Conv, ConvWeightGrad, MaxPoolGrad, MaxPoolPick, Pool, ScatterAdd
from mgc.ir.types import DType, TensorType, tensor_type_of

FEW = settings(max_examples=25, deadline=None)


def draws(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def f32(*shape):
    return TensorType(DType.F32, shape)


@st.composite
def pools(draw):
    rank = draw(st.integers(1, 3))

    def each(low, high, count=rank):
        return tuple(draw(st.lists(st.integers(low, high), min_size=count, max_size=count)))

    return each(1, 5), each(1, 3), each(1, 3), each(0, 2, 2 * rank), each(1, 2)


@FEW
@given(pools(), st.booleans())
def test_average_pool_grad(attributes, include):
    spatial, *window = attributes
    pool = Pool("average", *window, include)
    x = draws((4, 2, *spatial))
    try:
        (y,) = pool.infer(tensor_type_of(x))
    except IRError:
        assume(False)
    assume(np.all(np.isfinite(pool.evaluate(x)[0])))
    op = AveragePoolGrad(spatial, *window, include)
    dy = draws(y.shape, 1)
    dx = check(op, dy)
    # it is the transpose of the pool: <dy, pool(x)> = <dx, x>
    assert np.vdot(dy, pool.evaluate(x)[0]) == pytest.approx(np.vdot(dx, x), rel=1e-4, abs=1e-4)
    assert check_split(op, [dy], [True], 2)


@FEW
@given(pools())
def test_max_pool_grad_and_pick(attributes):
    spatial, *window = attributes
    pool = Pool("max", *window)
    # few distinct numbers: ties, of which the first counts
    x = np.round(draws((4, 2, *spatial)) * 2) / 2
    try:
        (y,) = pool.infer(tensor_type_of(x))
    except IRError:
        assume(False)
    assume(np.all(np.isfinite(pool.evaluate(x)[0])))
    dy = draws(y.shape, 1)
    grad, pick = MaxPoolGrad(*window), MaxPoolPick(*window)
    dx = check(grad, x, dy)
    picked = check(pick, x, x)
    np.testing.assert_array_equal(picked, pool.evaluate(x)[0])
    other = draws(x.shape, 2)
    assert np.vdot(dy, pick.evaluate(x, other)[0]) == pytest.approx(np.vdot(dx, other), rel=1e-4, abs=1e-4)
    assert check_split(grad, [x, dy], [True, True], 2)
    assert check_split(pick, [x, other], [True, True], 2)


@pytest.mark.parametrize("less", [0, 1])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_weight_grad(groups, less):
    x = draws((2, 4, 7, 6))
    conv = Conv((2, 1), (1, 0, 2, 1), (1, 2), groups)
    (y,) = conv.infer(f32(2, 4, 7, 6), f32(6, 4 // groups, 3, 2))
    dy = draws((2, 6, *(n - less for n in y.shape[2:])), 1)
    op = ConvWeightGrad((3, 2), conv.strides, conv.pads, conv.dilations, groups)
    dw = check(op, x, dy)
    w = draws(dw.shape, 2)
    y = conv.evaluate(x, w)[0][:, :, : dy.shape[2], : dy.shape[3]]
    assert np.vdot(dy, y) == pytest.approx(np.vdot(dw, w), rel=1e-4)
    # it sums over the samples
    assert not check_split(op, [x, dy], [True, True], 2)


@FEW
@given(st.integers(0, 2), st.lists(st.integers(1, 3), min_size=0, max_size=2).map(tuple), st.integers(1, 4))
def test_scatter_add(axis, count, size):
    shape = (2, 3, 2)
    indices = np.random.default_rng(1).integers(-size, size, count)
    dy = draws((*shape[:axis], *count, *shape[axis + 1 :]))
    op = ScatterAdd(axis, size)
    check(op, dy, indices)
    assert check_split(op, [dy, indices], [True, False], 2) == (axis != 0 and dy.shape[0] % 2 == 0)


@pytest.mark.parametrize(
    ("op", "types", "message"),
    [
        (ConvWeightGrad((3,), (1,), (0, 0), (1,)), (f32(2, 4, 7), f32(3, 4, 5)), "the samples differ in number"),
        (ConvWeightGrad((3,), (1,), (0, 0), (1,)), (f32(2, 4, 7), f32(2, 4, 6)), r"has \(5,\) windows"),
        (ConvWeightGrad((3,), (1,), (0, 0), (1,)), (f32(2, 4, 7, 7), f32(2, 4, 5)), "the kernel has 1 axes"),
        (ConvWeightGrad((3,), (1,), (0, 0), (1,), 3), (f32(2, 4, 7), f32(2, 3, 5)), "with 3 groups"),
        (AveragePoolGrad((4,), (2,), (2,), (0, 0), (1,)), (f32(1, 1, 3),), "gives another shape"),
        (MaxPoolGrad((2,), (2,), (0, 0), (1,)), (f32(1, 1, 4), f32(1, 1, 3)), "gives another shape"),
        (MaxPoolPick((2,), (2,), (0, 0), (1,)), (f32(1, 1, 4), f32(1, 1, 3)), "one float type is needed"),
        (ScatterAdd(0, 3), (f32(2, 3), f32(2)), "integers are needed"),
        (ScatterAdd(0, 3), (f32(2, 3), TensorType(DType.I64, (3,))), "does not hold indices"),
    ],
)
def test_types_are_checked(op, types, message):
    with pytest.raises(IRError, match=message):
        op.infer(*types)
