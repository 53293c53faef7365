"""The base of all instructions and the registry of opcodes.

An instruction is a frozen dataclass. Its fields are ints, floats, bools, or tuples of those or of frozen dataclasses
registered with `record`: the codec packs them into 64-bit words, the assembler prints them, `docs/isa.md` lists them.
Each class says everything about its instruction: fields, text, meaning (`execute`, in plain NumPy), cost class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from mgc.isa.machine import Machine

Space = Literal["buffer", "constant", "register"]


@dataclass(frozen=True)
class Instruction:
    """Fields every instruction has.

    id: position in the program, unique, also a topological order within one micro-batch. unit: index into the
    program's units, whose stream holds it. duration: cycles for one micro-batch. after: ids of instructions of the same
    micro-batch that must end first. after_previous: ids of instructions that must have ended for the micro-batch
    `lag` earlier, as (id, lag) pairs: a buffer's slot comes free again. source: index into the program's source table
    (the ONNX nodes it computes).
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

    def execute(self, machine: Machine) -> None:
        """Does for one micro-batch what the instruction means. `machine` holds buffers, cells and constants."""
        raise TypeError(f"{type(self).__name__} has no meaning")

    def reads(self) -> tuple[int, ...]:
        """Ids of the buffers it reads."""
        return ()

    def writes(self) -> tuple[int, ...]:
        """Ids of the buffers it writes."""
        return ()


OPCODES: dict[int, type[Instruction]] = {}


def opcode(cls: type[Instruction]) -> type[Instruction]:
    """Class decorator: registers an instruction under its opcode and mnemonic."""
    if cls.opcode in OPCODES or any(c.mnemonic == cls.mnemonic for c in OPCODES.values()):
        raise TypeError(f"opcode {cls.opcode} or mnemonic {cls.mnemonic!r} is taken")
    OPCODES[cls.opcode] = cls
    return cls
