"""The product's own verifier of schedules accepts what the compiler plans, and finds every fault put into it."""

import random
from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import pytest
from entries import with_plan

import mgc
from mgc.functions.channel import WHOLE
from mgc.isa.error import ProgramError
from mgc.isa.instructions import Update, WriteCells
from mgc.isa.tasks import Needs, count_of
from mgc.isa.traffic import channel_shares
from mgc.isa.verify_schedule import check_schedule, faults_of
from mgc.report import facts
from mgc.sim.replay import replay
from mgc.targets import load_target
from mgc.targets.description import Target

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data" / "training"
TRAINING = ("sequential", "pipelined", "parallel", "cyclic", "shared")
pytestmark = pytest.mark.xdist_group("schedule verifier")  # its programs are compiled once


def crowded(memory, rate=8.0):
    """A chip with little memory, bytes a tile, and a slow way to the rest, bytes a ns."""
    target = load_target("liu2018").to_json_dict()
    target["edram"]["bytes_per_tile"], target["dram"]["bytes_per_ns"] = memory, rate
    return Target.from_json_dict(target)


def one_macro(drivers=1):
    """A chip of one macro, in which all groups are."""
    target = load_target("liu2018").to_json_dict()
    target["structure"] |= {"tiles_per_chip": 1, "macros_per_tile": 1, "crossbars_per_macro": 64}
    target["cell"]["write_drivers_per_macro"] = drivers
    return Target.from_json_dict(target)


def trained(flow, batch=8, target="liu2018"):
    """An iteration of the DCGAN of models/, with BatchNorm."""
    models = ROOT / "models" / "dcgan_fashion"
    program = mgc.compile_training(
        models / "dcgan_fashion_G_ts.onnx",
        discriminator=models / "dcgan_fashion_D_ts_bn.onnx",
        loss="bce",
        optimizer="adam",
        batch=batch,
        dataflow=flow,
        target=target,
    )
    return program.part(program.entries[0].name)


def small(flow, target="liu2018", net="mlp"):
    program = mgc.compile_training(
        DATA / f"{net}_G_ts.onnx",
        discriminator=DATA / f"{net}_D_ts.onnx",
        loss="bce",
        optimizer="adam",
        batch=4,
        dataflow=flow,
        target=target,
    )
    return program.part(program.entries[0].name)


def scripted(flow):
    """Samples made once, the generator's step first, a third phase that trains both networks; BatchNorm."""
    program = mgc.compile(
        DATA / "step_dcgan_plain.onnx",
        phases=["generator=loss_g", "discriminator=loss_d", "both=loss_g"],
        groups={"both": ["generator.*", "discriminator.*"]},
        optimizer="adam",
        batch=4,
        once=["tanh"],
        dataflow=flow,
    )
    return program.part(program.entries[0].name)


@pytest.fixture(scope="module")
def programs():
    """Iterations of training, and inference whose micro-batches share slots."""
    model = ROOT / "models" / "dcgan_fashion" / "dcgan_fashion_G.onnx"
    return {
        **{f"mlp {flow}": small(flow) for flow in TRAINING},
        **{f"dcgan {flow}": trained(flow) for flow in ("pipelined", "parallel", "cyclic")},
        **{f"script {flow}": scripted(flow) for flow in ("parallel", "cyclic")},
        "crowded parallel": small("parallel", target=crowded(128), net="dcgan"),
        "crowded cyclic": small("cyclic", target=crowded(32, 0.5)),
        **{f"one macro {flow}": small(flow, target=one_macro()) for flow in ("parallel", "cyclic")},
        "inference": mgc.compile(model, batch=16, calibrate="minmax"),
        "crowded inference": mgc.compile(model, batch=16, calibrate="minmax", target=crowded(128)),
    }


