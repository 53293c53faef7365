"""What a pass is, and the manager that runs passes in order, verifies, times and dumps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import ClassVar

from mgc.ir.module import Entry
from mgc.ir.op import IRError
from mgc.ir.verifier import Inferred, verify
from mgc.passes.state import CompileState, Exporter, Runner, Tools, UnsupportedError

__all__ = [
    "CompileState",
    "Exporter",
    "Pass",
    "PassError",
    "PassManager",
    "PassRecord",
    "Runner",
    "Tools",
    "UnsupportedError",
]


class PassError(IRError):
    """A pass left a graph that the verifier refuses: a defect of the pass, named in the message."""


@dataclass(frozen=True)
class Pass:
    """Base of all passes: a frozen dataclass; its fields are its options, its docstring is its contract.

    `name` is kebab-case; `levels` are the levels of the ops in the graphs that it leaves. A pass that works on one
    entry at a time gives `run_entry`, any other one `run`.
    """

    name: ClassVar[str] = ""
    levels: ClassVar[tuple[int, ...]] = (1,)

    def __str__(self) -> str:
        """Its text, as `mgc.passes.registry` reads it: the name, and options that differ from their default."""
        given = [(f.name, getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default]
        options = ",".join(f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in given)
        return f"{self.name}{{{options}}}" if options else self.name

    def run(self, state: CompileState) -> CompileState:
        """The state after this pass. The graphs of `state` itself stay as they are."""
        return state.with_entries([self.run_entry(entry, state) for entry in state.module.entries])

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        """An entry after this pass."""
        raise TypeError(f"{type(self).__name__} has no run method")


@dataclass(frozen=True)
class PassRecord:
    """One pass that ran, and how long it took in wall-clock seconds (verifier and dump not included)."""

    name: str
    seconds: float


Dump = Callable[[CompileState, int, str, Sequence[Pass]], None]
"""Writes a stage: the state, its number, the pass that made it and the passes that come later."""


@dataclass
class PassManager:
    """Runs passes in order; verifies after each, times each, and hands each stage to `dump` if given.

    `before` names the steps that made the first module ("import"); stages are numbered after those.
    """

    passes: Sequence[Pass]
    dump: Dump | None = None
    before: Sequence[str] = ()
    records: list[PassRecord] = field(default_factory=list)

    def run(self, state: CompileState, progress: Callable[[str, int], None] | None = None) -> CompileState:
        """The state after all passes. PassError, naming the pass and those before it, where a graph fails to verify.

        `progress` is called before each pass with its name and how many are done.
        """
        ran = list(self.before)
        inferred: Inferred = {}
        for number, pass_ in enumerate(self.passes):
            if progress is not None:
                progress(pass_.name, number)
            begin = time.perf_counter()
            state = pass_.run(state)
            self.records.append(PassRecord(pass_.name, time.perf_counter() - begin))
            if self.dump is not None:
                self.dump(state, number + len(self.before) + 1, pass_.name, self.passes[number + 1 :])
            _verify(state, pass_, ran, inferred)
            ran.append(pass_.name)
        return state


def _verify(state: CompileState, pass_: Pass, ran: Sequence[str], inferred: Inferred) -> None:
    for entry in state.module.entries:
        try:
            verify(entry.graph, levels=pass_.levels, inferred=inferred)
        except IRError as error:
            where = f" of entry {entry.name}" if len(state.module.entries) > 1 else ""
            history = f"passes before it: {', '.join(ran)}" if ran else "it was the first pass"
            raise PassError(
                f"pass {pass_.name} left a graph{where} that does not verify: {error} ({history})"
            ) from error
