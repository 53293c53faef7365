"""PROGRAM and MVM: writing and reading crossbars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mgc.isa.instruction import Instruction, opcode


@opcode
@dataclass(frozen=True)
class Program(Instruction):
    """Writes a group's weights into its cells, once, before the first micro-batch."""

    opcode: ClassVar[int] = 1
    mnemonic: ClassVar[str] = "program"
    cost_class: ClassVar[str] = "write"

    group: int


@opcode
@dataclass(frozen=True)
class Mvm(Instruction):
    """Streams every window of a code buffer through a crossbar group and writes the sums to an accumulator buffer.

    The source is seen as [batch, channels, *spatial] through `src_shape` and `src_strides` (elements), the
    destination likewise. For each spatial dimension window q, tap t read input position
    in_base + q*in_stride + t*in_dilation (outside the input: 0) and window q writes out_base + q*out_stride. Matrix g
    reads channels [g*C, (g+1)*C), C = rows/taps, and writes channels [g*cols, (g+1)*cols). Row k of a matrix is
    channel k // taps, tap k mod taps when `tap_fastest`, else tap k // C, channel k mod C.
    `signed` says whether codes are two's complement.
    """

    opcode: ClassVar[int] = 2
    mnemonic: ClassVar[str] = "mvm"
    cost_class: ClassVar[str] = "crossbar"

    group: int
    src: int
    dst: int
    signed: bool
    tap_fastest: bool
    src_shape: tuple[int, ...]
    src_strides: tuple[int, ...]
    dst_shape: tuple[int, ...]
    dst_strides: tuple[int, ...]
    count: tuple[int, ...]
    taps: tuple[int, ...]
    in_base: tuple[int, ...]
    in_stride: tuple[int, ...]
    in_dilation: tuple[int, ...]
    out_base: tuple[int, ...]
    out_stride: tuple[int, ...]

    def reads(self) -> tuple[int, ...]:
        return (self.src,)

    def writes(self) -> tuple[int, ...]:
        return (self.dst,)
