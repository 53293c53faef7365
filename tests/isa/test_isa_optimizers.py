"""The optimizers of UPDATE: PyTorch's numbers, level 1's rules to the bit, steps of a weight scale."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mgc.functions.codes import in_reals, in_steps
from mgc.functions.optimizers import OPTIMIZERS, optimize
from mgc.ir.ops.update import Adam, RmsProp, Sgd
from mgc.isa.error import ProgramError
from mgc.isa.optimizers import optimizer

FREE = (-np.inf, np.inf)

GRADIENTS = [[0.3, -2.0, 1e-4, 0.0], [-0.1, -1.0, 2e-4, 5.0], [0.7, 0.5, -3e-4, -4.0]]
START = [0.5, -1.25, 2.0, 0.0]

PYTORCH = [
    ("sgd", (0.1,), [0.41, -1.0, 2.0, -0.09999999999999998]),
    ("momentum", (0.1, 0.9), [0.36769999999999997, -0.568, 1.9999649, -0.55]),
    ("adam", (2e-4, 0.5, 0.999, 1e-8),
     [0.49958340542698837, -1.249588108495934, 1.9996817977192043, -0.00014215212713424068]),
    ("rmsprop", (0.01, 0.99, 1e-8, 0.0, 0.0),
     [0.3404874490844615, -1.1271091000981541, 1.8909366006324253, -0.037339162982558516]),
    ("rmsprop", (0.01, 0.9, 1e-8, 0.5, 0.0),
     [0.4311133897883747, -1.1800902125169226, 1.92773076519639, -0.027048277048916776]),
    ("rmsprop", (0.01, 0.9, 1e-8, 0.0, 1.0),
     [0.4459881132024943, -1.2084021516719938, 1.9612094462459833, -0.012940823537691461]),
    ("rmsprop", (0.01, 0.9, 1e-8, 0.5, 1.0),
     [0.42631480518030435, -1.1753081033667105, 1.920524186431894, -0.029607490093247025]),
]  # fmt: skip


def moments_of(name, hyper, shape):
    return [np.zeros(shape, np.float32) for _ in OPTIMIZERS[name].moments(hyper)]


@pytest.mark.parametrize(("name", "hyper", "expected"), PYTORCH)
def test_three_steps_as_pytorch_takes_them(name, hyper, expected):
    """The numbers are PyTorch 2.13's in float64:

    w = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = O([w])      # SGD(lr=0.1), SGD(lr=0.1, momentum=0.9), Adam(lr=2e-4, betas=(0.5, 0.999)),
    for g in GRADIENTS:     # RMSprop(lr=0.01), then RMSprop(lr=0.01, alpha=0.9) with momentum=0.5, centered=True, both
        w.grad = torch.tensor(g, dtype=torch.float64)
        optimizer.step()
    print(w.tolist())
    """
    w, moments = np.array(START, np.float32), moments_of(name, hyper, 4)
    for t, g in enumerate(GRADIENTS):
        before = [w.copy(), *(m.copy() for m in moments)]
        held = [w, *moments]
        new, kept = optimize(OPTIMIZERS[name], hyper, w, np.array(g, np.float32), moments, t + 1, FREE)
        assert all(np.array_equal(a, b) for a, b in zip(before, held, strict=True)), "an operand was changed"
        w, moments = new, kept
    assert w.dtype == np.float32
    assert all(m.dtype == np.float32 for m in moments)
    np.testing.assert_allclose(w, expected, rtol=2e-6, atol=1e-8)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 5000), st.booleans(), st.sampled_from([0.0, 0.5]))
def test_level_1_takes_the_same_step_to_the_bit(seed, step, centered, momentum):
    rng = np.random.default_rng(seed)
    w, g = (rng.standard_normal((2, 3, 5)) * rng.choice([1e-6, 1, 100])).astype(np.float32)
    v = np.abs(rng.standard_normal((3, 5))).astype(np.float32) + 1
    small = (rng.standard_normal((3, 5)) / 10).astype(np.float32)
    kept = [v, *([small] if centered else []), *([small] if momentum else [])]
    cases = [
        (Sgd(0.1, momentum), "momentum" if momentum else "sgd", (0.1, *([momentum] if momentum else [])),
         [small] if momentum else []),
        (Adam(2e-4, 0.5, 0.99, 1e-8), "adam", (2e-4, 0.5, 0.99, 1e-8), [small, v]),
        (RmsProp(0.01, 0.9, 1e-8, momentum, centered), "rmsprop", (0.01, 0.9, 1e-8, momentum, float(centered)), kept),
    ]  # fmt: skip
    for rule, name, hyper, moments in cases:
        assert len(moments) == len(rule.moments)
        expected_w, expected = rule.apply(w, g, [*moments, *([np.int64(step)] if rule.counts else [])], None)
        new, found = optimize(OPTIMIZERS[name], hyper, w, g, moments, step, FREE)
        assert np.array_equal(new, expected_w)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_weights_are_clipped():
    w, g = np.array([0.5, -0.5, 0.001], np.float32), np.array([-1, 1, 0], np.float32)
    new, _ = optimize(OPTIMIZERS["sgd"], (0.1,), w, g, [], 0, (-0.01, 0.02))
    assert np.array_equal(new, np.array([0.02, -0.01, 0.001], np.float32))
    new, _ = optimize(OPTIMIZERS["sgd"], (0.1,), w, g, [], 0, (-np.inf, 0.55))
    assert np.array_equal(new, np.array([0.55, -0.6, 0.001], np.float32))


def test_bias_correction_keeps_its_digits():
    """At the first step Adam moves by lr whatever the gradient: 1 - beta2 in float32 alone would miss by 1e-4."""
    for g in (1e-3, 1.0, 1e3):
        zero, gradient = np.zeros(1, np.float32), np.full(1, g, np.float32)
        new, _ = optimize(OPTIMIZERS["adam"], (1e-3, 0.9, 0.999, 0.0), zero, gradient, [zero] * 2, 1, FREE)
        np.testing.assert_allclose(new, -1e-3, rtol=5e-7)


@pytest.mark.parametrize(
    ("code", "hyper", "message"),
    [
        (9, (), "optimizer 9 is unknown; there are 0 .sgd., 1"),
        (0, (0.1, 0.2), r"sgd takes \(lr\), or these and .*, not 2 values"),
        (2, (0.1, 1.0, 0.9, 1e-8), "adam: beta1 is 1.0"),
        (0, (np.nan,), "lr is nan"),
        (1, (-0.1, 0.5), "lr is -0.1"),
        (3, (0.1, 0.9, 1e-8, 0.0, 0.5), "centered is 0.5"),
        (0, (0.1, 0.0, 5.0, 3.0, 1.0, 0.0), "rates cannot decay from 5.0 until 3.0"),
        (0, (0.1, 0.0, 1.0, 3.0, 0.5, 0.0), "in 0.5 runs an iteration"),
        (0, (0.1, 0.0, 0.0, 0.0, 1.0, 1.0), "average is 1.0"),
    ],
)
def test_hyper_parameters_have_ranges(code, hyper, message):
    with pytest.raises(ProgramError, match=message):
        optimizer(code, hyper)


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 16), st.floats(1e-6, 10), st.integers(0, 999))
def test_every_integer_survives_its_real_value(bits, scale, seed):
    most = 2 ** (bits - 1) - 1
    steps = np.random.default_rng(seed).integers(-most, most, 200, endpoint=True)
    assert np.array_equal(in_steps(in_reals(steps, scale), scale, bits), steps)


def test_steps_round_half_to_even_and_stay_inside():
    w = np.array([0.25, 0.75, -0.25, 1e9, -1e9, 63.6], np.float32)
    assert in_steps(w, 0.5, 8).tolist() == [0, 2, 0, 127, -127, 127]
    assert in_reals(np.array([-127, 3]), 0.5).tolist() == [-63.5, 1.5]
