"""VEC: a fused kernel of the vector unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.functions import Operand, evaluate, function, infer
from mgc.isa.instruction import Instruction, opcode
from mgc.isa.machine import Machine
from mgc.isa.memory import BUFFER, REGISTER, Ref
from mgc.isa.resources import Resources

_SHOWN = 4
"""Steps of a kernel that its subject names."""


@dataclass(frozen=True)
class Step:
    """One step: `function` is a code of `mgc.isa.functions`, `attributes` what its definition lists, in order."""

    function: int
    args: tuple[Ref, ...]
    attributes: tuple[float, ...]

    @property
    def name(self) -> str:
        """The name of its function; of a table look-up that of the function which the table stands for."""
        name = function(self.function).name
        return function(int(self.attributes[0])).name if name == "lookup" else name


@dataclass(frozen=True)
class Result:
    """Writes a value (register, or buffer copied as it is) to a buffer."""

    value: Ref
    dst: int


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
        types: list[Operand] = []
        for k, step in enumerate(self.steps):
            try:
                types.append(infer(step.function, [self._type(program, r, types) for r in step.args], step.attributes))
            except ProgramError as error:
                raise ProgramError(f"step {k}: {error}") from error
        return types

    @staticmethod
    def _type(program: Resources, ref: Ref, registers: list[Operand]) -> Operand:
        if ref.space != REGISTER:
            return program.operand(ref.space, ref.index)
        if not 0 <= ref.index < len(registers):
            raise ProgramError(f"register {ref.index} is not set yet; {len(registers)} are")
        return registers[ref.index]

    def check(self, program: Resources) -> None:
        types = self.registers(program)
        for store in self.stores:
            value, buffer = self._type(program, store.value, types), program.operand(BUFFER, store.dst)
            if value != buffer:
                raise ProgramError(f"a value {value} is stored to buffer {store.dst}, which is {buffer}")

    def subject(self, program: Resources) -> str:
        done = [s.name for s in self.steps[:_SHOWN]] + ["…"] * (len(self.steps) > _SHOWN)
        return "+".join(done) or super().subject(program)

    def execute(self, machine: Machine) -> None:
        registers: list[np.ndarray] = []
        for step in self.steps:
            args = [machine.read(ref, registers) for ref in step.args]
            registers.append(evaluate(step.function, args, step.attributes, machine.ideal))
        for store in self.stores:
            machine.write(store.dst, machine.read(store.value, registers))

    def reads(self) -> tuple[int, ...]:
        refs = [r for s in self.steps for r in s.args] + [s.value for s in self.stores]
        return tuple(dict.fromkeys(r.index for r in refs if r.space == BUFFER))

    def writes(self) -> tuple[int, ...]:
        return tuple(s.dst for s in self.stores)

    def functions(self) -> tuple[str, ...]:
        """Names of the steps' functions, in order."""
        return tuple(function(s.function).name for s in self.steps)
