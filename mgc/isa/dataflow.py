"""Who writes what before whom: single writers, no read before its write has ended, no race for what persists."""

from __future__ import annotations

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction, elements_of
from mgc.isa.instructions import Mvm, MvmT, Rewrite
from mgc.isa.tables import Tables


def writers_of(program: Tables) -> dict[int, list[int]]:
    """Root buffer -> ids of the instructions that write it, ascending."""
    writers: dict[int, list[int]] = {}
    for i in program.instructions:
        for root in dict.fromkeys(program.root(b) for b in i.writes()):
            writers.setdefault(root, []).append(i.id)
    return writers


def changing(program: Tables) -> tuple[int, ...]:
    """Ids of the instructions that change what persists from run to run: persistent buffers, cells after PROGRAM. What
    a REWRITE writes is the same in every run.
    """
    return tuple(
        i.id
        for i in program.instructions
        if i.timed
        and not isinstance(i, Rewrite)
        and (i.writes_groups() or any(program.buffers[b].persistent for b in i.writes()))
    )


def lasting_uses(program: Tables) -> dict[tuple[str, int], list[tuple[Instruction, bool]]]:
    """("buffer", root) or ("group", id) of all that persists -> who uses it after PROGRAM, and whether it writes it."""
    uses: dict[tuple[str, int], list[tuple[Instruction, bool]]] = {}
    for i in program.instructions:
        if not i.timed:
            continue
        writes = {("buffer", program.root(b)) for b in i.writes()} | {("group", g) for g in i.writes_groups()}
        reads = {("buffer", program.root(b)) for b in i.reads()} | {("group", g) for g in i.reads_groups()}
        for what in sorted(writes | reads):
            if what[0] == "group" or program.buffers[what[1]].persistent:
                uses.setdefault(what, []).append((i, what in writes))
    return uses


def ancestors(program: Tables) -> list[int]:
    """For each instruction a bit set of those that `after` and `after_all` make it wait for, directly or not."""
    sets: list[int] = []
    for i in program.instructions:
        bits = 0
        for j in (*i.after, *i.after_all):
            bits |= sets[j] | 1 << j
        sets.append(bits)
    return sets


def finished(program: Tables, before: list[int]) -> list[int]:
    """For each instruction a bit set of those all of whose tasks end before its own first one; `before` is
    `ancestors`. Between two streamed instructions `after` only says that of one part of the batch after the other.
    """
    if program.entry.schedule.split == 1:
        return before
    sets: list[int] = []
    for i in program.instructions:
        bits = 0
        for j in i.after:
            alone = not (i.streamed and program.instructions[j].streamed)
            bits |= before[j] | 1 << j if alone and not i.streamed else sets[j] | (alone << j)
        for j in i.after_all:
            bits |= before[j] | 1 << j
        sets.append(bits)
    return sets


def check_dataflow(program: Tables) -> None:
    """Raises ProgramError unless every reader of a buffer waits for all its writers, and these are: one instruction; or
    MVMs in disjoint places; or MVM_Ts, of which the first to run begins and the others accumulate.

    Persistent buffers and crossbar groups are read and written any number of times, but of two instructions that use
    one, where at least one writes it, one waits for the other: within a micro-batch, and from one to the next.

    In a split run what is not held part by part is read when it is complete, and what persists is changed at once.
    """
    writers = writers_of(program)
    before = ancestors(program)
    done = finished(program, before)
    for root, ids in writers.items():
        if not program.buffers[root].persistent:
            writes = [b for k in ids for b in program.instructions[k].writes() if program.root(b) == root]
            _check_writers(program, root, ids, len(writes), before)
    for i in program.instructions:
        written = {program.root(b) for b in i.writes()}
        for b in i.reads():
            root = program.root(b)
            if program.buffers[root].persistent:
                continue
            if root in written:
                raise ProgramError(f"instruction {i.id} ({i.mnemonic}) reads and writes buffer {b}")
            late = [k for k in writers.get(root, []) if not before[i.id] >> k & 1]
            if late:
                raise ProgramError(
                    f"instruction {i.id} ({i.mnemonic}) reads buffer {b} ({program.buffers[b].name}) without waiting "
                    f"for instruction {late[0]}, which writes it"
                )
            early = [k for k in writers.get(root, []) if not done[i.id] >> k & 1]
            if early and program.buffers[b].parts != program.entry.schedule.split:
                raise ProgramError(
                    f"instruction {i.id} ({i.mnemonic}) reads buffer {b} ({program.buffers[b].name}), which is not "
                    f"held part by part, before all of instruction {early[0]}, which writes it, has ended"
                )
            if root not in writers:
                name = program.buffers[b].name
                raise ProgramError(f"instruction {i.id} ({i.mnemonic}) reads buffer {b} ({name}), which nothing writes")
    _check_races(program, before)
    check_turns(program, before)


