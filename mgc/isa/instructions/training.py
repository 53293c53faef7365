"""MVM_T, OUTER, UPDATE: what training adds to reading crossbars."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod
from typing import ClassVar

import numpy as np

from mgc.functions.optimizers import optimize
from mgc.isa.error import ExecutionError, NotFiniteError, ProgramError
from mgc.isa.instruction import Instruction, elements_of, opcode
from mgc.isa.machine import Machine
from mgc.isa.memory import Access
from mgc.isa.optimizers import BY_CODE, optimizer
from mgc.isa.resources import Resources
from mgc.isa.transposed import integer_product
from mgc.isa.windows import CHUNK, CrossbarRead, WindowedProduct


@opcode
@dataclass(frozen=True)
class MvmT(CrossbarRead):
    """The transposed read of a group: streams errors along the columns, adds the sums along the rows to what MVM reads.

    It undoes the address generation of the MVM with the same `windows`, `tap_fastest`, `input` and `output`, which are
    here how the destination is seen, and how the source is. Window q of matrix g takes the errors at output position
    out_base + q*out_stride, channels [g*cols, (g+1)*cols), and adds the sum of row k to the input position and channel
    that row k of window q reads; sums for positions outside the input are dropped. `in_stride` is not 0 where there is
    more than one window.

    Without `accumulate` the destination is zero before; with it the sums are added to what is there (several parts of
    one layer add into one destination). In `quantized` numerics the sums are those of the transposed arithmetic, to be
    multiplied by its factor and the group's weight scale; in `device` numerics those of `mgc.isa.device.reads`. In
    `float` numerics they are products with the real weights, summed over windows in float64 together with what was
    there, rounded once to float32.

    One that drains does not accumulate. Its sums are complete line by line (of the first spatial dimension), as windows
    go by: `dst` is an accumulator buffer with room for the lines that one line of windows reads, of each sample.
    """

    opcode: ClassVar[int] = 8
    mnemonic: ClassVar[str] = "mvm_t"
    cost_class: ClassVar[str] = "crossbar"
    stage: ClassVar = "backward"
    ends: ClassVar = ("dst", "src")
    transposed: ClassVar = True

    accumulate: bool

    def check(self, program: Resources) -> None:
        super().check(program)
        group = program.groups[self.group]
        if self.stores:
            held = prod(program.operand_of_kind("acc", self.dst).shape)
            needed = prod(self.windows.open_lines(self.input.shape))
            if self.accumulate or held != needed:
                raise ProgramError(
                    f"it drains its sums: it may not accumulate, and buffer {self.dst} has {held} elements for its "
                    f"open lines, not {needed}"
                )
        if any(s == 0 and q > 1 for s, q in zip(self.windows.in_stride, self.windows.count, strict=True)):
            raise ProgramError("in_stride is 0 where several windows add to the same positions")
        if self.largest_sum(program) >= 1 << 63:
            raise ProgramError(f"{group.cols} columns with this arithmetic and these windows can exceed 63-bit sums")

    def accesses(self, program: Resources) -> tuple[Access, ...]:
        """Errors where its windows are, sums window by window; sums that are there already come and go."""
        group, windows = program.groups[self.group], self.window_total
        sums = elements_of(program, self.buffer_at("dst"))
        errors = Access(self.src, windows * group.matrices * group.cols, False)
        written = Access(self.dst, sums, True, windows * group.matrices * group.rows)
        if self.stores:
            return errors, Access(self.dst, sums, False), written, *self.drain_accesses(program, sums)
        return (errors, Access(self.dst, sums, False, 0), written) if self.accumulate else (errors, written)

    def largest_sum(self, program: Resources) -> int:
        """A bound on what it adds to one element of its destination."""
        group = program.groups[self.group]
        return group.arithmetic.largest_transposed_sum(group.cols) * self.windows.hits(self.input.shape[2:])

    def execute(self, machine: Machine) -> None:
        group = machine.program.groups[self.group]
        windows = self.windows
        shape = machine.program.buffers[self.buffer_at("dst")].shape
        buffer = np.zeros(shape, machine.sum_dtype) if self.stores else machine.writable(self.dst)
        if not self.accumulate:
            buffer[...] = 0
        source, target = self.output.view(machine.buffer(self.src)), self.input.view(buffer)
        step = max(1, CHUNK // (group.matrices * group.rows * windows.total))
        for n in range(0, len(source), step):
            errors = windows.gather_outputs(source[n : n + step], group.matrices)
            wide = target[n : n + step].astype(np.float64 if machine.ideal else np.int64)
            runs = [(n * windows.total, errors.shape[1])]
            windows.add_inputs(self.product(machine, errors, runs), wide, group.matrices, self.tap_fastest)
            target[n : n + step] = wide
        for result, value in self.drained(machine, buffer) if self.stores else ():
            machine.write(result, value)


@opcode
@dataclass(frozen=True)
class Outer(WindowedProduct):
    """The weight gradient of one group: inputs times errors, summed over all windows and samples in the gradient unit.

    `x` is what the MVM with the same `windows`, `tap_fastest`, `input` and `output` read, `dy` is laid out as what it
    wrote. The destination is [matrices, rows, cols]: entry (g, k, c) is the sum over windows of what row k of matrix g
    reads times the error of its column c. In `quantized` numerics the sum of the products of codes is exact, in int64:
    there is no ADC. In `float` numerics products and sums are float64, rounded once to float32.

    With `runs` > 0 the destination is real: the samples are cut into so many equal runs, each with one scale of x and
    one of dy, which the buffers `x_scale` and `dy_scale` hold (float32, one element or one for each sample; that of a
    run's first sample counts). The exact sum of a run is multiplied by the product of its scales, both products in
    float64, and rounded to float32; the runs are added in float32, one after the other, from 0 on. In `float` numerics
    scales have no effect. Without (`runs` 0, scales -1) the destination is an accumulator.
    """

    opcode: ClassVar[int] = 9
    mnemonic: ClassVar[str] = "outer"
    cost_class: ClassVar[str] = "gradient"
    stage: ClassVar = "backward"
    ends: ClassVar = ("x", "dy")

    x: int
    dy: int
    x_scale: int
    dy_scale: int
    runs: int
    dst: int

    def check(self, program: Resources) -> None:
        program.operand_of_kind("code", self.x)
        program.operand_of_kind("code", self.dy)
        destination = program.operand_of_kind("real" if self.runs else "acc", self.dst)
        shape = destination.shape
        if len(shape) != 3 or min(shape) < 1:
            raise ProgramError(f"the destination has shape {list(shape)}, [matrices, rows, cols] is expected")
        self.check_windows(program, *shape)
        if not self.runs:
            if (self.x_scale, self.dy_scale) != (-1, -1):
                raise ProgramError("scales without runs")
            return
        samples = self.input.shape[0]
        if self.runs < 0 or samples % self.runs:
            raise ProgramError(f"{samples} samples are no {self.runs} equal runs")
        if destination.dtype != np.float32:
            raise ProgramError(f"the destination is {destination}, float32 is expected")
        for index in (self.x_scale, self.dy_scale):
            scale = program.operand_of_kind("real", index)
            if scale.dtype != np.float32 or prod(scale.shape) not in (1, samples):
                raise ProgramError(f"a scale is {scale}, float32 of one element or {samples} is expected")

    def execute(self, machine: Machine) -> None:
        if machine.ideal or not self.runs:
            total = self._sum(machine, 0, self.input.shape[0])
            machine.write(self.dst, total.astype(np.float32) if machine.ideal else total)
            return
        each = self.input.shape[0] // self.runs
        real = np.zeros(machine.program.buffers[self.dst].shape, np.float32)
        for run, scale in enumerate(self.scales(machine.buffer(self.x_scale), machine.buffer(self.dy_scale))):
            real += (self._sum(machine, run * each, each).astype(np.float64) * scale).astype(np.float32)
        machine.write(self.dst, real)

    def _sum(self, machine: Machine, first: int, count: int) -> np.ndarray:
        """The sums [matrices, rows, cols] over some samples, int64, in `float` numerics float64."""
        matrices, rows, cols = machine.program.buffers[self.dst].shape
        windows, wide = self.windows, np.float64 if machine.ideal else np.int64
        x, dy = self.input.view(machine.buffer(self.x)), self.output.view(machine.buffer(self.dy))
        total = np.zeros((matrices, rows, cols), wide)
        step = max(1, CHUNK // (matrices * rows * windows.total))
        for n in range(first, first + count, step):
            some = slice(n, min(n + step, first + count))
            met = windows.gather_inputs(x[some], matrices, rows // windows.tap_total, self.tap_fastest)
            across, errors = met.transpose(0, 2, 1), windows.gather_outputs(dy[some], matrices)
            if machine.ideal:
                total += np.matmul(across.astype(np.float64), errors.astype(np.float64))
            else:
                total += integer_product(across, errors)
        return total

    def accesses(self, program: Resources) -> tuple[Access, ...]:
        """Inputs, gathered window by window, errors where its windows are; their scales and the sums as they are."""
        matrices, rows, cols = program.buffers[self.dst].shape
        windows = self.window_total * matrices
        met = {
            self.dy: Access(self.dy, windows * cols, False),
            self.x: Access(self.x, elements_of(program, self.x), False, windows * rows),
        }
        return tuple(a if a.writes else met.get(a.buffer, a) for a in super().accesses(program))

    def scales(self, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """float64 [runs]: the product of the scales of each run."""
        samples = self.input.shape[0]
        first, second = (np.broadcast_to(s.reshape(-1).astype(np.float64), (samples,)) for s in (x, dy))
        return (first * second)[:: samples // self.runs]

    def reads(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(b for b in (self.x, self.dy, self.x_scale, self.dy_scale) if b >= 0))

    def writes(self) -> tuple[int, ...]:
        return (self.dst,)


@opcode
@dataclass(frozen=True)
class Update(Instruction):
    """One step of an optimizer: new moments, and new weights into a crossbar group or a persistent buffer.

    `optimizer` and its hyper-parameters `hyper` are as in the text on optimizers. The target is crossbar group `group`
    or persistent buffer `parameter` (float32), the other is -1. `gradient` is a float32 buffer of the target's shape,
    [matrices, rows, cols] for a group; `moments` are persistent float32 buffers of that shape, in the optimizer's
    order, changed in place. `step` is an int64 buffer of one element that holds the number of this step, 1 for the
    first (-1: none, for an optimizer that does not count); UPDATE does not change it. New weights are clipped to
    [`lo`, `hi`] (-inf and inf: not at all).

    A group in `quantized` numerics: the weight is float32(int * weight_scale), the product in float64; the new integer
    is clip(rint(w' / weight_scale), -most, most), half to even, quotient in float64, most = 2^(Bw-1) - 1; it is written
    to the cells. In `device` numerics the old weight is found and the new one written as `mgc.isa.device` says, by
    verified writes or pulses. In `float` numerics the cells hold the float32 weight itself. A gradient, moment or
    weight that is not finite stops the run. Of an off-chip group the weights in off-chip memory are read and written,
    and no cells: what cells hold of them is stale.
    """

    opcode: ClassVar[int] = 10
    mnemonic: ClassVar[str] = "update"
    cost_class: ClassVar[str] = "write"
    learns: ClassVar[bool] = True

    optimizer: int
    hyper: tuple[float, ...]
    group: int
    parameter: int
    gradient: int
    moments: tuple[int, ...]
    step: int
    lo: float
    hi: float

    def check(self, program: Resources) -> None:
        found = optimizer(self.optimizer, self.hyper)
        if (self.group < 0) == (self.parameter < 0) or min(self.group, self.parameter) != -1:
            raise ProgramError(f"the target is group {self.group}, parameter {self.parameter}: one of them is expected")
        if self.group >= len(program.groups):
            raise ProgramError(f"group {self.group} does not exist; there are {len(program.groups)}")
        if self.group >= 0:
            group = program.groups[self.group]
            shape = (group.matrices, group.rows, group.cols)
            if not (isfinite(group.weight_scale) and group.weight_scale > 0):
                raise ProgramError(f"group {self.group} has weight scale {group.weight_scale}: it is not for training")
        else:
            shape = program.operand(0, self.parameter).shape
        names = found.moments(self.hyper)
        if len(self.moments) != len(names):
            raise ProgramError(f"{found.name} keeps {len(names)} moments, {len(self.moments)} buffers are given")
        kept = [self.parameter] * (self.parameter >= 0) + list(self.moments)
        if len({program.root(b) for b in kept}) != len(kept):
            raise ProgramError("moments and parameter must be different buffers")
        for index in (*kept, self.gradient):
            value = program.operand(0, index)
            if value.dtype != np.float32 or value.shape != shape or program.buffers[index].kind != "real":
                raise ProgramError(f"buffer {index} is {value}, real float32{list(shape)} is expected")
        for index in kept:
            if not program.buffers[index].persistent:
                raise ProgramError(f"buffer {index} is not persistent")
        counts = found.counts(self.hyper)
        if (self.step >= 0) != counts:
            raise ProgramError(f"{found.name} {'needs' if counts else 'takes no'} step buffer, not {self.step}")
        if self.step >= 0:
            value = program.operand(0, self.step)
            if value.dtype != np.int64 or prod(value.shape) != 1 or program.buffers[self.step].kind != "real":
                raise ProgramError(f"the step is {value}, one int64 is expected")
        if not self.lo <= self.hi:
            raise ProgramError(f"weights cannot be clipped to {self.lo}..{self.hi}")

    def subject(self, program: Resources) -> str:
        return program.groups[self.group].name if self.group >= 0 else program.buffers[self.parameter].name

    def execute(self, machine: Machine) -> None:
        program = machine.program
        gradient = machine.buffer(self.gradient)
        moments = [machine.buffer(b) for b in self.moments]
        step = int(machine.buffer(self.step).reshape(())) if self.step >= 0 else 0
        if self.step >= 0 and step < 1:
            raise ExecutionError(f"the number of the step is {step}; it counts from 1")
        if not np.isfinite(gradient).all():
            raise NotFiniteError(f"the gradient of {self.target(program)} is not finite")
        old = machine.real_weights(self.group) if self.group >= 0 else machine.buffer(self.parameter)
        new, kept = optimize(BY_CODE[self.optimizer], self.hyper, old, gradient, moments, step, (self.lo, self.hi))
        if not all(np.isfinite(value).all() for value in (new, *kept)):
            raise NotFiniteError(f"a new weight or moment of {self.target(program)} is not finite")
        for buffer, value in zip(self.moments, kept, strict=True):
            machine.write(buffer, value)
        if self.group >= 0:
            machine.write_real_weights(self.group, new, self.id)
        else:
            machine.write(self.parameter, new)

    def target(self, program: Resources) -> str:
        """What it changes, for messages: names of the states that live there, or of the group or buffer."""
        root = program.root(self.parameter) if self.parameter >= 0 else -1
        names = [
            s.name
            for s in program.states
            if any(p.group == self.group >= 0 or (p.buffer >= 0 and program.root(p.buffer) == root) for p in s.pieces)
        ]
        fallback = program.groups[self.group].name if self.group >= 0 else program.buffers[self.parameter].name
        return ", ".join(names) or fallback

    def reads(self) -> tuple[int, ...]:
        buffers = (self.gradient, *self.moments, self.parameter, self.step)
        return tuple(dict.fromkeys(b for b in buffers if b >= 0))

    def writes(self) -> tuple[int, ...]:
        return (*self.moments, *((self.parameter,) if self.parameter >= 0 else ()))

    def writes_groups(self) -> tuple[int, ...]:
        return (self.group,) if self.group >= 0 else ()

    def writes_cells(self, program: Resources) -> tuple[int, ...]:
        return tuple(g for g in self.writes_groups() if not program.groups[g].off_chip)

    def fetches(self, program: Resources) -> int:
        """Weights that lie off-chip, there and back."""
        held = program.groups[self.group] if self.group >= 0 else None
        return 2 * held.weight_bytes if held is not None and held.off_chip else 0
