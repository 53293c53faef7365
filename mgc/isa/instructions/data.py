"""MOVE, LOAD, STORE, HOST: data on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mgc.isa.instruction import Instruction, opcode
from mgc.isa.instructions.vec import BUFFER, Ref


@dataclass(frozen=True)
class Piece:
    """One strided copy; bases and strides in elements of the flat source and destination."""

    src: Ref
    extents: tuple[int, ...]
    src_base: int
    src_strides: tuple[int, ...]
    dst_base: int
    dst_strides: tuple[int, ...]


@opcode
@dataclass(frozen=True)
class Move(Instruction):
    """Copies pieces, in order, into a buffer (zero where no piece writes).

    For every index of the box `extents`: dst[dst_base + sum(i*dst_strides)] = src[src_base + sum(i*src_strides)].
    """

    opcode: ClassVar[int] = 4
    mnemonic: ClassVar[str] = "move"
    cost_class: ClassVar[str] = "move"

    pieces: tuple[Piece, ...]
    dst: int

    def reads(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(p.src.index for p in self.pieces if p.src.space == BUFFER))

    def writes(self) -> tuple[int, ...]:
        return (self.dst,)


@opcode
@dataclass(frozen=True)
class Load(Instruction):
    """Brings one micro-batch of a program input from the host into its buffer, converted to the buffer's dtype."""

    opcode: ClassVar[int] = 5
    mnemonic: ClassVar[str] = "load"
    cost_class: ClassVar[str] = "link"

    port: int
    dst: int

    def writes(self) -> tuple[int, ...]:
        return (self.dst,)


@opcode
@dataclass(frozen=True)
class Store(Instruction):
    """Hands one micro-batch of a buffer (or a constant) to the host as a program output, in the port's dtype."""

    opcode: ClassVar[int] = 6
    mnemonic: ClassVar[str] = "store"
    cost_class: ClassVar[str] = "link"

    src: Ref
    port: int

    def reads(self) -> tuple[int, ...]:
        return (self.src.index,) if self.src.space == BUFFER else ()


@opcode
@dataclass(frozen=True)
class Host(Instruction):
    """Runs an ONNX segment on the host: `segment` indexes the program's host segments (model, reason, op types)."""

    opcode: ClassVar[int] = 7
    mnemonic: ClassVar[str] = "host"
    cost_class: ClassVar[str] = "host"

    segment: int
    args: tuple[Ref, ...]
    results: tuple[int, ...]

    def reads(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(r.index for r in self.args if r.space == BUFFER))

    def writes(self) -> tuple[int, ...]:
        return self.results