def check_turns(program: Tables, before: list[int]) -> None:
    """Raises ProgramError unless the cells of off-chip groups hold their weights whenever they are read.

    Each read has a REWRITE of its group before it, and every REWRITE of another group of those crossbars, and every
    change of the weights, comes before that REWRITE or after the read.
    """
    rewrites: dict[int, list[int]] = {}
    changes: dict[int, list[int]] = {}
    reads: dict[int, list[int]] = {}
    for i in program.instructions:
        for g in i.reads_groups():
            reads.setdefault(g, []).append(i.id)
        for g in i.writes_groups() if i.timed else ():
            (rewrites if isinstance(i, Rewrite) else changes).setdefault(g, []).append(i.id)
    if rewrites and (program.entry.micro_batches > 1 or program.entry.schedule.interval):
        raise ProgramError("groups that take turns are for runs of one micro-batch that do not overlap")
    others = _sharing(program)
    for g in (g for g in program.groups if g.off_chip):
        breaks = [*changes.get(g.id, ()), *(w for h in others.get(g.id, ()) for w in rewrites.get(h, ()))]
        for r in reads.get(g.id, ()):
            own = [w for w in rewrites.get(g.id, ()) if before[r] >> w & 1]
            if not own:
                raise ProgramError(f"instruction {r} reads group {g.name}, which is off-chip, without a REWRITE of it")
            if not any(all(before[w] >> b & 1 or before[b] >> r & 1 for b in breaks) for w in own):
                raise ProgramError(
                    f"instruction {r} reads group {g.name}, whose cells may hold something else: no REWRITE of it "
                    "comes after all that took its crossbars, or changed its weights, before the read"
                )


def _sharing(program: Tables) -> dict[int, set[int]]:
    """For each group the others that have a crossbar of it. ProgramError unless both are off-chip."""
    taken = set[int]().union(*(g.crossbars for g in program.groups))
    if len(taken) == sum(len(g.crossbars) for g in program.groups):
        return {}
    holders: dict[int, list[int]] = {}
    for g in program.groups:
        for crossbar in g.crossbars:
            holders.setdefault(crossbar, []).append(g.id)
    found: dict[int, set[int]] = {}
    for held in {tuple(h) for h in holders.values() if len(h) > 1}:
        for g in held:
            found.setdefault(g, set()).update(h for h in held if h != g)
            if not program.groups[g].off_chip:
                names = " and ".join(program.groups[k].name for k in held)
                raise ProgramError(f"groups {names} have a crossbar in common, and not all are off-chip")
    return found


