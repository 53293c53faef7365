"""Smooth functions in `float` numerics on both engines: against the C library's, over the whole range of float32."""

import math

import numpy as np
import pytest
from builder import ProgramBuilder
from test_fast import run

from mgc.functions.unary import UNARY
from mgc.sim.fast import FastEngine
from mgc.sim.reference import ReferenceEngine


def elu(x, alpha=1.0, inner=1.0):
    return x if x > 0 else alpha * math.expm1(x * inner)


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def gelu_tanh(x, a, b):
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


TRUTH = {
    "exp": lambda x, a, b: math.exp(x),
    "log": lambda x, a, b: math.log(x),
    "elu": lambda x, a, b: elu(x, a),
    "selu": lambda x, a, b: b * elu(x, a),
    "celu": lambda x, a, b: elu(x, a, 1 / a),
    "sigmoid": lambda x, a, b: sigmoid(x),
    "tanh": lambda x, a, b: math.tanh(x),
    "softplus": lambda x, a, b: softplus(x),
    "softsign": lambda x, a, b: x / (1 + abs(x)),
    "erf": lambda x, a, b: math.erf(x),
    "gelu": lambda x, a, b: x / 2 * math.erfc(-x / math.sqrt(2)),
    "gelu_tanh": gelu_tanh,
    "silu": lambda x, a, b: x * sigmoid(a * x),
    "mish": lambda x, a, b: x * math.tanh(softplus(x)),
    **{n: (lambda x, a, b, n=n: getattr(math, n)(x))
       for n in ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")},
}  # fmt: skip
PARAMETERS = {"elu": [(1, 0), (0.3, 0)], "selu": [(1.6732632, 1.050701)], "celu": [(1, 0), (0.7, 0), (4, 0)],
              "silu": [(1, 0), (1.702, 0), (0.2, 0)]}  # fmt: skip
CASES = [(n, *p) for n, f in UNARY.items() if f.smooth for p in PARAMETERS.get(n, [(0, 0)])]

GRID = np.concatenate(
    [np.linspace(-100, 100, 8001), np.linspace(-3, 3, 2001), *(s * np.logspace(-37, 38, 2001) for s in (1, -1))]
).astype(np.float32)


def values(name, alpha, beta):
    """Operands where the function is defined and no subnormal, and the true results."""
    pairs = []
    for x in GRID.tolist():
        if name in ("sin", "cos", "tan") and abs(x) > 1e4:
            continue  # reduction of huge arguments is the library's own affair
        try:
            y = float(TRUTH[name](x, alpha, beta))
        except (ValueError, OverflowError):
            continue
        if abs(y) < 3.4e38:
            pairs.append((x, y))
    return np.array(pairs).T


def computed(engine, name, alpha, beta, x):
    b = ProgramBuilder(1, 1)
    source = b.input(x.shape)
    k = b.kernel()
    result = k.store(k.step(name, source, attributes=(alpha, beta)))
    k.emit()
    b.output(result)
    program = b.build()
    (port,) = program.inputs
    (result,) = run(engine(program), program, {port.name: x.astype(np.float32)}, 1).values()
    return result.astype(np.float64)


@pytest.mark.parametrize("engine", [lambda p: FastEngine(p, "float", 1), lambda p: ReferenceEngine(p, "float")],
                         ids=["fast", "reference"])  # fmt: skip
@pytest.mark.parametrize(("name", "alpha", "beta"), CASES)
def test_to_a_millionth_over_the_whole_range(name, alpha, beta, engine):
    alpha, beta = float(np.float32(alpha)), float(np.float32(beta))
    x, y = values(name, alpha, beta)
    error = np.abs(computed(engine, name, alpha, beta, x[None]).ravel() - y)
    bad = error > np.maximum(1e-6 * np.abs(y), 1e-30)
    assert not bad.any(), f"{name}({x[bad][:4]}): off by {(error[bad] / np.abs(y[bad]))[:4]}"


def test_every_smooth_function_has_a_truth():
    assert set(TRUTH) == {n for n, f in UNARY.items() if f.smooth}
