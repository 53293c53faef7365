"""The base of all instructions and the registry of opcodes.

An instruction is a frozen dataclass. Its fields are ints, floats, bools, or tuples of those or of frozen dataclasses of
such fields: the codec packs them into words, the assembler prints them, `docs/isa.md` lists them.
Each class says everything about its instruction: fields, rules (`check`), meaning (`execute`, in NumPy), cost class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

if TYPE_CHECKING:
    from mgc.isa.machine import Machine
    from mgc.isa.program import Program


@dataclass(frozen=True)
class Instruction:
    """Fields every instruction has.

    id: position in the program, unique, also a topological order within one micro-batch. unit: index into the
    program's units, whose stream holds it. duration: cycles for one micro-batch. after: ids of instructions of the same
    micro-batch that must end first. after_previous: ids of instructions that must have ended for the micro-batch
    `lag` earlier, as (id, lag) pairs: a buffer's slot comes free again. source: index into the program's source table
    (the ONNX nodes it computes), -1 for none.
    """

    opcode: ClassVar[int] = 0
    mnemonic: ClassVar[str] = ""
    cost_class: ClassVar[str] = ""

    id: int
    unit: int
    duration: int
    after: tuple[int, ...]
    after_previous: tuple[tuple[int, int], ...]
    source: int

    def check(self, program: Program) -> None:
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

    def reads_groups(self) -> tuple[int, ...]:
        """Ids of the crossbar groups whose cells it reads."""
        return ()

    def writes_groups(self) -> tuple[int, ...]:
        """Ids of the crossbar groups whose cells it writes."""
        return ()


OPCODES: dict[int, type[Instruction]] = {}

_C = TypeVar("_C", bound=Instruction)


def opcode(cls: type[_C]) -> type[_C]:
    """Class decorator: registers an instruction under its opcode and mnemonic."""
    if cls.opcode in OPCODES or any(c.mnemonic == cls.mnemonic for c in OPCODES.values()):
        raise TypeError(f"opcode {cls.opcode} or mnemonic {cls.mnemonic!r} is taken")
    OPCODES[cls.opcode] = cls
    return cls
