"""Layers on chips: the partition against brute force, sends, links as units, their time and energy."""

from itertools import product

import numpy as np
import pytest
from checker import check, facts_of_program
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, chain, level2, networks, plan, program_of, small_target
from plan_facts import facts_of_plan

from mgc.ir import ops
from mgc.ir.graph import evaluate
from mgc.ir.mapped import Mvm, Send
from mgc.ir.types import DType, TensorType
from mgc.isa.verify import verify
from mgc.passes.mapping.allocate import Demand, allocate, least_run_cycles, run_cycles
from mgc.passes.mapping.chips import Net, link_traffic, partition, split
from mgc.sim.simulator import Simulator
from mgc.targets.codegen.account import Account
from mgc.targets.cost import CostModel, Route

QUICK = 0.1


@st.composite
def problems(draw):
    """(sizes, nets, chips, capacity), small enough to try everything."""
    layers = draw(st.integers(1, 6))
    sizes = draw(st.lists(st.integers(1, 9), min_size=layers, max_size=layers))
    some = st.sets(st.integers(0, layers - 1), min_size=1, max_size=3)
    nets = draw(st.lists(st.builds(Net, st.integers(0, 50), some.map(frozenset)), max_size=8))
    return sizes, nets, draw(st.integers(1, 3)), draw(st.integers(4, 20))


def every_partition(sizes, chips, capacity):
    for chip_of in product(range(chips), repeat=len(sizes)):
        held = [sum(s for s, c in zip(sizes, chip_of, strict=True) if c == chip) for chip in range(chips)]
        if max(held) <= capacity:
            yield chip_of


@settings(max_examples=120, deadline=None)
@given(problems())
def test_the_partition_has_the_least_traffic_of_all(problem):
    sizes, nets, chips, capacity = problem
    all_traffic = [link_traffic(nets, chip_of) for chip_of in every_partition(sizes, chips, capacity)]
    found = partition(sizes, nets, chips, capacity)
    if not all_traffic:
        assert found is None
        return
    assert found is not None
    assert found.status == "OPTIMAL"
    assert found.traffic == found.least_traffic == min(all_traffic) == link_traffic(nets, found.chip_of)
    assert found.chip_of in set(every_partition(sizes, chips, capacity))


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(1, 4), st.lists(st.integers(1, 30), min_size=6, max_size=6))
def test_a_split_fits_every_chip_and_nothing_beats_its_bound(problem, micro_batches, windows):
    sizes, nets, chips, _ = problem
    target = small_target(chips=chips, tiles_per_chip=1, macros_per_tile=1, crossbars_per_macro=max(9, sum(sizes)))
    demands = [Demand(k, size, windows[k], 10) for k, size in enumerate(sizes)]
    found = split(demands, nets, target, micro_batches=micro_batches)
    assert found.chip_of is not None
    replicas = found.allocation.replicas
    per_chip = target.structure.crossbars_per_chip
    for chip in range(chips):
        assert sum(s * r for s, r, c in zip(sizes, replicas, found.chip_of, strict=True) if c == chip) <= per_chip
    assert found.least_cycles <= found.cycles
    assert found.traffic >= found.least_traffic
    whole = allocate(demands, chips * per_chip, micro_batches=micro_batches)
    pooled = run_cycles(whole.latency, whole.bottleneck, micro_batches)
    assert least_run_cycles(demands, chips * per_chip, micro_batches=micro_batches) == found.least_cycles <= pooled


def test_layers_that_share_much_lie_together_and_a_line_of_chips_is_crossed_one_by_one():
    nets = [Net(100, frozenset((0, 2))), Net(1, frozenset((0, 1))), Net(100, frozenset((1, 3)))]
    found = partition([5, 5, 5, 5], nets, 2, 10)
    assert found is not None
    assert found.chip_of[0] == found.chip_of[2] != found.chip_of[1] == found.chip_of[3]
    assert (found.traffic, found.status) == (1, "OPTIMAL")
    assert link_traffic([Net(7, frozenset((0, 1)))], (0, 3)) == 21


