"""Function tables: as near as their segments allow inside, along the asymptotes outside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.functions.unary import UNARY
from mgc.ir.mapped import Lookup
from mgc.ir.ops import Unary
from mgc.passes.quantizing.tables import Table, make_table, needs_table


def look_up(op: Unary, table: Table, x: np.ndarray) -> np.ndarray:
    lookup = Lookup(op.fn, op.alpha, op.beta, table.lo, table.step)
    return lookup.evaluate(x.astype(np.float32), table.values, table.slopes)[0]


# the largest error over -6 .. 6 with 256 segments
SMOOTH = [
    (Unary("sigmoid"), 1e-4),
    (Unary("tanh"), 1.5e-4),
    (Unary("erf"), 1e-4),
    (Unary("softplus"), 2e-4),
    (Unary("gelu"), 2e-4),
    (Unary("gelu_tanh"), 2e-4),
    (Unary("silu", 1.0), 4e-4),
    (Unary("mish"), 4e-4),
    (Unary("elu", 1.0), 6e-4),
    (Unary("celu", 2.0), 6e-4),
    (Unary("selu", 1.67326, 1.0507), 1e-3),
    (Unary("hard_swish"), 1e-4),
    (Unary("softsign"), 1.5e-3),
    (Unary("atan"), 3e-4),
    (Unary("sin"), 4e-4),
    (Unary("cos"), 4e-4),
]


@pytest.mark.parametrize(("op", "bound"), SMOOTH, ids=lambda v: v.fn if isinstance(v, Unary) else "")
def test_error_inside(op: Unary, bound: float) -> None:
    table = make_table(op, (-6.0, 6.0), 256)
    x = np.linspace(-6, 6, 20_001)
    error = float(np.max(np.abs(look_up(op, table, x) - op.evaluate(x)[0])))
    assert error <= bound
    assert table.error >= 0.7 * error


@pytest.mark.parametrize("fn", ["sigmoid", "tanh", "erf", "softplus", "gelu", "gelu_tanh", "mish", "hard_swish"])
def test_tails_follow_the_asymptotes(fn: str) -> None:
    op = Unary(fn)
    table = make_table(op, (-1.0, 1.0), 256)
    x = np.array([-1e4, -100.0, -20.0, 20.0, 100.0, 1e4])
    np.testing.assert_allclose(look_up(op, table, x), op.evaluate(x)[0], rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_tails_of_parametrised_functions(alpha: float) -> None:
    for op in (Unary("elu", alpha), Unary("celu", alpha), Unary("silu", alpha), Unary("selu", alpha, 1.5)):
        table = make_table(op, (-1.0, 1.0), 256)
        x = np.array([-500.0, -60.0, 60.0, 500.0])
        np.testing.assert_allclose(look_up(op, table, x), op.evaluate(x)[0], rtol=1e-5, atol=1e-3)


def test_a_narrow_range_buys_precision_where_there_is_no_asymptote() -> None:
    wide, narrow = (make_table(Unary("exp"), (-20.0, top), 256) for top in (8.0, 2.0))
    assert narrow.error < wide.error / 100


def test_domains_are_respected() -> None:
    for fn, seen in (("log", (0.5, 4.0)), ("asin", (-1.0, 1.0)), ("acosh", (1.0, 3.0)), ("atanh", (-0.9, 0.9))):
        table = make_table(Unary(fn), seen, 256)
        assert np.all(np.isfinite(table.values))
        assert np.all(np.isfinite(table.slopes))
        x = np.linspace(*seen, 101)
        assert np.max(np.abs(look_up(Unary(fn), table, x) - Unary(fn).evaluate(x)[0])) < 0.05


@pytest.mark.parametrize("segments", [1, 2, 3, 16, 1024])
def test_any_number_of_segments(segments: int) -> None:
    table = make_table(Unary("tanh"), (-2.0, 2.0), segments)
    assert table.values.shape == table.slopes.shape == (segments,)
    assert np.all(np.isfinite(look_up(Unary("tanh"), table, np.linspace(-9, 9, 100))))


def test_degenerate_ranges() -> None:
    for seen in ((0.0, 0.0), (3.0, 3.0), (-1e-30, 1e-30)):
        for fn in ("exp", "log", "sin", "softsign"):
            table = make_table(Unary(fn), seen, 256)
            assert table.step > 0
            assert np.all(np.isfinite(table.values))


SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)
MODEST = st.floats(-200, 200, width=32)


@given(
    st.sampled_from(sorted(fn for fn in UNARY if needs_table(Unary(fn)))),
    st.one_of(st.tuples(SINGLE, SINGLE), st.tuples(MODEST, MODEST)),
    st.floats(-4, 4),
    st.sampled_from([1, 2, 16, 256]),
)
def test_every_range_has_a_table(fn: str, seen: tuple[float, float], alpha: float, segments: int) -> None:
    """On an asymptote, outside the domain, at the ends of float32: it rises, and all it holds are numbers."""
    op, seen = Unary(fn, alpha or 1.0, 1.0), (min(seen), max(seen))
    with np.errstate(all="ignore"):
        table = make_table(op, seen, segments)
        ends = np.array([table.lo, table.step, 1 / np.float32(table.step)], np.float32)
        assert all(np.all(np.isfinite(numbers)) for numbers in (ends, table.values, table.slopes))
        assert np.float32(table.step) > 0
        assert len(table.values) == segments
        if seen[0] >= -200 and seen[1] <= -40 and fn == "exp":
            assert np.max(look_up(op, table, np.linspace(*seen, 50))) < 1e-4


def test_which_functions_are_tables() -> None:
    exact = {fn for fn in UNARY if not needs_table(Unary(fn))}
    assert {"relu", "leaky_relu", "abs", "neg", "hard_sigmoid", "sqrt", "reciprocal", "floor", "not"} <= exact
    assert not exact & {"sigmoid", "tanh", "exp", "log", "erf", "gelu", "softplus", "elu", "sin"}
