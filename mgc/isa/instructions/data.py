"""MOVE, LOAD, STORE, HOST: data on its way."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from mgc.functions.windows import strided_view
from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ExecutionError, ProgramError
from mgc.isa.functions import cast
from mgc.isa.instruction import Instruction, elements_of, opcode
from mgc.isa.machine import Machine
from mgc.isa.memory import BUFFER, Access, Ref
from mgc.isa.resources import Resources
from mgc.isa.strided import check_box, check_distinct


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
    Within one piece no address of the destination is met twice.
    """

    opcode: ClassVar[int] = 4
    mnemonic: ClassVar[str] = "move"
    cost_class: ClassVar[str] = "move"

    pieces: tuple[Piece, ...]
    dst: int

    def check(self, program: Resources) -> None:
        dst = program.operand(BUFFER, self.dst)
        for k, piece in enumerate(self.pieces):
            src = program.operand(piece.src.space, piece.src.index)
            if src.dtype != dst.dtype:
                raise ProgramError(f"piece {k}: the source is {src}, the destination {dst}: element types differ")
            check_box(f"piece {k}: src", piece.src_base, piece.extents, piece.src_strides, prod(src.shape))
            check_box(f"piece {k}: dst", piece.dst_base, piece.extents, piece.dst_strides, prod(dst.shape))
            check_distinct(f"piece {k}: dst", piece.extents, piece.dst_strides)

    def execute(self, machine: Machine) -> None:
        buffer = machine.program.buffers[self.dst]
        out = np.zeros(buffer.shape, machine.dtype(buffer))
        for p in self.pieces:
            source = np.ascontiguousarray(machine.read(p.src))
            view = strided_view(out, p.dst_base, p.extents, p.dst_strides)
            view[...] = strided_view(source, p.src_base, p.extents, p.src_strides)
        machine.write(self.dst, out)

    def accesses(self, program: Resources) -> tuple[Access, ...]:
        """Of each source what its pieces read, what they repeat from the tile's memory; all of the destination."""
        read: dict[int, int] = {}
        for p in self.pieces:
            if p.src.space == BUFFER:
                read[p.src.index] = read.get(p.src.index, 0) + prod(p.extents)
        held = {b: elements_of(program, b) for b in read}
        taken = (Access(b, min(n, held[b]), False, n if n > held[b] else None) for b, n in read.items())
        return (*taken, Access(self.dst, elements_of(program, self.dst), True))

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
    takes_opaque: ClassVar[bool] = True

    port: int
    dst: int

    def check(self, program: Resources) -> None:
        if not 0 <= self.port < len(program.inputs):
            raise ProgramError(f"input {self.port} does not exist; there are {len(program.inputs)}")
        port = program.inputs[self.port]
        if port.buffer != self.dst:
            raise ProgramError(f"input {port.name} is in buffer {port.buffer}, not {self.dst}")

    def subject(self, program: Resources) -> str:
        return program.inputs[self.port].name

    def execute(self, machine: Machine) -> None:
        machine.write(self.dst, machine.inputs[self.port])

    def writes(self) -> tuple[int, ...]:
        return (self.dst,)


@opcode
@dataclass(frozen=True)
class Store(Instruction):
    """Hands one micro-batch of a buffer (or a constant) to the host as a program output, in the port's dtype."""

    opcode: ClassVar[int] = 6
    mnemonic: ClassVar[str] = "store"
    cost_class: ClassVar[str] = "link"
    takes_opaque: ClassVar[bool] = True

    src: Ref
    port: int

    def check(self, program: Resources) -> None:
        if not 0 <= self.port < len(program.outputs):
            raise ProgramError(f"output {self.port} does not exist; there are {len(program.outputs)}")
        port = program.outputs[self.port]
        if self.src.space == BUFFER and port.buffer != self.src.index:
            raise ProgramError(f"output {port.name} is in buffer {port.buffer}, not {self.src.index}")
        if self.src.space == BUFFER and program.buffers[port.buffer].kind == "opaque":
            return
        value = program.operand(self.src.space, self.src.index)
        if value.shape != port.shape:
            raise ProgramError(f"output {port.name} has shape {list(port.shape)}, the value is {value}")

    def subject(self, program: Resources) -> str:
        return program.outputs[self.port].name

    def execute(self, machine: Machine) -> None:
        value = machine.read(self.src)
        opaque = self.src.space == BUFFER and machine.program.buffers[self.src.index].kind == "opaque"
        if not opaque:
            with np.errstate(all="ignore"):
                value = cast(value, numpy_dtype(machine.program.outputs[self.port].dtype))
        machine.outputs[self.port] = value

    def reads(self) -> tuple[int, ...]:
        return (self.src.index,) if self.src.space == BUFFER else ()


@opcode
@dataclass(frozen=True)
class Host(Instruction):
    """Runs an ONNX segment on the host: `segment` indexes the program's host segments (model, reason, op types).

    The segment's graph inputs are `args` in order, its graph outputs go to the buffers `results` in order.
    """

    opcode: ClassVar[int] = 7
    mnemonic: ClassVar[str] = "host"
    cost_class: ClassVar[str] = "host"
    takes_opaque: ClassVar[bool] = True

    segment: int
    args: tuple[Ref, ...]
    results: tuple[int, ...]

    def check(self, program: Resources) -> None:
        if not 0 <= self.segment < len(program.host_segments):
            raise ProgramError(f"host segment {self.segment} does not exist; there are {len(program.host_segments)}")
        for ref in (*self.args, *(Ref(BUFFER, r) for r in self.results)):
            opaque = ref.space == BUFFER and 0 <= ref.index < len(program.buffers)
            if not (opaque and program.buffers[ref.index].kind == "opaque"):
                program.operand(ref.space, ref.index)

    def subject(self, program: Resources) -> str:
        return ", ".join(dict.fromkeys(program.host_segments[self.segment].op_types))

    def execute(self, machine: Machine) -> None:
        results = machine.host(self.segment, [machine.read(ref) for ref in self.args])
        if len(results) != len(self.results):
            raise ExecutionError(
                f"host segment {self.segment} gave {len(results)} results, {len(self.results)} are expected"
            )
        for buffer, value in zip(self.results, results, strict=True):
            machine.write(buffer, value)

    def reads(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(r.index for r in self.args if r.space == BUFFER))

    def writes(self) -> tuple[int, ...]:
        return self.results
