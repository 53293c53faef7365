"""The base of all instructions and the registry of opcodes.

An instruction is a frozen dataclass. Its fields are ints, floats, bools, or tuples of those or of frozen dataclasses of
such fields: the codec packs them into words, the assembler prints them, `docs/isa.md` lists them.
Each class says everything about its instruction: fields, rules (`check`), meaning (`execute`, in NumPy), cost class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from math import prod
from typing import ClassVar, Literal, TypeVar

from mgc.isa.machine import Machine
from mgc.isa.memory import Access
from mgc.isa.resources import Resources
from mgc.isa.schema import Record, record_of


@dataclass(frozen=True)
class Instruction:
    """Fields every instruction has.

    id: position in the program, unique, also a topological order within one micro-batch. unit: index into the
    program's units, whose stream holds it. duration: cycles for one micro-batch. after: ids of instructions of the same
    micro-batch that must end first. after_previous: ids of instructions that must have ended for the micro-batch
    `lag` earlier, as (id, lag) pairs: a buffer's slot comes free again. source: index into the program's source table
    (the ONNX nodes it computes), -1 for none.

    Where the schedule splits a run (see `Schedule`), a `streamed` instruction has one task for each part of the batch,
    in order, any other has one; duration is that of a task. Task k of a streamed instruction comes after task k of a
    streamed one in `after`, and after the only task of any other; the only task of an instruction that is not streamed
    comes after all tasks of those in `after`. after_all: ids of streamed instructions all of whose tasks must end
    before the first of a streamed instruction: a reduction over the batch must be complete. `lag` then counts runs. Who
    writes part k of a buffer with fewer `slots` than parts comes after all who use part k - slots of it.
    """

    opcode: ClassVar[int] = 0
    mnemonic: ClassVar[str] = ""
    cost_class: ClassVar[str] = ""
    timed: ClassVar[bool] = True
    """Whether the schedule has tasks of it."""
    takes_opaque: ClassVar[bool] = False
    """Whether its operands may be what only the host can hold."""
    stage: ClassVar[Literal["", "loss", "backward"]] = ""
    """The stage of training that it begins, if it is for one."""
    learns: ClassVar[bool] = False
    """Whether it is a step of an optimizer."""

    id: int
    unit: int
    duration: int
    after: tuple[int, ...]
    after_previous: tuple[tuple[int, int], ...]
    source: int
    after_all: tuple[int, ...] = field(default=(), kw_only=True)
    streamed: bool = field(default=False, kw_only=True)

    def check(self, program: Resources) -> None:
        """Raises ProgramError if its own fields break a rule: indices, shapes, addresses. Buffers are sound already."""
        raise TypeError(f"{type(self).__name__} has no rules")

    def execute(self, machine: Machine) -> None:
        """Does for one micro-batch what the instruction means. `machine` holds buffers, cells and constants."""
        raise TypeError(f"{type(self).__name__} has no meaning")

    def reads(self) -> tuple[int, ...]:
        """Ids of the buffers it reads."""
        return ()

    def writes(self) -> tuple[int, ...]:
        """Ids of the buffers it writes."""
        return ()

    def accesses(self, program: Resources) -> tuple[Access, ...]:
        """What it moves for one micro-batch: every operand once, whole unless it says otherwise."""
        read = (Access(b, elements_of(program, b), writes=False) for b in dict.fromkeys(self.reads()))
        return (*read, *(Access(b, elements_of(program, b), writes=True) for b in dict.fromkeys(self.writes())))

    def deltas_written(self) -> tuple[int, ...]:
        """Ids of the buffers it writes that hold error deltas of a loss: what follows from them is backward."""
        return ()

    def subject(self, program: Resources) -> str:
        """What it is about, in words: its crossbar group, port or functions, or else the buffers that it makes."""
        groups = (*self.reads_groups(), *self.writes_groups())
        named = [program.groups[g] for g in groups] or [program.buffers[b] for b in self.writes()]
        return ", ".join(n.name for n in named)

    def reads_groups(self) -> tuple[int, ...]:
        """Ids of the crossbar groups whose cells it reads."""
        return ()

    def writes_groups(self) -> tuple[int, ...]:
        """Ids of the crossbar groups whose weights it writes."""
        return ()

    def writes_cells(self, program: Resources) -> tuple[int, ...]:
        """Of those, the groups whose cells it writes: the weights of others lie off-chip, and are written there."""
        return self.writes_groups()

    def fetches(self, program: Resources) -> int:
        """Bytes that it brings from off-chip memory beside its operands, in each micro-batch."""
        return 0


def elements_of(program: Resources, buffer: int) -> int:
    """Elements of a buffer; 0 for an opaque one, whose size nobody knows."""
    held = program.buffers[buffer]
    return 0 if held.kind == "opaque" else prod(held.shape)


HEADER = record_of(Instruction).without("id", "unit")
"""The fields of every instruction but its number and unit, which its place in a stream says."""


@cache
def operands_of(cls: type[Instruction]) -> Record:
    """The fields of an instruction beyond those of every instruction."""
    return record_of(cls).without("id", "unit", *(name for name, _ in HEADER.fields))


OPCODES: dict[int, type[Instruction]] = {}

_C = TypeVar("_C", bound=Instruction)


def opcode(cls: type[_C]) -> type[_C]:
    """Class decorator: registers an instruction under its opcode and mnemonic."""
    if cls.opcode in OPCODES or any(c.mnemonic == cls.mnemonic for c in OPCODES.values()):
        raise TypeError(f"opcode {cls.opcode} or mnemonic {cls.mnemonic!r} is taken")
    OPCODES[cls.opcode] = cls
    return cls
