"""The compiled program as one object: what a `.mgc` file holds."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Self

from mgc.isa import file
from mgc.isa.error import ProgramError
from mgc.isa.parts import part_of
from mgc.isa.tables import Tables
from mgc.isa.verify import verify


@dataclass(frozen=True, kw_only=True, repr=False)
class Program(Tables):
    """Instructions, entries with their schedules, memory, crossbars and every tensor; see `Tables` and `Resources`."""

    def __repr__(self) -> str:
        crossbars = len({c for g in self.groups for c in g.crossbars})
        return (
            f"<{self.mode} program {self.name!r} for {self.target.get('name', 'an unnamed target')}: "
            f"{len(self.instructions)} instructions, {crossbars} crossbars, {self.iteration_cycles} cycles>"
        )

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Reads and verifies an `.mgc` file. ProgramError for anything wrong with it, OSError if it is not there.

        Tensors are read-only. Those of a file above 256 MiB are views of it: one that is made shorter while the
        program is in use ends the process (SIGBUS).
        """
        return cls(**vars(file.load(Path(path))))

    def save(self, path: str | PathLike[str]) -> None:
        """Verifies, then writes an `.mgc` file, whole or not at all; equal programs give equal bytes.

        Raises ProgramError for a program that breaks a rule, OSError for a place that cannot be written.
        """
        file.save(self, Path(path))

    def part(self, entry: str) -> Program:
        """One entry as a program of its own, with numbers of buffers, groups and states as here.

        That of a program with one entry is the program. Raises ProgramError for an entry that there is not.
        """
        for each in self.entries:
            if each.name == entry:
                return part_of(self, each)
        raise ProgramError(f"entry {entry!r} does not exist; there are {', '.join(e.name for e in self.entries)}")

    def verify(self) -> None:
        """Checks every rule that can be checked without running. Raises ProgramError: what, where, what is expected.

        A program that passes never reads or writes outside its buffers, whatever its inputs are.
        """
        verify(self)