ONE_MACRO = ("one macro parallel", "one macro cyclic")
CROWDED = ("crowded inference", "crowded parallel", "crowded cyclic")
TRAINED = tuple(f"{name} {flow}" for name in ("dcgan", "mlp", "script") for flow in ("parallel", "cyclic"))
KINDS = ("inference", *TRAINED, *CROWDED, *ONE_MACRO)


def test_what_the_compiler_plans_is_accepted(programs):
    for name, program in programs.items():
        assert faults_of(program) == [], name
        ran = replay(program)
        assert np.array_equal(ran.starts, program.entry.schedule.starts), name
        assert ran.makespan == program.entry.schedule.makespan
    assert programs["dcgan parallel"].entry.schedule.split > 1
    assert programs["dcgan cyclic"].entry.schedule.interval > 0
    assert any(b.slots < programs["inference"].entry.micro_batches for b in programs["inference"].buffers)


def test_the_data_flows_are_ever_better(programs):
    cycles = [programs[f"mlp {f}"].entry.schedule.period for f in ("sequential", "pipelined", "parallel", "cyclic")]
    assert cycles == sorted(cycles, reverse=True)
    cycles = [programs[f"dcgan {flow}"].entry.schedule.period for flow in ("pipelined", "parallel", "cyclic")]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > cycles[2]


def tasks(program):
    return [(i, k) for i in program.instructions for k in range(count_of(program, i))]


