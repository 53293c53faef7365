"""Kernels: vector functions on registers, and where results go. VEC runs one, a read may run one on its sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.functions import Operand, evaluate, function, infer
from mgc.isa.functions.binary import BINARY
from mgc.isa.functions.unary import UNARY
from mgc.isa.machine import Machine
from mgc.isa.memory import BUFFER, REGISTER, Ref
from mgc.isa.resources import Resources

POINTWISE = frozenset(f.name for f in (*UNARY, *BINARY)) | {
    "where", "cast", "lookup", "quant", "dequant", "quant_by", "dequant_by"
}  # fmt: skip
"""Functions each element of whose result depends on the elements of its operands that are at the same place."""


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


def type_of(program: Resources, ref: Ref, registers: Sequence[Operand]) -> Operand:
    """Element type and shape of an operand. Raises ProgramError."""
    if ref.space != REGISTER:
        return program.operand(ref.space, ref.index)
    if not 0 <= ref.index < len(registers):
        raise ProgramError(f"register {ref.index} is not set yet; {len(registers)} are")
    return registers[ref.index]


def register_types(program: Resources, steps: Sequence[Step], first: Sequence[Operand] = ()) -> list[Operand]:
    """Element type and shape of each register in `quantized` numerics, `first` those that are set before. Raises
    ProgramError.
    """
    types = list(first)
    for k, step in enumerate(steps):
        try:
            types.append(infer(step.function, [type_of(program, r, types) for r in step.args], step.attributes))
        except ProgramError as error:
            raise ProgramError(f"step {k}: {error}") from error
    return types


def check_stores(program: Resources, stores: Sequence[Result], registers: Sequence[Operand]) -> None:
    """Raises ProgramError unless each value stored has the element type and shape of its buffer."""
    for store in stores:
        value, buffer = type_of(program, store.value, registers), program.operand(BUFFER, store.dst)
        if value != buffer:
            raise ProgramError(f"a value {value} is stored to buffer {store.dst}, which is {buffer}")


def run_steps(machine: Machine, steps: Sequence[Step], first: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """All registers after the steps, `first` those that are set before."""
    registers = list(first)
    for step in steps:
        args = [machine.read(ref, registers) for ref in step.args]
        registers.append(evaluate(step.function, args, step.attributes, machine.ideal))
    return registers


def buffers_read(steps: Sequence[Step], stores: Iterable[Result]) -> tuple[int, ...]:
    """Ids of the buffers that a kernel reads, each once."""
    refs = [r for s in steps for r in s.args] + [s.value for s in stores]
    return tuple(dict.fromkeys(r.index for r in refs if r.space == BUFFER))