def test_a_layer_larger_than_a_chip_lies_across_the_border():
    assert partition([30, 5], [], 2, 20) is None
    target = small_target(chips=40, tiles_per_chip=1, macros_per_tile=1, crossbars_per_macro=40)
    mapped = plan(level2(chain(3, 16), target), target, 1, 2, True, QUICK)
    assert mapped.split is not None
    assert mapped.split.chip_of is None
    assert not check(facts_of_plan(mapped, target))
    per_chip = target.structure.crossbars_per_chip
    assert any(len({c // per_chip for c in g.crossbars}) > 1 for g in mapped.groups)


def two_chips():
    """A chain of four layers of which each chip holds two, and no more."""
    target = small_target(chips=2, tiles_per_chip=6, macros_per_tile=2, crossbars_per_macro=16)
    graph = chain(4, 16)
    mapped = plan(level2(graph, target), target, 1, 3, True, QUICK)
    return target, graph, mapped


def test_values_are_sent_once_over_a_unit_of_their_own():
    target, _, mapped = two_chips()
    assert mapped.split is not None
    assert mapped.split.chip_of is not None
    assert sorted(mapped.split.chip_of) == [0, 0, 1, 1]
    sends = [op for op in mapped.operations if op.node is not None and isinstance(op.node.op, Send)]
    assert len(sends) == 1
    unit = mapped.units[sends[0].unit]
    assert (unit.kind, unit.name) in {("link", "chip 0 to chip 1"), ("link", "chip 1 to chip 0")}
    assert sends[0].node is not None
    size = sends[0].node.outputs[0].tensor.nbytes
    assert mapped.split.traffic == mapped.split.least_traffic == size
    cost = CostModel(target)
    assert sends[0].duration >= cost.move_cycles(size, Route(hops=1, links=1))
    assert not check(facts_of_plan(mapped, target))


def test_the_energy_of_links_is_that_of_the_bytes_sent():
    target, _, mapped = two_chips()
    program = program_of(mapped, target)
    verify(program)
    _, energy, _ = Account(program, CostModel(target)).run()
    assert mapped.split is not None
    sent = mapped.split.traffic * mapped.entry.micro_batches
    assert energy.link == pytest.approx(sent * target.link.energy_pj_per_byte * 1e-12)
    assert energy.noc > 0
    one = small_target(tiles_per_chip=40)
    _, alone, _ = Account(program_of(plan(level2(chain(4, 16), one), one), one), CostModel(one)).run()
    assert alone.link == 0 < alone.noc


@settings(max_examples=25, deadline=None)
@given(networks(), st.integers(1, 3), st.sampled_from([2, 5]))
def test_programs_on_several_chips_are_legal_and_compute_the_network(graph, micro_batches, chips):
    layers = [n for n in level2(graph, small_target(chips=40)).nodes if isinstance(n.op, Mvm)]
    target = small_target(chips=chips * max(1, len(layers)), tiles_per_chip=2, crossbars_per_macro=32)
    mapped = plan(level2(graph, target), target, 1, micro_batches, True, QUICK)
    program = program_of(mapped, target)
    verify(program)
    assert not check(facts_of_program(program, {"edram": target.edram.bytes_per_tile * target.structure.tiles}))
    rng = np.random.default_rng(0)
    feeds = {p.name: rng.normal(size=(micro_batches, *p.shape[1:])).astype(np.float32) for p in program.inputs}
    results = Simulator(program, engine="reference", numerics="float").run(feeds)
    for k in range(micro_batches):
        for name, y in evaluate(graph, {n: x[k : k + 1] for n, x in feeds.items()}).items():
            np.testing.assert_allclose(results[name][k : k + 1], y, rtol=1e-4, atol=1e-4 * max(1, np.abs(y).max()))


def test_a_value_that_two_more_chips_need_is_passed_on_from_chip_to_chip():
    target = small_target(chips=3, tiles_per_chip=4, macros_per_tile=1, crossbars_per_macro=20)
    net = Network()
    x = net.graph.add_input("x", TensorType(DType.F32, (1, 16, 6, 6)))
    branches = [net.add(ops.Unary("relu"), net.conv(x, 16)) for _ in range(3)]
    total = net.add(ops.Binary("add"), net.add(ops.Binary("add"), branches[0], branches[1]), branches[2])
    net.graph.outputs = [("y", total)]
    mapped = plan(level2(net.graph, target), target, effort=QUICK)
    assert mapped.split is not None
    assert sorted(mapped.split.chip_of or ()) == [0, 1, 2]
    producers = mapped.graph.producers()
    sent: dict[str, set[int]] = {}
    for node in (n for n in mapped.graph.nodes if isinstance(n.op, Send)):
        assert isinstance(node.op, Send)
        assert abs(node.op.chip - node.op.sender) == 1
        name = node.outputs[0].name.split(".chip")[0]
        assert node.op.chip not in sent.setdefault(name, set())
        sent[name].add(node.op.chip)
        before = producers.get(node.inputs[0])
        if before is not None and isinstance(before.op, Send):
            assert before.op.chip == node.op.sender
    assert any(len(on) == 2 for on in sent.values())
    assert not check(facts_of_plan(mapped, target))
