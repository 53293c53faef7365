"""Tables of unknown losses: within their proven error of the function and its derivative, for random functions."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.types import DType, TensorType
from mgc.passes.losses import smooth
from mgc.passes.losses.enclose import enclose
from mgc.passes.losses.facts import GraphFacts
from mgc.passes.losses.interval import Interval
from mgc.passes.losses.region import Region
from mgc.passes.losses.tabulate import TOLERANCE, UntabulatedError, tabulate
from mgc.passes.training.differentiate import gradients

F64 = TensorType(DType.F64, (64,))


class Curve:
    """f(u) as a graph on 64 scores; `values` gives f and f' by the ops and their own gradient rules."""

    def __init__(self, make):
        self.graph = Graph("curve")
        self.u = self.graph.add_input("u", F64)
        build = Build(self.graph)
        self.y = make(build, self.u)
        self.region = Region.of(GraphFacts(self.graph, ()), self.y)
        self.graph.outputs.append(("f", self.y))
        (d,) = gradients(self.graph, build.total(self.y), [self.u])
        self.graph.outputs.append(("d", build.full(0.0, self.u) if d is None else d))

    def values(self, u):
        found = [evaluate(self.graph, {"u": part}) for part in np.resize(u, (-(-len(u) // 64), 64))]
        return tuple(np.concatenate([f[k] for f in found])[: len(u)] for k in ("f", "d"))


# -- random functions --------------------------------------------------------------------------------------------------

SMOOTH = ("sigmoid", "tanh", "softplus", "sin", "cos", "atan", "erf", "softsign", "silu", "mish", "gelu", "gelu_tanh")
CORNERED = ("abs", "relu", "leaky_relu", "elu", "selu", "celu", "hard_sigmoid", "hard_swish")


def unary(fn):
    def made(g, x):
        return g.unary(fn, x, 0.6 if fn in ("leaky_relu", "hard_sigmoid") else 1.0, 0.3)

    return made


def functions(names):
    leaf = st.just(lambda g, u: u)
    scaled = st.tuples(st.sampled_from([-2.0, -0.7, 0.5, 1.0]), st.sampled_from([-1.3, 0.0, 0.4])).map(
        lambda c: lambda g, u: g.add(g.mul(u, c[0]), c[1])
    )

    def grow(inner):
        return st.one_of(
            st.tuples(st.sampled_from(names), inner).map(lambda c: lambda g, u: unary(c[0])(g, c[1](g, u))),
            st.tuples(inner, inner).map(lambda c: lambda g, u: g.add(c[0](g, u), c[1](g, u))),
            st.tuples(inner, inner).map(lambda c: lambda g, u: g.mul(bounded(g, c[0](g, u)), c[1](g, u))),
            inner.map(lambda f: lambda g, u: (lambda x: g.mul(x, x))(bounded(g, f(g, u)))),
            inner.map(lambda f: lambda g, u: g.binary("pow", bounded(g, f(g, u)), 3.0)),
            inner.map(lambda f: lambda g, u: g.unary("log", g.add(g.mul(f(g, u), f(g, u)), 1.5))),
            inner.map(lambda f: lambda g, u: g.unary("exp", bounded(g, f(g, u)))),
            inner.map(lambda f: lambda g, u: g.div(g.number(1.0, u), g.add(g.unary("exp", bounded(g, f(g, u))), 0.5))),
        )

    return st.recursive(st.one_of(leaf, scaled), grow, max_leaves=4)


def bounded(g, x):
    return g.unary("tanh", g.mul(x, 0.5))


def check(curve, table, points):
    """|table - f| <= bound max(1, |f|) away from corners; f and f' by the ops in float64."""
    points = points[(points >= table.low) & (points <= table.high)]
    for c in table.corners:
        points = points[np.abs(points - c) > 1e-6]
    f, d = curve.values(points)
    for found, expected, bound in (
        (table.look_up(points, 1), f, table.loss_error),
        (table.look_up(points, 3), d, table.delta_error),
    ):
        # the ops in float64 have a rounding error of their own
        allowed = (bound + 1e-9) * np.maximum(1, np.abs(expected))
        assert (np.abs(found - expected) <= allowed).all()


def points_of(table, seed):
    rng = np.random.default_rng(seed)
    ends = table.segments[:, 0]
    inside = ends[:-1] + rng.random(len(ends) - 1) * np.diff(ends)
    return np.concatenate([rng.uniform(-32, 32, 1500), inside, ends, (ends[1:] + ends[:-1]) / 2])


@settings(max_examples=30, deadline=None)
@given(functions(SMOOTH), st.integers(0, 99))
def test_smooth_functions(make, seed):
    curve = Curve(make)
    table = tabulate(curve.region, curve.u)
    assert (table.low, table.high) == (-32.0, 32.0)
    assert max(table.loss_error, table.delta_error) <= 1e-2
    check(curve, table, points_of(table, seed))


@settings(max_examples=25, deadline=None)
@given(functions(SMOOTH + CORNERED), st.integers(0, 99))
def test_functions_with_corners(make, seed):
    curve = Curve(make)
    try:
        table = tabulate(curve.region, curve.u)
    except UntabulatedError:
        assume(False)  # corners of corners may be too many
        return
    check(curve, table, points_of(table, seed))


@settings(max_examples=60, deadline=None)
@given(functions(SMOOTH + CORNERED), st.floats(-20, 20), st.floats(1e-6, 3))
def test_enclosures_hold_on_any_cell(make, left, width):
    """f and its first derivative at points of a cell are within what is stated for the cell and for its ends."""
    curve = Curve(make)
    jet = enclose(curve.region, curve.u, np.array([left]), np.array([left + width]), 1.0)
    u = np.linspace(left, left + width, 64)
    for order, values in enumerate(curve.values(u)):
        lo, hi = jet.d[order].lo[:, 0], jet.d[order].hi[:, 0]
        slack = 1e-9 * max(1.0, np.abs(values).max())
        # a corner on an end of the cell takes its derivative from the other side, or from neither
        within = values[1:-1] if order else values
        assert lo[0] - slack <= within.min()
        assert within.max() <= hi[0] + slack
        if order == 0:
            assert lo[1] - slack <= values[0] <= hi[1] + slack
            assert lo[2] - slack <= values[-1] <= hi[2] + slack


@pytest.mark.parametrize("name", sorted(smooth.UNARY))
def test_second_and_third_derivatives_are_enclosed(name):
    """Divided differences of f' and f'' lie between their derivatives' bounds on the cell."""
    alpha, beta = (0.6, 0.3) if name in ("leaky_relu", "hard_sigmoid") else (1.0, 1.0)
    curve = Curve(lambda g, u: g.unary(name, u, alpha, beta))
    rng = np.random.default_rng(1)
    left = rng.uniform(0.05, 4, 200) if name in ("log", "sqrt", "reciprocal") else rng.uniform(-6, 6, 200)
    h = 1e-3
    jet = enclose(curve.region, curve.u, left, left + 4 * h, 1.0)
    slopes = np.stack([curve.values(left + k * h)[1] for k in range(5)])
    second = np.diff(slopes, axis=0) / h
    third = np.diff(second, axis=0) / h
    for order, found, noise in ((2, second, 1e-9), (3, third, 1e-5)):
        lo, hi = jet.d[order].lo[0], jet.d[order].hi[0]
        assert (found.min(axis=0) >= lo - noise).all()
        assert (found.max(axis=0) <= hi + noise).all()


# -- particular tables -------------------------------------------------------------------------------------------------


def test_straight_pieces_are_exact_and_corners_are_named():
    curve = Curve(lambda g, u: g.unary("abs", g.sub(u, 0.3)))
    table = tabulate(curve.region, curve.u)
    assert max(table.loss_error, table.delta_error) < 1e-12
    assert np.abs(np.array(table.corners) - 0.3).max() < 1e-6
    u = np.array([-1e4, -5.0, 0.0, 0.2, 0.4, 7.0, 1e4])
    np.testing.assert_allclose(table.look_up(u, 1), np.abs(u - 0.3), rtol=1e-12)
    assert table.look_up(u, 3).tolist() == [-1, -1, -1, -1, 1, 1, 1]


def test_tails_are_straight():
    curve = Curve(lambda g, u: g.binary("pow", u, 4.0))
    table = tabulate(curve.region, curve.u)
    assert table.look_up(np.array([40.0]), 1).item() == pytest.approx(32**4 + 8 * 4 * 32**3)
    assert table.look_up(np.array([40.0]), 3).item() == pytest.approx(4 * 32**3)
    assert table.loss_error <= TOLERANCE * 1.001


def test_a_table_reaches_as_far_as_the_function_is_known():
    """log(1 - sigmoid(u)) + u^2 has no digits left at 30: the table stops before, with a straight tail."""

    def make(g, u):
        return g.add(g.unary("log", g.sub(g.number(1.0, u), g.unary("sigmoid", u))), g.mul(u, u))

    curve = Curve(make)
    table = tabulate(curve.region, curve.u)
    assert table.low == -32.0
    assert 15 < table.high < 30
    u = np.linspace(-32, table.high, 300)
    exact = u * u - np.array([max(x, 0) + math.log1p(math.exp(-abs(x))) for x in u])
    assert (np.abs(table.look_up(u, 1) - exact) <= table.loss_error * np.maximum(1, np.abs(exact))).all()


def test_orientation_turns_the_axis():
    curve = Curve(lambda g, u: g.unary("exp", g.mul(u, 0.5)))
    table = tabulate(curve.region, curve.u, -1.0)
    u = np.linspace(-5, 5, 50)
    np.testing.assert_allclose(table.look_up(u, 1), np.exp(-0.5 * u), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(table.look_up(u, 3), -0.5 * np.exp(-0.5 * u), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda g, u: g.unary("log", u), "not defined, or has no bounded slope, at a score of -0.68"),
        (lambda g, u: g.unary("reciprocal", u), "it is not bounded at a score of"),
        (lambda g, u: g.unary("sin", g.unary("exp", u)), "no table of 12000 segments has a proven error below"),
        (lambda g, u: g.unary("acosh", u), "no bound can be proven for unary acosh"),
    ],
)
def test_what_has_no_table(make, message):
    curve = Curve(make)
    with pytest.raises(UntabulatedError, match=message):
        tabulate(curve.region, curve.u)


# -- intervals -----------------------------------------------------------------------------------------------------

ends = st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e3))


@settings(max_examples=200, deadline=None)
@given(ends, ends, st.floats(0, 1), st.floats(0, 1))
def test_interval_operations_enclose_exact_results(a, b, p, q):
    from fractions import Fraction

    x, y = (Interval(np.array([lo]), np.array([lo + w])) for lo, w in (a, b))
    u, v = (float(np.clip(i.lo[0] + r * (i.hi[0] - i.lo[0]), i.lo[0], i.hi[0])) for i, r in ((x, p), (y, q)))
    exact = {
        "+": (x + y, Fraction(u) + Fraction(v)),
        "-": (x - y, Fraction(u) - Fraction(v)),
        "*": (x * y, Fraction(u) * Fraction(v)),
        "**3": (x.power(3), Fraction(u) ** 3),
        "**4": (x.power(4), Fraction(u) ** 4),
    }
    if v:
        exact["1/"] = (y.inverse(), 1 / Fraction(v))
    for name, (interval, value) in exact.items():
        lo, hi = float(interval.lo[0]), float(interval.hi[0])
        assert math.isinf(lo) or Fraction(lo) <= value, name
        assert math.isinf(hi) or value <= Fraction(hi), name
