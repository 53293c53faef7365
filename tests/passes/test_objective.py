"""Replicas for least time, energy or energy x delay, against all choices that there are."""

from itertools import product
from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mgc
from mgc.passes.mapping.allocate import OBJECTIVES, Demand, Rest, allocate_cheaply
from mgc.passes.mapping.place import lay_out
from mgc.passes.mapping.plan import GroupMap
from mgc.targets.loader import load_target

MODELS = Path(__file__).parents[2] / "models" / "zoo" / "onnx"

demands = st.lists(
    st.builds(
        Demand,
        st.integers(0, 2),
        st.integers(1, 4),
        st.integers(1, 6),
        st.integers(1, 9),
        written=st.floats(0.001, 5),
    ),
    min_size=1,
    max_size=3,
)
rests = st.builds(
    Rest, st.integers(0, 20), st.floats(0, 10), st.sampled_from([0.0, 0.01, 1.0]), st.sampled_from([3, 1 << 30])
)


def value_of(held, found, objective, rest):
    """What a run with some replicas takes of what is to be least."""
    return rest.value_of(objective, found, held.replicas, held.latency)


def least(found, budget, objective, rest):
    """The least value of all replicas within a budget."""
    values = []
    for replicas in product(*(range(1, d.windows + 1) for d in found)):
        if sum(d.crossbars * r for d, r in zip(found, replicas, strict=True)) <= budget:
            layers = {d.layer for d in found}
            cycles = sum(
                max(d.duration(r) for d, r in zip(found, replicas, strict=True) if d.layer == layer) for layer in layers
            )
            values.append(rest.value_of(objective, found, replicas, cycles))
    return min(values)


@given(demands, rests, st.sampled_from(OBJECTIVES), st.integers(0, 30))
def test_it_is_the_least_that_there_is_or_says_how_far_it_may_be(found, rest, objective, spare):
    budget = sum(d.crossbars for d in found) + spare
    held, bound = allocate_cheaply(found, budget, objective, rest)
    value, best = value_of(held, found, objective, rest), least(found, budget, objective, rest)
    assert held.crossbars == sum(d.crossbars * r for d, r in zip(found, held.replicas, strict=True)) <= budget
    assert bound <= best * (1 + 1e-9)
    assert value >= best * (1 - 1e-9)
    if objective != "time" and rest.macros > 3 and budget >= sum(d.crossbars * d.windows for d in found):
        assert value == pytest.approx(best)
        assert bound == pytest.approx(best)


@given(demands, rests, st.integers(0, 30))
def test_each_objective_is_served_best_by_its_own_choice(found, rest, spare):
    budget = sum(d.crossbars for d in found) + spare
    held = {o: allocate_cheaply(found, budget, o, rest)[0] for o in OBJECTIVES}
    for objective in OBJECTIVES:
        own = value_of(held[objective], found, objective, rest)
        assert own <= value_of(held["time"], found, objective, rest) * (1 + 1e-9)


def test_no_replica_that_costs_more_than_it_gains():
    """A replica of either layer takes half its reads' time; only that of the first is worth what it writes."""
    found = [Demand(0, 1, 8, 100, written=0.01), Demand(1, 1, 8, 1, written=10.0)]
    held, _ = allocate_cheaply(found, 1000, "edp", Rest(joules=10.0))
    assert held.replicas == (8, 1)


def test_crossbars_are_spread_over_macros_as_far_as_there_are_macros():
    target = load_target("liu2018")
    per_macro = target.structure.crossbars_per_macro
    macros = target.structure.crossbars // per_macro
    for used, most in ((10, 1), (macros, 1), (macros + 1, 2), (8 * macros, 8)):
        groups = [GroupMap("a", "a", "a", used - 3, 1), GroupMap("b", "b", "b", 3, 1)]
        placed = lay_out(groups, ["a", "b"], target, spread=True)
        crossbars = [c for g in placed for c in g.crossbars]
        assert len(set(crossbars)) == used
        assert all(0 <= c < target.structure.crossbars for c in crossbars)
        counts = [0] * macros
        for c in crossbars:
            counts[c // per_macro] += 1
        assert max(counts) == most


@pytest.mark.parametrize(("bytes_per_tile", "on_chip"), [(65536, True), (128, False)])
def test_moments_leave_the_chip_where_an_iteration_needs_its_memory(bytes_per_tile, on_chip):
    target = load_target("liu2018").replace({"edram.bytes_per_tile": bytes_per_tile})
    program = mgc.compile(
        MODELS / "mlp_G.onnx", discriminator=MODELS / "mlp_D.onnx", loss="bce", optimizer="adam", batch=8, target=target
    )
    moments = [b for b in program.buffers if b.persistent and b.alias_of < 0 and prod(b.shape) > 1000]
    assert moments
    assert all((b.space == "edram") == on_chip for b in moments)