def moved(program, task, by, number=0):
    """The program with a task of one entry planned `by` cycles later."""
    entry = program.entries[number]
    starts = entry.schedule.starts.copy()
    starts[task[0] - entry.first, task[1]] += by
    return with_plan(program, number, starts=starts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", [-1, 1])
def test_every_shifted_task_is_found(programs, kind, by):
    program = programs[kind]
    every = tasks(program)
    for i, k in every[:: max(1, len(every) // 15)]:
        if program.entry.start(i.id, k) + by >= 0:
            assert faults_of(moved(program, (i.id, k), by)), f"task {k} of instruction {i.id} by {by}"


def without(program, i, **fields):
    instructions = list(program.instructions)
    instructions[i.id] = replace(i, **fields)
    return replace(program, instructions=tuple(instructions))


@pytest.mark.parametrize("kind", KINDS)
def test_every_dropped_dependency_is_found(programs, kind):
    """Those that data, versions or slots ask for: in these programs all of them."""
    program = programs[kind]
    drops = [
        (i, field, wait)
        for i in program.instructions
        for field in ("after", "after_all", "after_previous")
        for wait in getattr(i, field)
        if not isinstance(program.instructions[wait[0] if isinstance(wait, tuple) else wait], WriteCells)
    ]
    tried = 0
    for i, field, wait in drops[:: max(1, len(drops) // 24)]:
        mutant = without(program, i, **{field: tuple(w for w in getattr(i, field) if w != wait)})
        if not implied(mutant, i.id, wait, field):
            tried += 1
            assert faults_of(mutant), f"instruction {i.id} without {field} {wait}"
    assert tried > 5


def implied(program, instruction, wait, field):
    """Whether another way of waits says the same of the run before."""
    if field != "after_previous":
        return False
    from mgc.isa.dataflow import ancestors, ancestors_before

    j, lag = wait
    if lag == 1 and program.entry.schedule.interval:
        return bool(ancestors_before(program, ancestors(program))[instruction] >> j & 1)
    return lag > 1 or not program.entry.schedule.interval


def test_what_waits_for_a_part_only_of_a_sum_over_the_batch_is_found(programs):
    program = programs["dcgan pipelined"]
    found = [i for i in program.instructions if i.after_all]
    assert found
    for i in found:
        weaker = without(program, i, after=tuple(sorted({*i.after, *i.after_all})), after_all=())
        with pytest.raises(ProgramError, match=r"not held part by part|breaks its own rules"):
            check_schedule(weaker)


@pytest.mark.parametrize("kind", KINDS)
def test_overlapping_buffers_are_found(programs, kind):
    """A buffer laid over one that is in use when it is written."""
    program = programs[kind]
    reads = [
        (b, w)
        for i in program.instructions
        for b in map(program.root, i.reads())
        for w in map(program.root, i.writes())
        if b != w and program.buffers[b].kind != "opaque"
    ]
    pairs, tried = list(dict.fromkeys(reads)), 0
    for b, w in pairs[:: max(1, len(pairs) // 20)]:
        buffers = list(program.buffers)
        buffers[w] = replace(buffers[w], space=buffers[b].space, offset=buffers[b].offset)
        assert any("share bytes" in f for f in faults_of(replace(program, buffers=tuple(buffers)))), f"{w} over {b}"
        tried += 1
    assert tried


def going_round(program):
    """Buffers that hold parts of a batch in fewer slots than there are parts."""
    return [b for b in program.buffers if b.alias_of < 0 and b.slots < b.parts == program.entry.schedule.split]


def test_a_slot_less_than_parts_need_is_found(programs):
    program = programs["dcgan parallel"]
    tried = [b for b in going_round(program) if b.slots > 1][:10]
    assert tried
    for b in tried:
        buffers = list(program.buffers)
        buffers[b.id] = replace(b, slots=b.slots - 1)
        faults = faults_of(replace(program, buffers=tuple(buffers)))
        assert any("share bytes" in f for f in faults), b.name


def test_no_part_is_overwritten_whatever_tasks_take(programs):
    """Who writes a slot waits for it, not only by the planned times."""
    program = programs["dcgan parallel"]
    rng = np.random.default_rng(1)
    slower = [replace(i, duration=i.duration * int(rng.integers(1, 6))) for i in program.instructions]
    program = replace(program, instructions=tuple(slower))
    ran = replay(program)
    checked = 0
    for b in going_round(program):
        own = list(enumerate(program.instructions[program.entry.first :]))
        writers = [k for k, i in own if b.id in map(program.root, i.writes())]
        users = [k for k, i in own if b.id in map(program.root, (*i.reads(), *i.writes()))]
        begins, ends = ran.starts[writers].min(axis=0), ran.ends[users].max(axis=0)
        assert (begins[b.slots :] >= ends[: -b.slots]).all(), b.name
        checked += 1
    assert checked > 20


@pytest.mark.parametrize("kind", ["dcgan parallel", "dcgan cyclic", "mlp pipelined", "script parallel"])
def test_a_read_during_an_update_is_found(programs, kind):
    """Even where nobody waits for the update any more."""
    program = programs[kind]
    tried = 0
    updates = [i for i in program.instructions if isinstance(i, Update) and i.group >= 0]
    for update in updates[:: max(1, len(updates) // 4)]:
        readers = [i for i in program.instructions if update.group in i.reads_groups()]
        for reader in readers[:1] + readers[-1:]:
            careless = without(program, reader, after=tuple(j for j in reader.after if j != update.id))
            at = program.entry.start(update.id) + 1 - program.entry.start(reader.id)
            found = faults_of(moved(careless, (reader.id, 0), at))
            assert any("version" in f or "changes group" in f for f in found), (reader.id, update.id)
            tried += 1
    assert tried > 3


def test_versions_go_from_run_to_run(programs):
    """Passes that follow one another too closely read weights that are still to be written."""
    program = programs["dcgan cyclic"]
    closer = with_plan(program, interval=program.entry.schedule.interval // 3)
    found = faults_of(closer)
    assert any("version" in f or "changes" in f for f in found)
    assert any("at once" in f for f in found)


def test_memory_has_an_end(programs):
    program = programs["inference"]
    used = next(b for b in program.buffers if b.space == "edram" and b.alias_of < 0)
    for offset, message in ((1 << 40, "which has"), (used.offset + 8, "lies at")):
        buffers = list(program.buffers)
        buffers[used.id] = replace(used, offset=offset)
        assert any(message in f for f in faults_of(replace(program, buffers=tuple(buffers))))


def test_entries_are_verified_each():
    program = mgc.compile_training(
        DATA / "mlp_G_ts.onnx", discriminator=DATA / "mlp_D_ts.onnx", loss="bce", optimizer="sgd", batch=4
    )
    check_schedule(program)
    last = program.instructions[-1]
    assert any(f.startswith("entry testing") for f in faults_of(moved(program, (last.id, 0), -1, number=1)))


def test_needs_say_what_the_fields_mean(programs):
    program = programs["dcgan pipelined"]
    whole = next(
        i for i in program.instructions if not i.streamed and any(program.instructions[j].streamed for j in i.after)
    )
    split = program.entry.schedule.split
    needs = Needs(program)
    assert any(n.task[1] == split - 1 for n in needs.of(whole, 0))
    streamed = next(i for i in program.instructions if i.streamed and i.after_all)
    assert {n.task for n in needs.of(streamed, 0)} >= {(j, split - 1) for j in streamed.after_all}


@pytest.mark.parametrize(("flow", "most"), [("pipelined", 0.02), ("parallel", 0.02)])
def test_an_iteration_of_a_batch_of_64_is_near_the_bound(flow, most):
    schedule = trained(flow, batch=64).entry.schedule
    assert schedule.split > 1
    assert 0 <= schedule.gap <= most


def with_channel(program, times):
    """The program on a target whose off-chip channel is so many times as fast."""
    dram = {**program.target["dram"], "bytes_per_ns": program.target["dram"]["bytes_per_ns"] * times}
    return replace(program, target={**program.target, "dram": dram})


@pytest.mark.parametrize("kind", CROWDED)
def test_more_than_the_channel_has_is_found(programs, kind):
    """More bytes, a slower channel, as many transfers at once as are too much: of a stream, whose are slow, several."""
    program = programs[kind]
    shares = channel_shares(program, program.entry)
    times = WHOLE // max(shares.values()) + 1
    assert times <= 5
    assert any("off-chip" in f for f in faults_of(with_channel(program, 1 / times)))
    greedy = max(shares, key=shares.__getitem__)
    instruction = program.instructions[greedy]
    used = {program.root(b) for b in (*instruction.reads(), *instruction.writes())}
    far = [b.id for b in program.buffers if program.root(b.id) in used and b.space == "dram"]
    buffers = list(program.buffers)
    for b in far:
        buffers[b] = replace(buffers[b], shape=(*buffers[b].shape, times))
    assert any("off-chip" in f for f in faults_of(replace(program, buffers=tuple(buffers))))
    movers = sorted((i, k) for i in shares for k in range(count_of(program, program.instructions[i])))
    found = 0
    for i, k in movers[:: max(1, len(movers) // 12)]:
        taken, crowd = shares[i], program
        for other in (t for t in movers if t[0] != i):
            if taken <= WHOLE:
                crowd = moved(crowd, other, program.entry.start(i, k) - program.entry.start(*other))
                taken += shares[other[0]]
        if taken > WHOLE:
            assert any("off-chip" in f for f in faults_of(crowd)), (i, k)
            found += 1
    assert found


def test_a_faster_channel_leaves_gaps_that_are_found(programs):
    assert any("can start at" in f for f in faults_of(with_channel(programs["crowded parallel"], 8)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_outsider_finds_no_moment_with_more_than_the_channel_has(programs, kind):
    """From what `inspect schedule --format json` says alone."""
    shown = facts(programs[kind], "schedule")
    period = shown["entries"][0]["period_cycles"]
    changes = []
    for task in shown["tasks"]:
        rate = task["offchip_bytes"] / task["duration"]
        for turn in range(2):  # runs may overlap: where a task falls in one of them, and what is left of it in the next
            begin = task["start"] % period - turn * period
            changes += [(begin, 1, rate), (begin + task["duration"], 0, -rate)]
    taken = 0.0
    for cycle, _, change in sorted(changes):
        taken += change
        if cycle >= 0:
            assert taken <= shown["offchip_bytes_per_cycle"] * (1 + 1e-9)


def writes(program):
    """Task -> macro -> the crossbars that it writes there."""
    per_macro, found = program.target["structure"]["crossbars_per_macro"], {}
    for i in program.instructions:
        if isinstance(i, Update) and i.group >= 0:
            found[i.id, 0] = Counter(c // per_macro for c in program.groups[i.group].crossbars)
    return found


def overlap(program, s, t):
    """Whether two tasks run at one moment, in whatever runs."""
    first, second = (program.entry.start(*x) for x in (s, t))
    ends = [a + program.instructions[x[0]].duration for a, x in ((first, s), (second, t))]
    period = program.entry.schedule.interval
    shifts = range(-3 * period, 3 * period + 1, period) if period else (0,)
    return any(first < ends[1] + shift and second + shift < ends[0] for shift in shifts)


@pytest.mark.parametrize("kind", [*TRAINED, *CROWDED[1:], *ONE_MACRO])
def test_an_outsider_finds_no_macro_that_two_groups_are_written_in_at_once(programs, kind):
    program = programs[kind]
    updates = writes(program)
    assert len(updates) > 1
    for s, t in combinations(updates, 2):
        assert not (updates[s].keys() & updates[t].keys() and overlap(program, s, t)), (s, t)


def with_drivers(program, drivers):
    """The program on a target whose macros have so many write drivers."""
    return replace(
        program, target={**program.target, "cell": {**program.target["cell"], "write_drivers_per_macro": drivers}}
    )


@pytest.mark.parametrize("kind", ONE_MACRO)
def test_two_groups_written_at_once_in_a_macro_are_found(programs, kind):
    """One update moved into another, to every place where they meet; and not found where they only touch."""
    program = programs[kind]
    updates = list(writes(program))
    for s, t in permutations(updates, 2):
        begin, duration = program.entry.start(*t), program.instructions[t[0]].duration
        for to in (begin - program.instructions[s[0]].duration + 1, begin, begin + duration - 1):
            there = moved(program, s, to - program.entry.start(*s))
            assert any("write driver" in f for f in faults_of(there)), (s, t, to)


def test_groups_moved_into_one_macro_are_found(programs):
    """Of two groups that are written at once, a crossbar of one comes into a macro of the other."""
    program = programs["dcgan parallel"]
    updates, per_macro = writes(program), program.target["structure"]["crossbars_per_macro"]
    used = {c for g in program.groups for c in g.crossbars}
    pairs = [(s, t) for s, t in combinations(updates, 2) if overlap(program, s, t)]
    assert pairs
    for s, t in random.Random(1).sample(pairs, min(12, len(pairs))):
        macro = min(updates[t])
        free = [c for c in range(macro * per_macro, (macro + 1) * per_macro) if c not in used]
        group = program.groups[program.instructions[s[0]].group]
        groups = list(program.groups)
        groups[group.id] = replace(group, crossbars=(free[0], *tuple(group.crossbars)[1:]))
        there = replace(program, groups=tuple(groups))
        assert any("write driver" in f for f in faults_of(there)), (s, t)
        cell = {**program.target["cell"], "write_drivers_per_macro": per_macro}
        assert not any("write driver" in f for f in faults_of(replace(there, target={**program.target, "cell": cell})))


def test_as_many_groups_as_drivers_may_be_written_at_once(programs):
    program = programs["one macro parallel"]
    a, b = list(writes(program))[:2]
    together = moved(program, a, program.entry.start(*b) - program.entry.start(*a))
    needed = sum(len(program.groups[program.instructions[i].group].crossbars) for i, _ in (a, b))
    for drivers in (needed - 1, program.target["structure"]["crossbars_per_macro"]):
        faults = faults_of(with_drivers(together, drivers))
        assert any("write driver" in f for f in faults) == (drivers < needed)
