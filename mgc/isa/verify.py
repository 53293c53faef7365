"""The structural verifier: everything that can be checked of a program without running it.

A program that passes never touches memory outside its own arrays, whatever the inputs: engines rely on it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, get_args

import numpy as np

from mgc.isa.dataflow import check_dataflow
from mgc.isa.dtypes import CODES, is_float, numpy_dtype
from mgc.isa.entry import EntryKind
from mgc.isa.error import ProgramError
from mgc.isa.instruction import OPCODES
from mgc.isa.instructions import Load, Rewrite, Store, WriteCells
from mgc.isa.memory import BufferKind, Port
from mgc.isa.parts import part_of
from mgc.isa.ranges import check_ranges
from mgc.isa.schedule import UnitKind
from mgc.isa.tables import Tables
from mgc.isa.tasks import count_of
from mgc.isa.verify_claims import check_claims
from mgc.isa.verify_states import check_changes, check_persistent, check_states

MOST_ELEMENTS = 1 << 31
"""Elements of the largest buffer."""
MOST_BYTES = 1 << 50
"""Bytes of the largest memory."""
MOST_CROSSBARS = 1 << 31


def verify(program: Tables) -> None:
    """Raises ProgramError for the first rule that is broken; see `Program.verify`."""
    tables: tuple[tuple[str, Sequence[Any]], ...] = (
        ("buffer", program.buffers),
        ("constant", program.constants),
        ("group", program.groups),
        ("unit", program.units),
        ("host segment", program.host_segments),
        ("state", program.states),
        ("entry", program.entries),
        ("instruction", program.instructions),
    )
    for what, table in tables:
        for k, entry in enumerate(table):
            if entry.id != k:
                raise ProgramError(f"{what} at place {k} has id {entry.id}: ids count from 0")
    _check_entries(program)
    check_claims(program)
    if len(program.entries) > 1:
        for entry in program.entries:
            try:
                verify(part_of(program, entry))
            except ProgramError as error:
                raise ProgramError(f"entry {entry.name}: {error}") from error
        return
    _check_tensors(program)
    _check_buffers(program)
    _check_groups(program)
    for unit in program.units:
        if unit.kind not in get_args(UnitKind):
            raise ProgramError(f"unit {unit.name} is of kind {unit.kind!r}; there are {', '.join(get_args(UnitKind))}")
    _check_ports(program)
    check_states(program)
    for instruction in program.instructions:
        _check_instruction(program, instruction.id)
    check_changes(program)
    check_dataflow(program)
    check_ranges(program)
    _check_schedule(program)


def _check_entries(program: Tables) -> None:
    """PROGRAMs come first, then entry after entry: what each says of itself, but for its schedule."""
    names = Counter(e.name for e in program.entries)
    at = next((i.id for i in program.instructions if not isinstance(i, WriteCells)), len(program.instructions))
    if any(isinstance(i, WriteCells) for i in program.instructions[at:]):
        raise ProgramError("the PROGRAMs of a program come first")
    for entry in program.entries:
        where = f"entry {entry.id} ({entry.name})"
        if names[entry.name] > 1:
            raise ProgramError(f"{where} is there twice")
        if entry.kind not in get_args(EntryKind):
            raise ProgramError(f"{where} is of kind {entry.kind!r}; there are {', '.join(get_args(EntryKind))}")
        if entry.first != at or not entry.first <= entry.stop <= len(program.instructions):
            raise ProgramError(f"{where} has instructions {entry.first}..{entry.stop - 1}, from {at} on is expected")
        if min(entry.repeats, entry.micro_batch, entry.micro_batches, entry.schedule.split) < 1:
            raise ProgramError(f"{where}: repeats, micro_batch, micro_batches and split must be at least 1")
        at = entry.stop
    if not program.entries or at != len(program.instructions):
        raise ProgramError(f"instructions {at}..{len(program.instructions) - 1} belong to no entry")
    if not math.isfinite(program.clock_ns) or program.clock_ns <= 0:
        raise ProgramError(f"a clock of {program.clock_ns} ns is not positive")


def _check_tensors(program: Tables) -> None:
    for name, array in program.tensors.items():
        if array.dtype.name not in CODES:
            raise ProgramError(f"tensor {name} has element type {array.dtype}; there are {', '.join(CODES)}")
    for constant in program.constants:
        if constant.tensor not in program.tensors:
            raise ProgramError(f"constant {constant.name}: tensor {constant.tensor} is missing")
    for segment in program.host_segments:
        tensor = program.tensors.get(segment.tensor)
        if tensor is None or tensor.dtype != np.uint8 or tensor.ndim != 1:
            raise ProgramError(f"host segment {segment.id}: its model must be the uint8 vector {segment.tensor}")


def _check_buffers(program: Tables) -> None:
    buffers = program.buffers
    for b in buffers:
        where = f"buffer {b.id} ({b.name})"
        if b.kind not in get_args(BufferKind):
            raise ProgramError(f"{where} is of kind {b.kind!r}; there are {', '.join(get_args(BufferKind))}")
        if b.space not in ("edram", "dram") or not 0 <= b.offset < MOST_BYTES or not 1 <= b.slots < MOST_ELEMENTS:
            raise ProgramError(f"{where}: space {b.space}, offset {b.offset}, slots {b.slots} is no place")
        dtype = numpy_dtype(b.dtype)
        allowed = {"code": ("uint8", "int8", "uint16", "int16"), "acc": ("int64",)}.get(b.kind)
        if allowed and dtype.name not in allowed:
            raise ProgramError(f"{where}: kind {b.kind} holds {', '.join(allowed)}, not {b.dtype}")
        if any(d < 0 for d in b.shape) or prod(b.shape) > MOST_ELEMENTS:
            raise ProgramError(f"{where}: shape {list(b.shape)} is negative or above {MOST_ELEMENTS} elements")
        if b.alias_of < -1 or b.alias_of >= b.id:
            raise ProgramError(f"{where} is an alias of {b.alias_of}: an earlier buffer is expected")
        if b.alias_of >= 0:
            of = buffers[b.alias_of]
            same = (of.kind, of.dtype, prod(of.shape)) == (b.kind, b.dtype, prod(b.shape))
            if not same or b.kind == "opaque":
                raise ProgramError(f"{where} cannot be an alias of buffer {of.id}: kind, dtype or size differ")
            if of.persistent != b.persistent:
                raise ProgramError(f"{where} and buffer {of.id}, of which it is an alias, are not both persistent")
        if b.parts < 1 or prod(b.shape) % b.parts:
            raise ProgramError(f"{where}: shape {list(b.shape)} has no {b.parts} equal parts")
        check_persistent(b)


def _check_groups(program: Tables) -> None:
    taken: set[int] = set()
    most_crossbars = _crossbars(program.target)
    for g in program.groups:
        where = f"group {g.id} ({g.name})"
        try:
            g.arithmetic.check()
        except ProgramError as error:
            raise ProgramError(f"{where}: {error}") from error
        if min(g.matrices, g.rows, g.cols, g.replicas) < 1:
            raise ProgramError(f"{where}: matrices, rows, cols and replicas must be at least 1")
        shape = (g.matrices, g.rows, g.cols)
        for what, name in (("weights", g.weights), ("real weights", g.real_weights)):
            tensor = program.tensors.get(name)
            if tensor is None or tensor.shape != shape:
                found = "missing" if tensor is None else f"of shape {list(tensor.shape)}"
                raise ProgramError(f"{where}: {what} {name} are {found}, {list(shape)} is expected")
        weights = program.tensors[g.weights]
        if weights.dtype not in (np.int8, np.int16):
            raise ProgramError(f"{where}: weights are {weights.dtype}, int8 or int16 is expected")
        lo, hi = g.arithmetic.weight_range
        least, most = int(weights.min()), int(weights.max())
        if least < lo or most > hi:
            raise ProgramError(f"{where}: weights are in {least}..{most}, its cells hold {lo}..{hi}")
        if not is_float(program.tensors[g.real_weights].dtype):
            raise ProgramError(f"{where}: real weights are {program.tensors[g.real_weights].dtype}, float is expected")
        if not (math.isfinite(g.weight_scale) and g.weight_scale >= 0):
            raise ProgramError(f"{where}: weight scale {g.weight_scale} is not finite and at least 0")
        if g.arithmetic.largest_sum(g.rows) >= 1 << 63:
            raise ProgramError(f"{where}: {g.rows} rows with this arithmetic can exceed 63-bit sums")
        if len(g.crossbars) != g.replicas * g.crossbars_per_replica:
            raise ProgramError(
                f"{where}: {len(g.crossbars)} crossbars, {g.replicas} x {g.crossbars_per_replica} are expected"
            )
        wrong = [c for c in (min(g.crossbars), max(g.crossbars)) if not 0 <= c < most_crossbars]
        if wrong:
            raise ProgramError(f"{where}: there is no crossbar {wrong[0]}; there are {most_crossbars}")
        own = set(g.crossbars)
        if (not g.off_chip and taken & own) or len(own) != len(g.crossbars):
            raise ProgramError(f"{where}: a crossbar is used twice")
        taken |= own


def _crossbars(target: Mapping[str, Any]) -> int:
    """Crossbars of a chip as its description counts them; `MOST_CROSSBARS` for one that does not say."""
    counts = target.get("structure")
    names = ("chips", "tiles_per_chip", "macros_per_tile", "crossbars_per_macro")
    known = [counts.get(name) for name in names] if isinstance(counts, Mapping) else []
    if not known or not all(type(n) is int and n > 0 for n in known):
        return MOST_CROSSBARS
    return min(prod(known), MOST_CROSSBARS)  # type: ignore[arg-type]


def _check_ports(program: Tables) -> None:
    for what, ports in (("input", program.inputs), ("output", program.outputs)):
        names = Counter(p.name for p in ports)
        twice = [name for name, n in names.items() if n > 1]
        if twice:
            raise ProgramError(f"{what} {twice[0]} is there twice")
        for port in ports:
            _check_port(program, what, port)
    stored = Counter(i.port for i in program.instructions if isinstance(i, Store))
    loaded = Counter(i.port for i in program.instructions if isinstance(i, Load))
    for k, port in enumerate(program.outputs):
        if stored[k] != 1:
            raise ProgramError(f"output {port.name} is stored {stored[k]} times, once is expected")
    for k, port in enumerate(program.inputs):
        if loaded[k] > 1:
            raise ProgramError(f"input {port.name} is loaded {loaded[k]} times")


def _check_port(program: Tables, what: str, port: Port) -> None:
    constant = what == "output" and port.buffer == -1
    if not constant and not 0 <= port.buffer < len(program.buffers):
        raise ProgramError(f"{what} {port.name}: buffer {port.buffer} does not exist")
    opaque = not constant and program.buffers[port.buffer].kind == "opaque"
    if not opaque:
        numpy_dtype(port.dtype)
    if not constant and not opaque and program.buffers[port.buffer].shape != port.shape:
        raise ProgramError(
            f"{what} {port.name} has shape {list(port.shape)}, its buffer {list(program.buffers[port.buffer].shape)}"
        )
    entry = program.entry
    if port.batched and entry.batched and (not port.shape or port.shape[0] % entry.micro_batch or opaque):
        raise ProgramError(
            f"{what} {port.name}: shape {list(port.shape)} does not hold {entry.micro_batch} samples along axis 0"
        )


def _check_instruction(program: Tables, index: int) -> None:
    i = program.instructions[index]
    where = f"instruction {i.id} ({i.mnemonic})"
    if OPCODES.get(i.opcode) is not type(i):
        raise ProgramError(f"{where}: opcode {i.opcode} is not one of this instruction set")
    if not 0 <= i.unit < len(program.units):
        raise ProgramError(f"{where}: unit {i.unit} does not exist; there are {len(program.units)}")
    if i.duration < 0:
        raise ProgramError(f"{where}: duration {i.duration} is negative")
    if not -1 <= i.source < len(program.sources):
        raise ProgramError(f"{where}: source {i.source} does not exist; there are {len(program.sources)}")
    if any(not 0 <= j < i.id for j in (*i.after, *i.after_all)):
        raise ProgramError(f"{where}: it may come after instructions 0..{i.id - 1} only, not {i.after + i.after_all}")
    split = program.entry.schedule.split
    if i.streamed and (split == 1 or isinstance(i, WriteCells)):
        raise ProgramError(f"{where}: it is streamed, but the schedule splits no run of it")
    if i.after_all and not (i.streamed and all(program.instructions[j].streamed for j in i.after_all)):
        raise ProgramError(f"{where}: after_all is for a streamed instruction that waits for streamed ones")
    for j, lag in i.after_previous:
        if not 0 <= j < len(program.instructions) or lag < 1:
            raise ProgramError(f"{where}: after_previous ({j}, {lag}) is no earlier task")
    for b in (*i.reads(), *i.writes()):
        if not 0 <= b < len(program.buffers):
            raise ProgramError(f"{where}: buffer {b} does not exist; there are {len(program.buffers)}")
        if program.buffers[b].parts not in (1, split):
            raise ProgramError(f"{where}: buffer {b} has {program.buffers[b].parts} parts, the run is split in {split}")
    if not i.takes_opaque:
        opaque = [b for b in (*i.reads(), *i.writes()) if program.buffers[b].kind == "opaque"]
        if opaque:
            raise ProgramError(f"{where}: buffer {program.buffers[opaque[0]].name} is opaque")
    try:
        i.check(program)
    except ProgramError as error:
        raise ProgramError(f"{where}: {error}") from error
    if isinstance(i, WriteCells):
        return
    for group in (*i.reads_groups(), *i.writes_groups()):
        if not any(isinstance(p, WriteCells | Rewrite) and p.group == group for p in program.instructions[: index + 1]):
            raise ProgramError(f"{where}: no PROGRAM before it writes group {group}")


def _check_schedule(program: Tables) -> None:
    entry, s = program.entry, program.entry.schedule
    shape = (entry.stop - entry.first, entry.micro_batches * s.split)
    if s.starts.shape != shape or s.starts.dtype.kind != "i":
        raise ProgramError(
            f"schedule: starts are {s.starts.dtype}{list(s.starts.shape)}, integers {list(shape)} are expected"
        )
    if (s.split > 1 and entry.micro_batches > 1) or not 0 <= s.interval <= s.makespan:
        raise ProgramError(
            f"schedule: a split of {s.split} and an interval of {s.interval} do not go with {entry.micro_batches} "
            f"micro-batches and a makespan of {s.makespan}"
        )
    end = 0
    for i, starts in zip(program.instructions[entry.first :], s.starts, strict=True):
        count = count_of(program, i)
        if (starts[:count] < 0).any() or (starts[count:] != -1).any():
            raise ProgramError(
                f"schedule: instruction {i.id} has {count} tasks, but starts at {starts.tolist()}: -1 is for what "
                "is no task, and only for that"
            )
        end = max(end, int(starts.max()) + i.duration)
    if s.makespan != end:
        raise ProgramError(f"schedule: the makespan is {s.makespan}, but the last task ends at {end}")
    if not 0 <= s.lower_bound <= s.period:
        raise ProgramError(f"schedule: lower bound {s.lower_bound} is not in 0..{s.period}")
