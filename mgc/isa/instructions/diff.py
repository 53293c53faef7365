"""DIFF: the diff-block."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, prod
from typing import ClassVar

import numpy as np

from mgc.functions.losses import TABULATED
from mgc.isa.diffblock import (
    EXACT_COLUMNS,
    FUNCTIONS,
    PAIRINGS,
    TABLE_ROWS,
    WITH_TABLE,
    WITH_TARGET,
    Block,
    EvenTable,
)
from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction, opcode
from mgc.isa.machine import Machine
from mgc.isa.memory import BUFFER, CONSTANT, Ref
from mgc.isa.resources import Resources


@opcode
@dataclass(frozen=True)
class Diff(Instruction):
    """A branch of a loss and its error deltas from scores; the arithmetic is stated under the diff-block.

    `function` and `pairing` are its codes; `scores` are a, and b for a pairing. `targets` holds the operand with a
    target for each score, or nothing: then `target` is that of all. `loss` is the buffer of the loss (one element),
    `deltas` those of the errors, one for each entry of `scores` and of its shape; -1 where a result is not wanted.
    `table` is the constant with the tables in `quantized` numerics, float32 [4, n] on segments of width `step` from
    `lo` on; `exact` that of a tabulated function in `float` numerics, float64 [n, 5] with ascending left ends. Both
    are empty where the function has none. `value_error` and `slope_error` state how far the tables of `quantized`
    numerics are from the functions at any score between `low` and `high`, before scaling, relative where a value is
    above 1; they are proven by the compiler and have no effect.
    """

    opcode: ClassVar[int] = 11
    mnemonic: ClassVar[str] = "diff"
    cost_class: ClassVar[str] = "diff"
    stage: ClassVar = "loss"

    function: int
    pairing: int
    sign: int
    target: float
    scale: float
    scores: tuple[Ref, ...]
    targets: tuple[Ref, ...]
    loss: int
    deltas: tuple[int, ...]
    table: tuple[Ref, ...]
    lo: float
    step: float
    exact: tuple[Ref, ...]
    low: float
    high: float
    value_error: float
    slope_error: float

    def check(self, program: Resources) -> None:
        if self.function not in FUNCTIONS:
            raise ProgramError(f"loss function {self.function} is unknown; there are {FUNCTIONS}")
        if not 0 <= self.pairing < len(PAIRINGS):
            raise ProgramError(f"pairing {self.pairing} is unknown; there are 0..{len(PAIRINGS) - 1}")
        function, pairing = FUNCTIONS[self.function], PAIRINGS[self.pairing]
        if self.sign not in (1, -1):
            raise ProgramError(f"sign is {self.sign}, 1 or -1 is expected")
        numbers = (self.target, self.scale, self.low, self.high, self.value_error, self.slope_error)
        if not all(isfinite(x) for x in numbers) or abs(self.target) > _MOST or abs(self.scale) > _MOST:
            raise ProgramError(f"target {self.target}, scale {self.scale} or a bound is not a finite float32")
        count = 1 if pairing == "single" else 2
        if len(self.scores) != count or len(self.deltas) != count or len(self.targets) > 1:
            raise ProgramError(f"{pairing}: {count} scores, as many deltas and at most one target are expected")
        if self.targets and function not in WITH_TARGET:
            raise ProgramError(f"{function} has no target")
        a, *rest = (self._real(program, ref) for ref in (*self.scores, *self.targets))
        for ref, shape in zip((*self.scores[1:], *self.targets), rest, strict=True):
            if shape != a and not (pairing == "average" and ref is self.scores[1]):
                raise ProgramError(f"scores of shape {list(a)} with an operand of shape {list(shape)}")
        self._check_results(program)
        self._check_tables(program, function)

    @staticmethod
    def _real(program: Resources, ref: Ref) -> tuple[int, ...]:
        """The shape of an operand that holds float32 reals, at least one."""
        operand = program.operand(ref.space, ref.index)
        real = ref.space != BUFFER or program.buffers[ref.index].kind == "real"
        if not real or operand.dtype != np.float32 or prod(operand.shape) == 0:
            raise ProgramError(f"an operand is {operand}, float32 reals are expected")
        return operand.shape

    def _check_results(self, program: Resources) -> None:
        wanted = [b for b in (self.loss, *self.deltas) if b != -1]
        roots = {program.root(b) for b in wanted if 0 <= b < len(program.buffers)}
        if not wanted or len(roots) != len(wanted):
            raise ProgramError(f"results go to buffers {wanted}: at least one and different ones are expected")
        if self.loss != -1 and prod(self._real(program, Ref(BUFFER, self.loss))) != 1:
            raise ProgramError(f"the loss goes to buffer {self.loss}, which holds more than one element")
        for ref, delta in zip(self.scores, self.deltas, strict=True):
            scores = program.operand(ref.space, ref.index).shape
            if delta != -1 and self._real(program, Ref(BUFFER, delta)) != scores:
                raise ProgramError(f"buffer {delta} for the errors of scores {list(scores)} has another shape")

    def _check_tables(self, program: Resources, function: str) -> None:
        counts = len(self.table), len(self.exact)
        expected = int(function in WITH_TABLE), int(function == TABULATED)
        if counts != expected:
            raise ProgramError(f"{function} takes {expected[0]} even and {expected[1]} exact tables, not {counts}")
        for ref in self.table:
            data = self._constant(program, ref, np.float32)
            if data.ndim != 2 or data.shape[0] != TABLE_ROWS or data.shape[1] == 0:
                raise ProgramError(f"a table of shape {list(data.shape)}: [{TABLE_ROWS}, n] is expected")
            if not isfinite(self.lo) or not isfinite(self.step) or not 0 < float(np.float32(self.step)) < _MOST:
                raise ProgramError(f"a table from {self.lo} in steps of {self.step}")
        for ref in self.exact:
            data = self._constant(program, ref, np.float64)
            if data.ndim != 2 or data.shape[1] != EXACT_COLUMNS or len(data) == 0:
                raise ProgramError(f"an exact table of shape {list(data.shape)}: [n, {EXACT_COLUMNS}] is expected")
            if not (np.diff(data[:, 0]) > 0).all():
                raise ProgramError("the left ends of the exact table do not ascend")

    @staticmethod
    def _constant(program: Resources, ref: Ref, dtype: type[np.floating]) -> np.ndarray:
        if ref.space != CONSTANT:
            raise ProgramError("a table is a constant")
        program.operand(ref.space, ref.index)
        data = program.tensors[program.constants[ref.index].tensor]
        if data.dtype != dtype or not np.isfinite(data).all():
            raise ProgramError(f"a table of {data.dtype}: finite {np.dtype(dtype)} is expected")
        return data

    def block(self, program: Resources) -> Block:
        """The block as this instruction sets it."""
        tables = [program.tensors[program.constants[r.index].tensor] for r in (*self.exact, *self.table)]
        exact = tables[0] if self.exact else None
        even = EvenTable(tables[-1], self.lo, self.step) if self.table else None
        return Block(FUNCTIONS[self.function], PAIRINGS[self.pairing], self.sign, self.scale, exact, even)

    def execute(self, machine: Machine) -> None:
        a, *second = (machine.read(ref) for ref in self.scores)
        target = machine.read(self.targets[0]) if self.targets else self.target
        block = self.block(machine.program)
        loss, *deltas = block.run(a, second[0] if second else None, target, machine.ideal)
        if self.loss != -1:
            machine.write(self.loss, loss.reshape(machine.program.buffers[self.loss].shape))
        for buffer, delta in zip(self.deltas, deltas, strict=False):
            if buffer != -1:
                machine.write(buffer, delta)

    def deltas_written(self) -> tuple[int, ...]:
        return tuple(b for b in self.deltas if b != -1)

    def reads(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(r.index for r in (*self.scores, *self.targets) if r.space == BUFFER))

    def writes(self) -> tuple[int, ...]:
        return tuple(b for b in (self.loss, *self.deltas) if b != -1)


_MOST = float(np.finfo(np.float32).max)
