"""Reads that drain, taken apart: the fast engine runs sums and kernels as large operations of their own."""

from __future__ import annotations

from dataclasses import replace

from mgc.isa.instruction import Instruction
from mgc.isa.instructions import BUFFER, REGISTER, Mvm, MvmT, Ref, Result, Step, Vec
from mgc.isa.memory import Buffer
from mgc.isa.program import Program


def take_apart(program: Program) -> Program:
    """A program that gives the same values, in which no read drains: its sums are stored in one more buffer, which a
    VEC reads after the last read that shares the drain. That VEC has the number of this read; what results cannot be
    verified, nor has it a schedule.
    """
    reads = [i for i in program.instructions if isinstance(i, Mvm | MvmT) and i.stores]
    if not reads:
        return program
    buffers = list(program.buffers)
    sums: dict[int, int] = {}  # root of the first result -> buffer of the sums
    last: dict[int, int] = {}
    for i in reads:
        root = program.root(i.stores[0].dst)
        if root not in sums:
            sums[root] = len(buffers)
            shape = program.buffers[i.stores[0].dst].shape
            buffers.append(Buffer(len(buffers), f"sums of {program.buffers[root].name}", "acc", "int64", shape))
        last[root] = i.id
    made: list[Instruction] = []
    for i in program.instructions:
        if not (isinstance(i, Mvm | MvmT) and i.stores):
            made.append(i)
            continue
        root = program.root(i.stores[0].dst)
        made.append(replace(i, dst=sums[root], steps=(), stores=()))
        if last[root] == i.id:
            made.append(_kernel(i, sums[root]))
    return replace(program, buffers=tuple(buffers), instructions=tuple(made))


def _kernel(read: Mvm | MvmT, sums: int) -> Vec:
    """The drain of a read as a kernel on a buffer with its sums."""

    def ref(r: Ref) -> Ref:
        if r.space != REGISTER:
            return r
        return Ref(BUFFER, sums) if r.index == 0 else Ref(REGISTER, r.index - 1)

    return Vec(
        id=read.id,
        unit=read.unit,
        duration=0,
        after=read.after,
        after_previous=(),
        source=read.source,
        steps=tuple(Step(s.function, tuple(map(ref, s.args)), s.attributes) for s in read.steps),
        stores=tuple(Result(ref(s.value), s.dst) for s in read.stores),
    )
