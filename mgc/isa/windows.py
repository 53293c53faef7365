"""Products over windows: what MVM, MVM_T and OUTER have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import prod
from typing import ClassVar

import numpy as np

from mgc.functions.windows import Layout, Windows
from mgc.isa.crossbar import sliced_product
from mgc.isa.device.reads import Runs
from mgc.isa.error import ProgramError
from mgc.isa.functions import Operand, cast, function
from mgc.isa.instruction import Instruction, elements_of
from mgc.isa.kernels import (
    POINTWISE,
    Result,
    Step,
    buffers_read,
    check_stores,
    register_types,
    run_steps,
)
from mgc.isa.machine import Machine
from mgc.isa.memory import BUFFER, Access
from mgc.isa.resources import Resources
from mgc.isa.strided import check_box, check_distinct
from mgc.isa.transposed import transposed_sums

CHUNK = 1 << 24
"""Elements of windows held at once."""


@dataclass(frozen=True)
class WindowedProduct(Instruction):
    """An instruction that loops over windows.

    `input` lays out the buffer that the windows read, `output` the one that they write, seen from the forward product.
    `ends` are the names of the fields with these two buffers.
    """

    ends: ClassVar[tuple[str, str]] = ("src", "dst")

    tap_fastest: bool
    windows: Windows
    input: Layout
    output: Layout

    @property
    def window_total(self) -> int:
        """Windows of all samples of one micro-batch."""
        return self.input.shape[0] * self.windows.total

    def buffer_at(self, end: str) -> int:
        """The buffer at one of its `ends`."""
        return getattr(self, end)

    def check_windows(self, program: Resources, matrices: int, rows: int, cols: int) -> None:
        """Raises ProgramError unless every address is inside, and the matrices fit the channels.

        Matrix g of [matrices, rows, cols] reads channels [g*C, (g+1)*C) of the input, C = rows/taps, and writes
        channels [g*cols, (g+1)*cols) of the output.
        """
        windows, inner, outer = self.windows, self.input, self.output
        of_input, of_output = self.ends
        dims = len(windows.count)
        for entry in fields(windows):
            entries = len(getattr(windows, entry.name))
            if entries != dims:
                raise ProgramError(f"{entry.name} has {entries} entries, count has {dims}")
        if dims > 4 or len(inner.shape) != dims + 2 or len(outer.shape) != dims + 2:
            raise ProgramError(f"[batch, channels] and the same {dims} (at most 4) spatial dimensions are expected")
        if min((*windows.count, *windows.taps, *windows.out_stride, *inner.shape, *outer.shape)) < 1:
            raise ProgramError("count, taps, out_stride and the shapes of input and output must be at least 1")
        # so that no position overflows; far above any tensor
        if any(abs(v) > 1 << 31 for v in (*windows.in_base, *windows.in_stride, *windows.in_dilation)):
            raise ProgramError("in_base, in_stride and in_dilation must be within 2^31")
        for name, layout in zip(self.ends, (inner, outer), strict=True):
            size = prod(program.operand(BUFFER, self.buffer_at(name)).shape)
            check_box(name, 0, layout.shape, layout.strides, size)
        if inner.shape[0] != outer.shape[0]:
            raise ProgramError(f"{of_input} has batch {inner.shape[0]}, {of_output} {outer.shape[0]}")
        taps = windows.tap_total
        if rows % taps or inner.shape[1] < matrices * (rows // taps):
            raise ProgramError(
                f"{matrices} matrices of {rows} rows with {taps} taps do not read {inner.shape[1]} channels"
            )
        if outer.shape[1] != matrices * cols:
            raise ProgramError(f"{matrices} x {cols} columns but {outer.shape[1]} channels to write")
        for d, (span, extent) in enumerate(zip(windows.out_slices, outer.shape[2:], strict=True)):
            if span.start < 0 or span.stop > extent:
                raise ProgramError(
                    f"dimension {d}: windows write {span.start}..{span.stop - 1} of {extent} positions of {of_output}"
                )


@dataclass(frozen=True)
class CrossbarRead(WindowedProduct):
    """A product with the weights in a group's cells: it streams codes in and adds up sums in an accumulator buffer.

    `signed` says whether codes are two's complement.

    With `steps` it drains: sums are not stored but run through a kernel as they come, on lanes at the crossbars.
    Register 0 holds the sums (int64, in `float` numerics float32) in the shape of the buffers that `stores` name; step
    k leaves its result in register k + 1. Every step works element by element on values of that shape, operands
    broadcast to it.
    """

    transposed: ClassVar[bool] = False

    group: int
    src: int
    dst: int
    signed: bool
    steps: tuple[Step, ...] = field(default=(), kw_only=True)
    stores: tuple[Result, ...] = field(default=(), kw_only=True)

    def buffer_at(self, end: str) -> int:
        return self.stores[0].dst if end == "dst" and self.stores else super().buffer_at(end)

    def check(self, program: Resources) -> None:
        if not 0 <= self.group < len(program.groups):
            raise ProgramError(f"group {self.group} does not exist; there are {len(program.groups)}")
        group = program.groups[self.group]
        src = program.operand_of_kind("code", self.src)
        if (src.dtype.kind == "i") != self.signed:
            raise ProgramError(f"signed is {self.signed} but the source is {src}")
        if self.steps or self.stores or self.dst == -1:
            self._check_drain(program)
        else:
            program.operand_of_kind("acc", self.dst)
        self.check_windows(program, group.matrices, group.rows, group.cols)
        target = dict(zip(self.ends, (self.input, self.output), strict=True))["dst"]
        check_distinct("dst", target.shape, target.strides)

    def registers(self, program: Resources) -> list[Operand]:
        """Element type and shape of each register of its drain in `quantized` numerics. Raises ProgramError."""
        sums = Operand(np.dtype(np.int64), program.operand(BUFFER, self.stores[0].dst).shape)
        return register_types(program, self.steps, [sums])

    def _check_drain(self, program: Resources) -> None:
        if not self.steps or not self.stores:
            raise ProgramError("a drain has steps and stores")
        types = self.registers(program)
        for k, (step, type_) in enumerate(zip(self.steps, types[1:], strict=True)):
            name = function(step.function).name
            if name not in POINTWISE or type_.shape != types[0].shape:
                raise ProgramError(
                    f"step {k}: a drain works element by element on {list(types[0].shape)}, not {name} to {type_}"
                )
        check_stores(program, self.stores, types)
        roots = [program.root(s.dst) for s in self.stores]
        if len(set(roots)) < len(roots) or any(program.buffers[b].persistent for b in roots):
            raise ProgramError("a drain stores to buffers of their own, none of them persistent")

    def drained(self, machine: Machine, sums: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """What its drain makes of sums in the shape of its results: (buffer, array of the buffer's element type)."""
        registers = run_steps(machine, self.steps, [sums])
        made = [(s.dst, np.ascontiguousarray(machine.read(s.value, registers))) for s in self.stores]
        return [(b, cast(value, machine.dtype(machine.program.buffers[b]))) for b, value in made]

    def drain_accesses(self, program: Resources, results: int) -> tuple[Access, ...]:
        """What its drain moves, where it gives `results` elements of each of its results: the same elements of
        operands of their shape, others whole.
        """
        size = elements_of(program, self.stores[0].dst) if self.stores else 0
        held = [(b, elements_of(program, b)) for b in buffers_read(self.steps, self.stores)]
        read = [Access(b, results if n == size else n, writes=False) for b, n in held]
        return (*read, *(Access(s.dst, results, writes=True) for s in self.stores))

    def product(self, machine: Machine, codes: np.ndarray, runs: Runs) -> np.ndarray:
        """Sums [matrices, n, lines] for codes [matrices, n, inputs] of windows with the numbers `runs`: int64, in
        `float` numerics the real product in float64.
        """
        arithmetic, cells = machine.program.groups[self.group].arithmetic, machine.cells[self.group]
        if machine.ideal:
            weights = cells.astype(np.float64)
            return np.matmul(codes.astype(np.float64), weights.swapaxes(1, 2) if self.transposed else weights)
        if machine.devices is not None:
            return machine.devices.sums(self.group, self.id, codes, cells, self.signed, runs, self.transposed)
        sums = transposed_sums if self.transposed else sliced_product
        return np.stack([sums(x, c, arithmetic, self.signed) for x, c in zip(codes, cells, strict=True)])

    def reads(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys((self.src, *buffers_read(self.steps, self.stores))))

    def writes(self) -> tuple[int, ...]:
        sums = (self.dst,) if self.dst >= 0 else ()
        return (*sums, *(s.dst for s in self.stores))

    def reads_groups(self) -> tuple[int, ...]:
        return (self.group,)
