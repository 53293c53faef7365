"""Replicas: the least bottleneck against brute force, the latency within its bound, budgets kept."""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.passes.mapping.allocate import Demand, allocate, least_bottleneck


@st.composite
def demands(draw) -> list[Demand]:
    layers = draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    return [
        Demand(
            layer,
            draw(st.integers(1, 5)),
            draw(st.integers(1, 7)),
            draw(st.integers(1, 9)),
            draw(st.integers(0, 3)),
        )
        for layer, groups in enumerate(layers)
        for _ in range(groups)
    ]


def latency(given: list[Demand], replicas: tuple[int, ...]) -> int:
    longest: dict[int, int] = {}
    for d, r in zip(given, replicas, strict=True):
        longest[d.layer] = max(longest.get(d.layer, 0), d.duration(r))
    return sum(longest.values())


@settings(max_examples=150, deadline=None)
@given(demands(), st.integers(0, 25), st.sampled_from([1, 10**6]))
def test_against_every_choice(needs, spare, micro_batches):
    budget = sum(d.crossbars for d in needs) + spare
    every = [
        (max(d.duration(r) for d, r in zip(needs, rs, strict=True)), latency(needs, rs))
        for rs in product(*(range(1, d.windows + 1) for d in needs))
        if sum(d.crossbars * r for d, r in zip(needs, rs, strict=True)) <= budget
    ]
    found = allocate(needs, budget, micro_batches=micro_batches)
    assert found.crossbars == sum(d.crossbars * r for d, r in zip(needs, found.replicas, strict=True)) <= budget
    assert found.least_bottleneck == least_bottleneck(needs, budget) == min(b for b, _ in every)
    assert found.bottleneck == max(d.duration(r) for d, r in zip(needs, found.replicas, strict=True))
    assert found.latency == latency(needs, found.replicas)
    best = min(total for b, total in every if b <= found.bottleneck)
    assert found.least_latency - 1e-6 <= best <= found.latency
    if micro_batches > 1:
        assert found.bottleneck == found.least_bottleneck
    assert all(r <= d.windows for d, r in zip(needs, found.replicas, strict=True))


def test_a_stream_gets_throughput_and_a_single_sample_gets_latency():
    # a heavy layer and a light one: equal durations are the least bottleneck, the square root rule the least latency
    needs = [Demand(0, 1, 1000, 10), Demand(1, 100, 1000, 10)]
    stream = allocate(needs, 2020, micro_batches=1000)
    single = allocate(needs, 2020)
    assert stream.bottleneck == stream.least_bottleneck < single.bottleneck
    assert single.latency < stream.latency
    assert single.latency <= 1.05 * single.least_latency


def test_nothing_is_gained_below_what_other_units_take():
    needs = [Demand(0, 1, 100, 10), Demand(1, 1, 100, 10)]
    assert allocate(needs, 20, micro_batches=100, floor=500).bottleneck <= 500
    assert allocate([], 20).replicas == ()


def test_the_latency_is_close_to_its_bound_on_a_deep_network():
    needs = [Demand(k, 5 + 7 * k % 60, 4 ** (k % 5 + 1), 800, 102) for k in range(60)]
    found = allocate(needs, 16_128)
    assert found.latency <= 1.01 * found.least_latency
