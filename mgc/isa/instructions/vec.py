"""VEC: a fused kernel of the vector unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mgc.isa.functions import Operand, function
from mgc.isa.instruction import Instruction, opcode
from mgc.isa.kernels import Result, Step, buffers_read, check_stores, register_types, run_steps
from mgc.isa.machine import Machine
from mgc.isa.resources import Resources

_SHOWN = 4
"""Steps of a kernel that its subject names."""


@opcode
@dataclass(frozen=True)
class Vec(Instruction):
    """Runs the steps in order, step k leaving its result in register k, then stores.

    A value stored has the element type and shape of its buffer.
    """

    opcode: ClassVar[int] = 3
    mnemonic: ClassVar[str] = "vec"
    cost_class: ClassVar[str] = "vector"

    steps: tuple[Step, ...]
    stores: tuple[Result, ...]

    def registers(self, program: Resources) -> list[Operand]:
        """Element type and shape of each register in `quantized` numerics. Raises ProgramError."""
        return register_types(program, self.steps)

    def check(self, program: Resources) -> None:
        check_stores(program, self.stores, self.registers(program))

    def subject(self, program: Resources) -> str:
        done = [s.name for s in self.steps[:_SHOWN]] + ["…"] * (len(self.steps) > _SHOWN)
        return "+".join(done) or super().subject(program)

    def execute(self, machine: Machine) -> None:
        registers = run_steps(machine, self.steps)
        for store in self.stores:
            machine.write(store.dst, machine.read(store.value, registers))

    def reads(self) -> tuple[int, ...]:
        return buffers_read(self.steps, self.stores)

    def writes(self) -> tuple[int, ...]:
        return tuple(s.dst for s in self.stores)

    def functions(self) -> tuple[str, ...]:
        """Names of the steps' functions, in order."""
        return tuple(function(s.function).name for s in self.steps)
