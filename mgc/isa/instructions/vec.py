"""VEC: a fused kernel of the vector unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mgc.isa.instruction import Instruction, opcode


@dataclass(frozen=True)
class Ref:
    """An operand: space 0 = buffer id, 1 = constant id, 2 = register (the result of an earlier step)."""

    space: int
    index: int


BUFFER, CONSTANT, REGISTER = 0, 1, 2


@dataclass(frozen=True)
class Step:
    """One step: `function` is a code of `mgc.isa.functions`, `attributes` what its definition lists, in order."""

    function: int
    args: tuple[Ref, ...]
    attributes: tuple[float, ...]


@dataclass(frozen=True)
class Store:
    """Writes a value (register, or buffer copied as it is) to a buffer."""

    value: Ref
    dst: int


@opcode
@dataclass(frozen=True)
class Vec(Instruction):
    """Runs the steps in order, step k leaving its result in register k, then stores."""

    opcode: ClassVar[int] = 3
    mnemonic: ClassVar[str] = "vec"
    cost_class: ClassVar[str] = "vector"

    steps: tuple[Step, ...]
    stores: tuple[Store, ...]

    def reads(self) -> tuple[int, ...]:
        refs = [r for s in self.steps for r in s.args] + [s.value for s in self.stores]
        return tuple(dict.fromkeys(r.index for r in refs if r.space == BUFFER))

    def writes(self) -> tuple[int, ...]:
        return tuple(s.dst for s in self.stores)
