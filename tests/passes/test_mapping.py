"""Plans of random networks: legal, complete, deterministic; memory small and large; programs that compute the same."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checker import check, facts_of_program
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Mapped, chain, level2, networks, plan, program_of, small_target, with_memory
from plan_facts import facts_of_plan

from mgc.ir import ops
from mgc.ir.graph import Graph, evaluate
from mgc.ir.mapped import Mvm
from mgc.ir.ops import Host
from mgc.ir.types import DType, OpaqueType, TensorType
from mgc.isa.verify import verify
from mgc.passes.lowering.lower_moves import lower_moves
from mgc.passes.lowering.lower_vec import lower_vec
from mgc.sim.replay import replay
from mgc.sim.simulator import Simulator
from mgc.targets.loader import load_target

QUICK = 0.1


@settings(max_examples=40, deadline=None)
@given(networks(), st.sampled_from([1, 2, 5]), st.sampled_from([1 << 16, 2048, 64]))
def test_plans_are_legal_whatever_the_memory(graph, micro_batches, memory):
    target = with_memory(small_target(chips=40), memory)
    mapped = plan(level2(graph, target), target, 1, micro_batches, True, QUICK)
    assert not check(facts_of_plan(mapped, target))


@settings(max_examples=25, deadline=None)
@given(networks(), st.sampled_from([1, 3]))
def test_programs_are_legal_replay_as_planned_and_compute_the_network(graph, micro_batches):
    target = small_target(chips=40)
    mapped = plan(level2(graph, target), target, 1, micro_batches, True, QUICK)
    program = program_of(mapped, target)
    verify(program)
    assert not check(facts_of_program(program, {"edram": target.edram.bytes_per_tile * target.structure.tiles}))
    timing = replay(program)
    assert timing.makespan == program.entry.schedule.makespan
    assert np.array_equal(timing.starts, program.entry.schedule.starts)
    rng = np.random.default_rng(0)
    feeds = {p.name: rng.normal(size=(micro_batches, *p.shape[1:])).astype(np.float32) for p in program.inputs}
    results = Simulator(program, engine="reference", numerics="float").run(feeds)
    for k in range(micro_batches):
        want = evaluate(graph, {name: x[k : k + 1] for name, x in feeds.items()})
        for name, y in want.items():
            np.testing.assert_allclose(results[name][k : k + 1], y, rtol=1e-4, atol=1e-4 * max(1, np.abs(y).max()))


def test_small_memory_shares_bytes_then_goes_off_chip_and_takes_longer():
    graph = chain(6, 8)
    makespans = []
    for memory, shares, offchip in ((1 << 16, False, False), (4000, True, False), (64, False, True)):
        target = with_memory(small_target(tiles_per_chip=1, macros_per_tile=500), memory)
        mapped = plan(level2(graph, target), target)
        assert not check(facts_of_plan(mapped, target))
        offsets = [b.offset for b in mapped.buffers.values() if b.space == "edram"]
        assert (len(set(offsets)) < len(offsets)) == shares
        assert any(b.space == "dram" for b in mapped.buffers.values()) == offchip
        assert mapped.schedule is not None
        makespans.append(mapped.schedule.makespan)
    assert makespans[0] == makespans[1] < makespans[2]


def test_micro_batches_overlap_and_slots_are_few():
    target = small_target(chips=40)
    graph = level2(chain(5), target)
    one, many = plan(graph, target), plan(graph, target, 1, 16, True)
    assert one.schedule is not None
    assert many.schedule is not None
    assert many.schedule.status == "OPTIMAL"
    assert many.schedule.makespan < 16 * one.schedule.makespan / 3
    assert max(b.slots for b in many.buffers.values()) <= 3


def described(plan: Mapped) -> str:
    s = plan.schedule
    assert s is not None
    operations = [replace(o, node=None) for o in plan.operations]
    groups = plan.groups
    buffers = [(v.name, b.space, b.offset, b.slots) for v, b in plan.buffers.items()]
    return repr((operations, groups, plan.units, buffers, s.starts.tolist(), s.status, s.lower_bound, s.hint))


def test_every_mvm_part_has_a_group_and_crossbars_of_its_own():
    target = small_target(chips=40)
    mapped = plan(level2(chain(), target), target)
    parts = [(n, k) for n in mapped.graph.nodes if isinstance(n.op, Mvm) for k in range(len(n.op.parts))]
    assert len(mapped.groups) == len(parts)
    assert [g.layer for g in mapped.groups] == [n.outputs[0].name for n, _ in parts]
    used = [c for g in mapped.groups for c in g.crossbars]
    assert len(used) == len(set(used)) <= target.structure.crossbars
    for g in mapped.groups:
        assert len(g.crossbars) == g.replicas * g.crossbars_per_replica
        assert set(g.tiles) == {c // target.structure.crossbars_per_tile for c in g.crossbars}


@pytest.mark.parametrize("wrong", ["offset", "slots", "wait", "lag", "start"])
def test_the_checker_rejects_mutated_plans(wrong):
    target = small_target(chips=40)
    mapped = plan(level2(chain(3), target), target, 1, 4, True)
    facts = facts_of_plan(mapped, target)
    assert not check(facts)
    buffers, instructions, starts = dict(facts.buffers), list(facts.instructions), facts.starts.copy()
    if wrong == "offset":  # what an MVM writes now lies over what it reads
        mvm = next(i for i in instructions if len(i.reads) == len(i.writes) == 1)
        buffers[mvm.writes[0]] = replace(buffers[mvm.writes[0]], offset=buffers[mvm.reads[0]].offset)
    elif wrong == "slots":
        b = next(b for b, buffer in buffers.items() if buffer.slots > 1)
        buffers[b] = replace(buffers[b], slots=1)
    elif wrong == "wait":
        k = next(k for k, i in enumerate(instructions) if i.reads and i.after)
        instructions[k] = replace(instructions[k], after=())
    elif wrong == "lag":
        k = next(k for k, i in enumerate(instructions) if i.after_previous)
        instructions[k] = replace(instructions[k], after_previous=())
    elif wrong == "start":
        starts[-1, 2] -= 1
    assert check(replace(facts, buffers=buffers, instructions=tuple(instructions), starts=starts))


def test_plans_do_not_depend_on_the_process():
    root = Path(__file__).parents[2]
    code = (
        "from networks import chain, level2, small_target\n"
        "from networks import plan\n"
        "from test_mapping import described\n"
        "t = small_target(chips=40)\n"
        "print(described(plan(level2(chain(3), t), t, 1, 4, True)))\n"
    )
    found = set()
    for seed in ("0", "1"):
        path = os.pathsep.join(map(str, (root, root / "tests", root / "tests" / "passes")))
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        found.add(done.stdout)
    assert len(found) == 1


def test_an_unused_input_and_outputs_that_share_a_value_are_fine():
    target = load_target("liu2018")
    graph = chain(1)
    graph.add_input("unused", graph.inputs[0].type)
    graph.outputs += [("again", graph.outputs[0][1]), ("input", graph.inputs[0])]
    mapped = plan(level2(graph, target), target, 1, 2, True)
    assert not check(facts_of_plan(mapped, target))
    verify(program_of(mapped, target))


def test_graphs_without_any_work_of_the_chip_are_planned():
    target = small_target()
    type_ = TensorType(DType.F32, (1, 2))
    identity = Graph()
    identity.outputs = [("y", identity.add_input("x", type_))]
    constant = Graph()
    constant.outputs = [("y", constant.add_constant(np.ones((1, 2), np.float32)))]
    host = Graph()
    a = host.add_input("x", type_)
    (sequence,) = host.add_multi(Host(b"", "no unit", ("SequenceConstruct",), (OpaqueType(),)), a, sources=["make"])
    (back,) = host.add_multi(Host(b"", "no unit", ("SequenceAt",), (type_,)), sequence, sources=["at"])
    host.outputs = [("y", host.add(ops.Unary("relu"), back)), ("s", sequence)]
    empty = Graph()
    x = empty.add_input("x", TensorType(DType.F32, (1, 0, 3)))
    moved = empty.add(ops.Transpose((0, 2, 1)), x)
    empty.outputs = [("y", empty.add(ops.Unary("relu"), moved)), ("r", empty.add(ops.Reshape((0, 5)), moved))]
    for graph, kinds in (
        (identity, ["load", "store"]),
        (constant, ["store"]),
        (host, ["load", "host", "host", "vec", "store", "store"]),
        (empty, ["load", "vec", "store", "store"]),
    ):
        for micro_batches in (1, 3):
            mapped = plan(lower_vec(lower_moves(graph.copy())), target, 1, micro_batches, True)
            assert [o.kind for o in mapped.operations] == kinds
            assert not check(facts_of_plan(mapped, target))
            assert mapped.schedule is not None
            assert mapped.schedule.status == "OPTIMAL"
