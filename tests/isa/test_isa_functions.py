"""The vector functions against straightforward NumPy and the math module."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mgc.functions.reduce import total
from mgc.isa.dtypes import CODES, numpy_dtype
from mgc.isa.error import ExecutionError, ProgramError
from mgc.isa.functions import BY_NAME, FUNCTIONS, Operand, evaluate, function_code, infer

F32 = np.float32


def run(name, *args, attributes=(), ideal=False):
    arrays = [np.asarray(a) for a in args]
    code = function_code(name)
    operands = [Operand(a.dtype, a.shape) for a in arrays]
    attributes = tuple(float(a) for a in attributes)
    expected = infer(code, operands, attributes)
    before = [a.copy() for a in arrays]
    y = evaluate(code, arrays, attributes, ideal)
    assert all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(arrays, before, strict=True))
    if not ideal:
        assert (y.dtype, y.shape) == (expected.dtype, expected.shape), name
    return y


SCALAR = {
    "exp": math.exp,
    "log": lambda x: math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -500 else 0.0,
    "tanh": math.tanh,
    "softplus": lambda x: x if x > 500 else math.log1p(math.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "erf": math.erf,
    "gelu": lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2)),
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(min(x, 500)))),
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": lambda x: math.asin(x) if abs(x) <= 1 else math.nan,
    "acos": lambda x: math.acos(x) if abs(x) <= 1 else math.nan,
    "atan": math.atan,
    "asinh": math.asinh,
    "acosh": lambda x: math.acosh(x) if x >= 1 else math.nan,
    "atanh": lambda x: math.atanh(x) if abs(x) < 1 else math.nan,
    "relu": lambda x: max(x, 0.0),
    "neg": lambda x: -x,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "round": round,
    "sign": lambda x: (x > 0) - (x < 0),
    "silu": lambda x: x / (1 + math.exp(-x)) if x > -500 else 0.0,
}


@pytest.mark.parametrize("name", SCALAR)
def test_unary_functions_are_right_to_an_ulp(name):
    x = np.concatenate([np.linspace(-6, 6, 997), [0.0, 1.0, -1.0, 1e-20, -30.0, 30.0]]).astype(F32)
    x = x[np.abs(x) != 1] if name == "atanh" else x
    y = run(name, x, attributes=(1, 0))
    expected = np.array([SCALAR[name](float(v)) for v in x])
    assert np.allclose(y, expected.astype(F32), rtol=2.5e-7, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "softplus", "gelu", "elu", "mish", "silu", "gelu_tanh"])
def test_large_operands_neither_overflow_nor_warn(name):
    y = run(name, np.array([-1e30, -200, 200, 1e30, np.inf, -np.inf], F32), attributes=(1, 0))
    if name in ("sigmoid", "tanh"):
        assert np.isfinite(y).all()


def test_parametrised_functions():
    x = np.array([-2.0, -0.5, 0.0, 0.5, 3.0], F32)
    assert run("leaky_relu", x, attributes=(0.1, 0)).tolist() == np.where(x < 0, F32(0.1) * x, x).tolist()
    assert np.allclose(run("elu", x, attributes=(2, 0)), np.where(x > 0, x, 2 * np.expm1(x)))
    assert np.allclose(run("selu", x, attributes=(1.5, 1.2)), 1.2 * np.where(x > 0, x, 1.5 * np.expm1(x)))
    assert np.allclose(run("celu", x, attributes=(2, 0)), np.where(x > 0, x, 2 * np.expm1(x / 2)))
    assert np.allclose(run("hard_sigmoid", x, attributes=(0.3, 0.4)), np.clip(0.3 * x + 0.4, 0, 1))
    assert np.allclose(run("hard_swish", x, attributes=(0, 0)), x * np.clip(x / 6 + 0.5, 0, 1))
    assert run("thresholded_relu", x, attributes=(0.5, 0)).tolist() == [0, 0, 0, 0, 3]
    assert run("isnan", np.array([np.nan, 1], F32), attributes=(0, 0)).tolist() == [True, False]
    assert run("isinf", np.array([np.inf, 1], F32), attributes=(0, 0)).tolist() == [True, False]
    assert run("not", np.array([True, False]), attributes=(0, 0)).tolist() == [False, True]
    assert np.isnan(run("relu", np.array([np.nan], F32), attributes=(0, 0))).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_float_types_keep_their_type(dtype):
    x = np.linspace(-2, 2, 9).astype(numpy_dtype(dtype))
    for name in ("tanh", "relu", "sigmoid", "sqrt", "neg"):
        run(name, x, attributes=(0, 0))
    run("add", x, x)
    assert np.allclose(run("reduce_sum", x, attributes=(0, 0)).astype(float), x.astype(float).sum(), atol=0.01)


def test_integers_keep_their_type_and_wrap():
    a, b = np.array([7, -7, 127, 5], np.int8), np.array([2, 2, 1, 0], np.int8)
    assert run("add", a, b).tolist() == [9, -5, -128, 5]
    assert run("div", a, b).tolist() == [3, -3, 127, 0]
    assert run("mod", a[:3], b[:3]).tolist() == [1, 1, 0]
    assert run("fmod", a[:3], b[:3]).tolist() == [1, -1, 0]
    assert run("relu", a, attributes=(0, 0)).tolist() == [7, 0, 127, 5]
    assert run("pow", np.array([2, 3], np.int64), np.array([10, -1], np.int64)).tolist() == [1024, 0]
    assert run("reduce_sum", np.full(100, 100, np.int8), attributes=(0, 0)).tolist() == np.int64(10000).astype(np.int8)
    assert run("reduce_mean", np.array([-3, -4], np.int32), attributes=(0, 0)).tolist() == -3
    assert run("reduce_prod", np.array([3, 4, 5], np.int32), attributes=(0, 0)).tolist() == 60


def test_binary_functions_broadcast():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, 4)).astype(F32), rng.standard_normal((3, 1)).astype(F32)
    for name, meaning in {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum,
        "min": np.minimum, "less": np.less, "greater": np.greater, "equal": np.equal, "fmod": np.fmod,
        "less_or_equal": np.less_equal, "greater_or_equal": np.greater_equal, "mod": np.mod,
    }.items():  # fmt: skip
        assert np.array_equal(run(name, x, y), meaning(x, y)), name
    assert np.array_equal(run("prelu", x, y), np.where(x < 0, x * y, x))
    assert np.allclose(run("pow", np.abs(x), y), np.abs(x) ** y)
    assert np.array_equal(run("where", x < 0, x, y), np.where(x < 0, x, y))
    p, q = np.array([True, True, False]), np.array([True, False, False])
    assert [run(n, p, q).tolist() for n in ("and", "or", "xor")] == [
        [True, False, False], [True, True, False], [False, True, False]
    ]  # fmt: skip


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axes", [(), (0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)])
def test_reductions(axes, keepdims):
    x = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(F32)
    for name, meaning in {
        "sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod, "variance": np.var,
    }.items():  # fmt: skip
        y = run(f"reduce_{name}", x, attributes=(keepdims, *axes))
        expected = meaning(x.astype(np.float64), axis=axes, keepdims=keepdims)
        assert np.allclose(y, expected, rtol=1e-6), name


def test_sums_are_accumulated_in_float64():
    x = np.array([1e8, 1, -1e8] * 1000, F32)
    assert run("reduce_sum", x, attributes=(0, 0)) == 1000
    assert run("reduce_mean", x, attributes=(0, 0)) == F32(1000 / 3000)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 10), st.integers(2, 300))
def test_a_variance_in_one_pass_loses_nothing_to_a_large_mean(mean, spread, count):
    x = (mean + spread * np.random.default_rng(count).standard_normal((2, count))).astype(F32)
    y = run("reduce_variance", x, attributes=(0, 1))
    assert np.allclose(y, x.astype(np.float64).var(axis=1), rtol=1e-6)
    assert not run("reduce_variance", np.full((2, count), mean, F32), attributes=(0, 1)).any()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pooling_against_a_loop(data):
    rank = data.draw(st.integers(1, 3))
    each = st.integers(1, 3)
    kernel, strides, dilations = (data.draw(st.tuples(*[each] * rank)) for _ in range(3))
    pads = data.draw(st.tuples(*[st.integers(0, 2)] * (2 * rank)))
    spatial = tuple(
        max(1, d * (k - 1) + 1 - pads[i] - pads[rank + i]) + data.draw(st.integers(0, 3))
        for i, (k, d) in enumerate(zip(kernel, dilations, strict=True))
    )
    include = data.draw(st.booleans())
    x = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal((2, 2, *spatial)).astype(F32)
    attributes = (rank, *kernel, *strides, *pads, *dilations, include)
    greatest, mean = (run(f"pool_{kind}", x, attributes=attributes) for kind in ("max", "average"))
    for window in np.ndindex(*greatest.shape[2:]):
        inside, padded = [], 0
        for tap in np.ndindex(*kernel):
            at = [q * s + t * d - p for q, s, t, d, p in zip(window, strides, tap, dilations, pads, strict=False)]
            ends = [p + n for p, n in zip(pads[rank:], spatial, strict=True)]
            if all(0 <= a < n for a, n in zip(at, spatial, strict=True)):
                inside.append(x[(slice(None), slice(None), *at)].astype(np.float64))
            elif all(a < e for a, e in zip(at, ends, strict=True)):
                padded += 1
        where = (slice(None), slice(None), *window)
        if inside:
            assert np.array_equal(greatest[where], np.max(inside, axis=0).astype(F32))
        else:
            assert (greatest[where] == -np.inf).all()
        count = len(inside) + (padded if include else 0)
        if count:
            assert np.allclose(mean[where], np.sum(inside, axis=0) / count, rtol=1e-6)


def test_gather():
    x = np.arange(24, dtype=F32).reshape(2, 3, 4)
    indices = np.array([[0, -1], [1, 2]])
    assert np.array_equal(run("gather", x, indices, attributes=(1,)), np.take(x, indices, 1))
    assert run("gather", x, np.array(2, np.int32), attributes=(2,)).shape == (2, 3)
    for wrong in (3, -4):
        with pytest.raises(ExecutionError, match=r"outside -3\.\.2"):
            run("gather", x, np.array([wrong]), attributes=(1,))


def test_axis_map_sums_what_is_not_zero():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 3)).astype(F32)
    matrix = (rng.standard_normal((4, 5)) * (rng.random((4, 5)) < 0.5)).astype(F32)
    expected = np.einsum("oi,nik->nok", matrix.astype(np.float64), x.astype(np.float64))
    assert np.allclose(run("axis_map", x, matrix, attributes=(1,)), expected, rtol=1e-6)
    x[0, 4, 0] = np.inf
    matrix[:, 4] = 0
    assert np.isfinite(run("axis_map", x, matrix, attributes=(1,))).all()
    assert (run("axis_map", x, np.zeros((2, 5), F32), attributes=(1,)) == 0).all()


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (6, 4, 2)), ((4,), (4, 5)), ((3, 4), (4,)),
                 ((4,), (4,)), ((2, 4), (3, 4, 1)), ((1, 0), (0, 2))],
)  # fmt: skip
def test_matmul(a, b):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(a).astype(F32), rng.standard_normal(b).astype(F32)
    assert np.allclose(run("matmul", x, y), np.matmul(x, y), rtol=1e-5, atol=1e-6)
    whole = run("matmul", (x * 9).astype(np.int32), (y * 9).astype(np.int32))
    assert np.array_equal(whole, np.matmul((x * 9).astype(np.int32), (y * 9).astype(np.int32)))


def test_matmul_gives_the_same_in_any_order():
    a, b = np.array([[1e20, 1.0, -1e20, 2e15]], F32), np.ones((4, 1), F32)
    assert run("matmul", a, b) == run("matmul", a[:, [0, 2, 1, 3]].copy(), b)  # float64: (1e20 + 1) - 1e20 is 0
    assert abs(run("matmul", a, b) - 2e15) <= 4 * 1e20 * 2.0**-22
    assert run("matmul", a.astype(np.float64), b.astype(np.float64)) == a[0, 3]


def test_cast():
    x = np.array([1.9, -1.9, 300.0, -300.0, np.nan, np.inf, -np.inf, 1e30], F32)

    def cast(dtype):
        return run("cast", x, attributes=(CODES[dtype],)).tolist()

    assert cast("int8") == [1, -1, 127, -128, 0, 127, -128, 127]
    assert cast("uint8") == [1, 0, 255, 0, 0, 255, 0, 255]
    most, least = 2**63 - 1, -(2**63)
    assert cast("int64") == [1, -1, 300, -300, 0, most, least, most]
    assert cast("uint64")[-1] == 2**64 - 1
    assert cast("bool") == [True] * 8
    assert run("cast", np.array([3, 0], np.int64), attributes=(CODES["bool"],)).tolist() == [True, False]
    assert run("cast", np.array([300], np.int64), attributes=(CODES["uint8"],)).tolist() == [44]
    assert run("cast", np.array([True]), attributes=(CODES["float32"],)).tolist() == [1.0]


def test_reshape_and_copy():
    x = np.arange(6, dtype=F32).reshape(2, 3).T
    assert run("reshape", x, attributes=(6,)).tolist() == [0, 3, 1, 4, 2, 5]
    assert run("copy", x) is not None
    with pytest.raises(ProgramError, match="does not fill"):
        run("reshape", x, attributes=(5,))


def test_quant_rounds_half_to_even_and_clips():
    x = np.array([0.25, 0.75, 1.25, -9, 200, np.nan, np.inf, -np.inf], F32)
    attributes = (0.5, 0, 255, CODES["uint8"], 0)
    assert run("quant", x, attributes=attributes).tolist() == [0, 2, 2, 0, 255, 0, 255, 0]
    assert run("quant", x, attributes=attributes, ideal=True) is not None
    assert np.array_equal(run("quant", x, attributes=attributes, ideal=True), x, equal_nan=True)
    shifted = (0.5, 0, 255, CODES["uint8"], 10)
    assert run("quant", x, attributes=shifted).tolist() == [10, 12, 12, 0, 255, 10, 255, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dequant_is_one_multiply_and_add_in_the_type_of_its_scale(dtype):
    rng = np.random.default_rng(0)
    acc = rng.integers(-(2**40), 2**40, (2, 3, 4, 4))
    scale, bias = (rng.standard_normal((3, 1, 1)).astype(dtype) for _ in range(2))
    y = run("dequant", acc, scale, bias, bias.astype(F32))
    assert y.dtype == F32
    for at in np.ndindex(acc.shape):
        channel = at[1], 0, 0
        product = dtype(dtype(int(acc[at])) * scale[channel])
        assert y[at] == F32(dtype(product + bias[channel]))
    real = acc.astype(F32)
    assert np.array_equal(
        evaluate(function_code("dequant"), [real, scale, bias, bias.astype(F32)], (), True), real + bias.astype(F32)
    )


def test_lookup_interpolates_and_goes_on():
    grid = np.linspace(-4, 4, 33)
    values = np.tanh(grid)
    slopes = np.diff(values) / 0.25
    attributes = (function_code("tanh"), 0, 0, -4, 0.25)
    x = np.array([-10, -4, -0.1, 0, 1.7, 4, 10, np.nan], F32)
    y = run("lookup", x, values[:-1].astype(F32), slopes.astype(F32), attributes=attributes)
    expected = np.interp(x, grid, values)
    expected[0], expected[6] = values[0] - 6 * slopes[0], values[-1] + 6 * slopes[-1]
    expected[-1] = np.nan
    assert np.allclose(y, expected, atol=1e-6, equal_nan=True)
    ideal = run("lookup", x, values[:-1].astype(F32), slopes.astype(F32), attributes=attributes, ideal=True)
    assert np.allclose(ideal, np.tanh(x), rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", ["reduce_sum", "reduce_mean", "tanh", "exp", "sin", "pow"])
def test_results_do_not_depend_on_what_else_is_in_the_batch(name):
    # engines run many micro-batches at once: each row must come out as if it were alone
    x = np.abs(np.random.default_rng(0).standard_normal((7, 3, 1001))).astype(F32)
    args = {"pow": lambda v: (v, np.array(1.7, F32))}.get(name, lambda v: (v,))
    attributes = (1, 2) if name.startswith("reduce") else () if name == "pow" else (0, 0)
    whole = run(name, *args(x), attributes=attributes)
    for k in range(7):
        assert np.array_equal(run(name, *args(x[k : k + 1]), attributes=attributes), whole[k : k + 1])
    strided = np.repeat(x, 2, axis=-1)[..., ::2]
    assert np.array_equal(run(name, *args(strided), attributes=attributes), whole)


@pytest.mark.parametrize(
    ("name", "operands", "attributes", "message"),
    [
        ("add", ["float32[2]", "float32[3]"], (), "do not broadcast"),
        ("add", ["float32[2]", "int8[2]"], (), "element types differ"),
        ("add", ["float32[2]"], (), "takes 2 operands"),
        ("add", ["float32[2]", "float32[2]"], (1,), "takes attributes"),
        ("exp", ["int32[2]"], (0, 0), "float elements"),
        ("exp", ["float32[2]"], (0,), "takes attributes"),
        ("reduce_sum", ["float32[2]"], (1, 1), "axis is 1, a whole number"),
        ("reduce_sum", ["float32[2,2]"], (1, 1, 0), "not sorted"),
        ("reduce_sum", ["float32[2]"], (), "takes attributes"),
        ("reduce_max", ["float32[0]"], (1, 0), "empty axis"),
        ("gather", ["float32[]", "int64[]"], (0,), "an axis is expected"),
        ("gather", ["float32[2]", "float32[]"], (0,), "integers are expected"),
        ("gather", ["float32[2]", "int64[]"], (float("nan"),), "whole number"),
        ("matmul", ["float32[2,3]", "float32[2,3]"], (), "3 columns but 2 rows"),
        ("matmul", ["float32[]", "float32[2]"], (), "vectors or matrices"),
        ("axis_map", ["float32[2,3]", "float32[4,2]"], (1,), r"\[out,3\] is expected"),
        ("pool_max", ["float32[1,1,4]"], (1, 5, 1, 0, 0, 1, 0), "does not fit"),
        ("pool_max", ["float32[1,1,4]"], (1, 5, 1), "7 are expected"),
        ("pool_max", ["float32[1,1,4]"], (9, 5, 1), "rank"),
        ("pool_average", ["uint8[1,1,4]"], (1, 2, 1, 0, 0, 1, 0), "float elements"),
        ("cast", ["float32[1]"], (8,), "element type code"),
        ("quant", ["float32[1]"], (0.0, 0, 255, 2, 0), "not positive"),
        ("quant", ["float32[1]"], (1.0, -1, 255, 2, 0), "quant: lo"),
        ("quant", ["float32[1]"], (1.0, 9, 3, 2, 9), "quant: hi"),
        ("quant", ["float32[1]"], (1.0, 0, 1, 1, 0), "8 or 16 bits"),
        ("quant", ["float32[1]"], (1.0, 0, 255, 2, 256), "quant: zero"),
        ("dequant", ["int32[1]", "float64[]", "float64[]", "float32[]"], (), "int64 is expected"),
        ("dequant", ["int64[1]", "float32[]", "float64[]", "float32[]"], (), "bias is .*, float32 is expected"),
        ("dequant", ["int64[1]", "int64[]", "int64[]", "float32[]"], (), "float32 or float64 is expected"),
        ("dequant", ["int64[1]", "float64[2]", "float64[]", "float32[]"], (), "do not broadcast"),
        ("lookup", ["float32[1]", "float32[3]", "float32[2]"], (17, 0, 0, 0, 1), "is expected"),
        ("lookup", ["float32[1]", "float32[2]", "float32[2]"], (64, 0, 0, 0, 1), "no function of one operand"),
        ("lookup", ["float32[1]", "float32[2]", "float32[2]"], (17, 0, 0, 0, 0), "step 0"),
        ("where", ["float32[1]", "float32[2]", "float32[2]"], (), "bool is expected"),
        ("prelu", ["float32[1]", "float32[2]"], (), "does not broadcast"),
    ],
)  # fmt: skip
def test_type_rules(name, operands, attributes, message):
    parsed = []
    for text in operands:
        dtype, _, shape = text.rstrip("]").partition("[")
        parsed.append(Operand(np.dtype(dtype), tuple(int(d) for d in shape.split(",") if d)))
    with pytest.raises(ProgramError, match=message):
        infer(function_code(name), parsed, attributes)


def test_codes_and_names_are_unique():
    assert len(FUNCTIONS) == len(BY_NAME)
    assert all(f.code == code for code, f in FUNCTIONS.items())
    with pytest.raises(ProgramError, match="vector function 'foo' is unknown"):
        function_code("foo")
    with pytest.raises(ProgramError, match="code 999 is unknown"):
        infer(999, [], ())


def lanes_of(numbers):
    """A sum as the instruction set states it, number by number."""
    if len(numbers) > 256:
        cut = len(numbers) - len(numbers) % 256
        blocks = [lanes_of(numbers[k : k + 256]) for k in range(0, cut, 256)]
        return lanes_of(blocks) + lanes_of(numbers[cut:]) if cut < len(numbers) else lanes_of(blocks)
    whole = len(numbers) - len(numbers) % 4
    lanes = [0.0] * 4
    for k, number in enumerate(numbers[:whole]):
        lanes[k % 4] += number
    found = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
    for number in numbers[whole:]:
        found += number
    return found


@given(
    shape=st.lists(st.sampled_from([1, 2, 3, 4, 7, 16, 40]), min_size=1, max_size=3),
    data=st.data(),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_sums_are_added_up_in_the_stated_order(shape, data, seed):
    axes = tuple(sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))))
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape) * 10.0 ** rng.integers(-8, 8, shape)
    kept = [a for a in range(x.ndim) if a not in axes]
    rows = x.transpose([*kept, *axes]).reshape(-1, math.prod(x.shape[a] for a in axes))
    expected = [lanes_of(row.tolist()) for row in rows]
    assert total(x, axes).reshape(-1).tolist() == expected
    assert total(x, axes, keepdims=True).shape == tuple(1 if a in axes else d for a, d in enumerate(shape))


@pytest.mark.parametrize("n", [255, 256, 257, 1000, 4096, 70000])
def test_long_sums_go_in_blocks(n):
    x = np.random.default_rng(n).normal(size=(2, n))
    assert total(x, 1).tolist() == [lanes_of(row.tolist()) for row in x]
    assert np.array_equal(total(np.ascontiguousarray(x.T), 0), total(x, 1))
