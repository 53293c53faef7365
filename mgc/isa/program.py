"""The compiled program as one object: what a `.mgc` file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.dtypes import numpy_dtype
from mgc.isa.entry import Entry
from mgc.isa.error import ProgramError
from mgc.isa.functions.base import Operand
from mgc.isa.instruction import Instruction
from mgc.isa.memory import Buffer, Constant, HostSegment, Port
from mgc.isa.parts import part_of
from mgc.isa.schedule import Unit
from mgc.isa.state import State

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Program:
    """Instructions in id order, the memory map, crossbar groups, entries with their schedules, and every tensor.

    The PROGRAMs come first, then entry after entry; there is at least one. A cycle takes `clock_ns`. `sources` maps an
    instruction's source index to ONNX node names; `absorbed` says for every other node of the model why it has no
    instruction. `target` is the target description, `meta` what reports show (source hashes, costs; pass times are NOT
    here: a program's bytes depend on input and options only). `origin` is the file it was loaded from, if any; it is
    not part of the program. `states` are what entries for training keep from run to run, and what of one for testing
    can be replaced by trained values.
    """

    name: str
    target: Mapping[str, Any]
    instructions: tuple[Instruction, ...]
    buffers: tuple[Buffer, ...]
    constants: tuple[Constant, ...]
    groups: tuple[CrossbarGroup, ...]
    units: tuple[Unit, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    host_segments: tuple[HostSegment, ...]
    entries: tuple[Entry, ...]
    clock_ns: float
    sources: tuple[tuple[str, ...], ...]
    absorbed: Mapping[str, str]
    tensors: Mapping[str, np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)
    states: tuple[State, ...] = ()
    origin: str = field(default="", compare=False)

    @staticmethod
    def load(path: str | PathLike[str]) -> Program:
        """Reads and verifies an `.mgc` file. ProgramError for anything wrong with it, OSError if it is not there.

        Tensors are read-only views of the file, which should not be changed while the program is in use.
        """
        from mgc.isa.file import load

        return load(Path(path))

    def save(self, path: str | PathLike[str]) -> None:
        """Verifies, then writes an `.mgc` file, whole or not at all; equal programs give equal bytes.

        Raises ProgramError for a program that breaks a rule, OSError for a place that cannot be written.
        """
        from mgc.isa.file import save

        save(self, Path(path))

    @property
    def mode(self) -> str:
        """ "training" if it has an entry for it, else "inference"."""
        return "training" if any(e.kind == "train" for e in self.entries) else "inference"

    @property
    def entry(self) -> Entry:
        """The only entry. ProgramError where there are several: take the `part` of one."""
        if len(self.entries) != 1:
            names = ", ".join(e.name for e in self.entries)
            raise ProgramError(
                f"program {self.name} has entries that run on their own ({names}); take program.part(name)"
            )
        return self.entries[0]

    @property
    def iteration(self) -> tuple[Entry, ...]:
        """The entries that one run of the whole takes in turn: those for training, or else the first."""
        return tuple(e for e in self.entries if e.kind == "train") or self.entries[:1]

    @property
    def iteration_cycles(self) -> int:
        """Cycles of an iteration in a steady state: its entries as often as they run, each in its period."""
        return sum(e.repeats * e.schedule.period for e in self.iteration)

    @property
    def iteration_bound(self) -> int:
        """The proven lower bound of `iteration_cycles`."""
        return sum(e.repeats * e.schedule.lower_bound for e in self.iteration)

    def part(self, entry: str) -> Program:
        """One entry as a program of its own, with numbers of buffers, groups and states as here.

        That of a program with one entry is the program. Raises ProgramError for an entry that there is not.
        """
        for each in self.entries:
            if each.name == entry:
                return self if len(self.entries) == 1 else part_of(self, each)
        raise ProgramError(f"entry {entry!r} does not exist; there are {', '.join(e.name for e in self.entries)}")

    def root(self, buffer: int) -> int:
        """The buffer whose bytes a buffer stands for: itself, or what it is an alias of."""
        while self.buffers[buffer].alias_of >= 0:
            buffer = self.buffers[buffer].alias_of
        return buffer

    def operand(self, space: int, index: int) -> Operand:
        """Element type (in `quantized` numerics) and shape of a buffer (space 0) or constant (space 1).

        Raises ProgramError for another space, an index out of range, or an opaque buffer.
        """
        if space == 0:
            if not 0 <= index < len(self.buffers):
                raise ProgramError(f"buffer {index} does not exist; there are {len(self.buffers)}")
            buffer = self.buffers[index]
            if buffer.kind == "opaque":
                raise ProgramError(f"buffer {buffer.name} is opaque: only host segments, LOAD and STORE may touch it")
            return Operand(numpy_dtype(buffer.dtype), buffer.shape)
        if space == 1:
            if not 0 <= index < len(self.constants):
                raise ProgramError(f"constant {index} does not exist; there are {len(self.constants)}")
            tensor = self.tensors[self.constants[index].tensor]
            return Operand(tensor.dtype, tensor.shape)
        raise ProgramError(f"operand space {space} is not a buffer (0) or a constant (1)")

    def verify(self) -> None:
        """Checks every rule that can be checked without running. Raises ProgramError: what, where, what is expected.

        A program that passes never reads or writes outside its buffers, whatever its inputs are.
        """
        from mgc.isa.verify import verify

        verify(self)