def _check_writers(program: Tables, root: int, ids: list[int], writes: int, before: list[int]) -> None:
    """Rules for the writers of a buffer that does not persist."""
    instructions = [program.instructions[k] for k in ids]
    drains = [i for i in instructions if isinstance(i, Mvm) and i.stores]
    if drains and sum(i.results(program) for i in drains) != elements_of(program, root):
        raise ProgramError(f"instructions {ids} (mvm) drain into buffer {program.buffers[root].name} and leave places")
    transposed = [i for i in instructions if isinstance(i, MvmT)]
    if len(transposed) < writes or not transposed:
        if writes > 1:
            _check_disjoint(program, root, ids, writes)
        return
    name = program.buffers[root].name
    first, *others = transposed
    for i in transposed:
        if i.accumulate != (i is not first):
            raise ProgramError(
                f"instruction {i.id} (mvm_t) {'adds to' if i.accumulate else 'begins'} buffer {name}: "
                f"the first of instructions {ids} begins it, the others accumulate"
            )
    late = [i.id for i in others if not before[i.id] >> first.id & 1]
    if late:
        raise ProgramError(
            f"instruction {late[0]} (mvm_t) adds to buffer {name} without waiting for instruction {first.id}"
        )
    units = {
        (group.weight_scale, group.arithmetic.transposed_factor)
        for group in (program.groups[i.group] for i in transposed)
    }
    if len(units) > 1:
        raise ProgramError(f"instructions {ids} (mvm_t) add sums of different weight scales or factors to {name}")
    if sum(i.largest_sum(program) for i in transposed) >= 1 << 63:
        raise ProgramError(f"instructions {ids} (mvm_t) can exceed 63-bit sums in buffer {name}")


def _check_races(program: Tables, before: list[int]) -> None:
    """No two instructions touch what persists in an order that is left open, if one of them changes it."""
    streamed = [k for k in changing(program) if program.instructions[k].streamed]
    if streamed:
        raise ProgramError(f"instruction {streamed[0]} changes what persists part of a batch after part of a batch")
    touching = lasting_uses(program)
    touching = {what: users for what, users in touching.items() if any(writes for _, writes in users)}
    if not touching:
        return
    later = ancestors_before(program, before)
    for (kind, index), users in touching.items():
        name = (program.groups if kind == "group" else program.buffers)[index].name
        for n, (i, i_writes) in enumerate(users):
            for j, j_writes in users[:n]:
                if (i_writes or j_writes) and not before[i.id] >> j.id & 1:
                    raise ProgramError(
                        f"instructions {j.id} ({j.mnemonic}) and {i.id} ({i.mnemonic}) both use {kind} {name} and at "
                        "least one changes it: one must wait for the other"
                    )
        if program.entry.micro_batches == 1 and not program.entry.schedule.interval:
            continue
        for i, i_writes in users:
            for j, j_writes in users:
                if i is not j and (i_writes or j_writes) and not later[i.id] >> j.id & 1:
                    raise ProgramError(
                        f"instruction {i.id} ({i.mnemonic}) must wait for instruction {j.id} ({j.mnemonic}) of the "
                        f"micro-batch before: both use {kind} {name} and at least one changes it"
                    )


def ancestors_before(program: Tables, before: list[int]) -> list[int]:
    """For each instruction a bit set of those of the micro-batch before that it waits for, directly or not."""
    sets: list[int] = []
    for i in program.instructions:
        bits = 0
        for j in (*i.after, *i.after_all):
            bits |= sets[j]
        for j, lag in i.after_previous:
            if lag == 1:
                bits |= before[j] | 1 << j
        sets.append(bits)
    return sets


def _check_disjoint(program: Tables, root: int, ids: list[int], writes: int) -> None:
    buffer = program.buffers[root]
    mvms = [i for i in (program.instructions[k] for k in ids) if isinstance(i, Mvm)]
    if len(mvms) != writes:
        raise ProgramError(f"buffer {root} ({buffer.name}) is written by instructions {ids}: one is expected")
    if len({(i.steps, i.stores) for i in mvms}) > 1:
        raise ProgramError(f"instructions {ids} (mvm) write buffer {buffer.name} with drains that differ")
    hits = np.zeros(buffer.shape, np.uint8)
    for i in mvms:
        view = i.output.view(hits)[(slice(None), slice(None), *i.windows.out_slices)]
        if view.any():
            raise ProgramError(f"instruction {i.id} (mvm) writes where an earlier one wrote buffer {buffer.name}")
        view[...] = 1
