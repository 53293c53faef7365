"""Replicas given up so that groups share no macro, and where groups then begin."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mgc.passes.mapping.allocate import Demand, Rest, allocate_cheaply
from mgc.passes.mapping.place import lay_out
from mgc.passes.mapping.plan import GroupMap
from mgc.passes.mapping.whole_macros import in_whole_macros
from mgc.targets import load_target

DEMANDS = st.lists(
    st.builds(Demand, st.integers(0, 3), st.integers(1, 20), st.integers(1, 5000), st.just(100), written=st.just(1e-9)),
    min_size=1,
    max_size=8,
)


def in_order(demands):
    return sorted(demands, key=lambda d: d.layer)


def macros_of(sizes, each):
    return sum(-(-s // each) for s in sizes)


@given(DEMANDS, st.integers(1, 40), st.integers(1, 8))
def test_groups_get_whole_macros_where_one_copy_of_each_fits(drawn, macros, per_macro):
    demands = in_order(drawn)
    if sum(d.crossbars for d in demands) > macros * per_macro:
        return
    held, _ = allocate_cheaply(demands, macros * per_macro, "time", Rest(cycles=50, macros=macros))
    found = in_whole_macros(held, demands, macros)
    each = -(-held.crossbars // macros)
    sizes = [d.crossbars * r for d, r in zip(demands, found.replicas, strict=True)]
    if found != held:
        assert macros_of([d.crossbars * r for d, r in zip(demands, held.replicas, strict=True)], each) > macros
        assert macros_of(sizes, each) <= macros
    elif macros_of(sizes, each) > macros:
        assert macros_of([d.crossbars for d in demands], each) > macros - len(demands)
    assert all(1 <= r <= before for r, before in zip(found.replicas, held.replicas, strict=True))
    assert found.crossbars == sum(sizes)
    layers = {d.layer for d in demands}
    slowest = [max(d.duration(r) for d, r in zip(demands, found.replicas, strict=True) if d.layer == n) for n in layers]
    assert (found.latency, found.bottleneck) == (sum(slowest), max(slowest))


def chip(macros, per_macro):
    target = load_target("liu2018")
    keys = {"tiles_per_chip": macros, "macros_per_tile": 1, "crossbars_per_macro": per_macro}
    return target.model_copy(update={"structure": target.structure.model_copy(update=keys)})


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=7),
       st.integers(1, 12), st.integers(1, 8))  # fmt: skip
def test_groups_begin_macros_as_far_as_there_is_room(drawn, macros, per_macro):
    groups = tuple(
        GroupMap(f"g{n}", f"g{n}", f"layer{layer}", replicas, size, chip=0)
        for n, (layer, size, replicas) in enumerate(sorted(drawn))
    )
    sizes = [g.crossbars_per_replica * g.replicas for g in groups]
    if sum(sizes) > macros * per_macro:
        return
    order = list(dict.fromkeys(g.layer for g in groups))
    placed = lay_out(groups, order, chip(macros, per_macro), spread=True)
    everything = [c for g in placed for c in g.crossbars]
    assert [len(g.crossbars) for g in placed] == sizes
    assert len(set(everything)) == len(everything)
    assert max(everything) < macros * per_macro
    least = min(per_macro, -(-sum(sizes) // macros))
    each = next((e for e in range(least, per_macro + 1) if macros_of(sizes, e) <= macros), least)
    assert all(c % per_macro < each for c in everything)
    by_group = [{c // per_macro for c in g.crossbars} for g in placed]
    if macros_of(sizes, each) <= macros:
        assert sum(map(len, by_group)) == len(set().union(*by_group))
    layers = {layer: sum(s for g, s in zip(groups, sizes, strict=True) if g.layer == layer) for layer in order}
    if macros_of(layers.values(), each) <= macros:
        by_layer = [{c // per_macro for g in placed if g.layer == n for c in g.crossbars} for n in order]
        assert sum(map(len, by_layer)) == len(set().union(*by_layer))
