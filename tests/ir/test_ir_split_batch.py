"""`split_batch`: the op on parts of axis 0, joined, equals the op on the whole, wherever it says it splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from op_checks import check_split

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
    Host,
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


def r(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


BOOL = r(4, 3) > 0
PICKS = np.array([[0, 1], [2, 1], [0, 0], [1, 2]])
CONV = Conv((1, 1), (1, 1, 1, 1), (1, 1))
UP = ConvTranspose((2, 2), (1, 1, 1, 1), (0, 0), (1, 1))
Y, N = True, False

# op, operands, which are batched, whether it splits
CASES = [
    (CONV, (r(4, 2, 5, 5), r(3, 2, 3, 3)), (Y, N), True),
    (CONV, (r(4, 2, 5, 5), r(4, 2, 3, 3)), (Y, Y), False),
    (CONV, (r(1, 2, 5, 5), r(4, 2, 3, 3)), (N, Y), False),
    (UP, (r(4, 2, 5, 5), r(2, 3, 4, 4)), (Y, N), True),
    (MatMul(), (r(4, 3), r(3, 5)), (Y, N), True),
    (MatMul(), (r(4, 3), r(3)), (Y, N), True),
    (MatMul(), (r(4, 2, 3), r(3, 5)), (Y, N), True),
    (MatMul(), (r(4, 2, 3), r(1, 3, 5)), (Y, N), True),
    (MatMul(), (r(4, 2, 3), r(4, 3, 5)), (Y, Y), True),
    (MatMul(), (r(4, 2, 3), r(4, 3, 5)), (Y, N), False),
    (MatMul(), (r(2, 3), r(4, 3, 5)), (N, Y), True),
    (MatMul(), (r(1, 2, 3), r(4, 3, 5)), (N, Y), True),
    (MatMul(), (r(4, 3), r(6, 3, 5)), (Y, N), False),
    (MatMul(), (r(3, 4), r(4, 5)), (N, Y), False),
    (MatMul(), (r(4, 4), r(4, 4)), (Y, Y), False),
    (MatMul(), (r(4), r(4, 5)), (Y, N), False),
    (MatMul(), (r(6, 4, 2, 3), r(4, 3, 5)), (N, Y), False),
    (BatchNorm(), (r(4, 3, 2), r(3), r(3), r(3), np.abs(r(3))), (Y, N, N, N, N), True),
    (Unary("tanh"), (r(4, 3),), (Y,), True),
    (Cast(DType.I32), (r(4, 3),), (Y,), True),
    (Binary("add"), (r(4, 3), r(4, 3)), (Y, Y), True),
    (Binary("add"), (r(4, 3), r(3)), (Y, N), True),
    (Binary("add"), (r(3), r(4, 3)), (N, Y), True),
    (Binary("add"), (r(4, 3), r(1, 3)), (Y, N), True),
    (Binary("add"), (r(4, 3), r(4, 3)), (Y, N), False),
    (Binary("add"), (r(4), r(4, 4)), (Y, Y), False),
    (Binary("add"), (r(4), r(4, 4)), (Y, N), False),
    (Where(), (BOOL, r(4, 3), r(1, 3)), (Y, Y, N), True),
    (Where(), (BOOL, r(4, 3), r(4, 3)), (N, Y, Y), False),
    (Reduce("sum", (1,), False), (r(4, 3),), (Y,), True),
    (Reduce("sum", ()), (r(4, 3),), (Y,), True),
    (Reduce("sum", (0,)), (r(4, 3),), (Y,), False),
    (Reshape((4, 6)), (r(4, 2, 3),), (Y,), True),
    (Reshape((8, 3)), (r(4, 2, 3),), (Y,), True),
    (Reshape((2, 12)), (r(4, 2, 3),), (Y,), True),
    (Reshape((1, 24)), (r(4, 2, 3),), (Y,), False),
    (Reshape((3, 8)), (r(4, 2, 3),), (Y,), False),
    (Reshape(()), (r(1),), (Y,), False),
    (Transpose((0, 2, 1)), (r(4, 2, 3),), (Y,), True),
    (Transpose((1, 0, 2)), (r(4, 2, 3),), (Y,), False),
    (Expand((4, 5, 3)), (r(4, 1, 3),), (Y,), True),
    (Expand((5, 4, 3)), (r(4, 3),), (Y,), False),
    (Slice((0, 1), (4, 3), (1, 1)), (r(4, 3),), (Y,), True),
    (Slice((1, 0), (4, 3), (1, 1)), (r(4, 3),), (Y,), False),
    (Slice((3, 0), (-1, 3), (-1, 1)), (r(4, 3),), (Y,), False),
    (Concat(1), (r(4, 3), r(4, 2)), (Y, Y), True),
    (Concat(1), (r(4, 3), r(4, 2)), (Y, N), False),
    (Concat(0), (r(4, 3), r(4, 3)), (Y, Y), False),
    (Pad((0, 1, 0, 2), "edge"), (r(4, 3),), (Y,), True),
    (Pad((1, 1, 0, 2), "edge"), (r(4, 3),), (Y,), False),
    (Gather(1), (r(4, 3), PICKS), (Y, N), True),
    (Gather(0), (r(4, 3), PICKS), (Y, N), False),
    (Gather(0), (r(5, 3), PICKS), (N, Y), True),
    (Gather(0), (r(4, 3), PICKS), (Y, Y), False),
    (Gather(1), (r(5, 3), PICKS), (N, Y), False),
    (Pool("max", (2,), (1,), (0, 0), (1,)), (r(4, 3, 5),), (Y,), True),
    (AxisMap(1), (r(4, 3), r(5, 3)), (Y, N), True),
    (AxisMap(0), (r(4, 3), r(5, 4)), (Y, N), False),
    (AxisMap(1), (r(4, 3), r(4, 3)), (Y, Y), False),
]


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize(("op", "arrays", "batched", "splits"), CASES, ids=lambda v: getattr(v, "name", None))
def test_split(op, arrays, batched, splits, factor):
    if isinstance(op, Reshape) and op.shape and splits and op.shape[0] % factor:
        splits = False
    assert check_split(op, arrays, batched, factor) == splits


def test_nothing_batched_does_not_split():
    assert not check_split(Unary("exp"), (r(4, 3),), (N,), 2)
    assert not check_split(MatMul(), (r(4, 3), r(3, 4)), (N, N), 2)


def test_host_never_splits():
    op = Host(b"", "why", ("LSTM",), (OpaqueType(),))
    assert op.split_batch([TensorType(DType.F32, (4,))], [True], 2) is None


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_splits_is_right(data):
    """Random shapes and flags: `check_split` compares wherever the op claims to split."""
    factor = data.draw(st.sampled_from([2, 3]))
    shape = (factor * data.draw(st.integers(1, 2)), *data.draw(st.lists(st.integers(1, 3), max_size=2)))
    small = tuple(data.draw(st.sampled_from([1, d])) for d in shape)[data.draw(st.integers(0, len(shape) - 1)) :]
    x, y = r(*shape), r(*small)
    second = data.draw(st.booleans()) and y.shape[0] % factor == 0
    op = data.draw(
        st.sampled_from(
            [
                Binary("add"),
                Binary("less"),
                Concat(len(shape) - 1),
                MatMul(),
                Gather(0),
            ]
        )
    )
    if isinstance(op, Gather):
        y = np.abs(y * 10).astype(np.int64) % x.shape[0]
    try:
        op.infer(TensorType(DType.F32, x.shape), TensorType(DType.of(y.dtype), y.shape))
    except ValueError:
        return
    check_split(op, (x, y), (True, second), factor)
