"""What an engine is: something that runs micro-batches of one program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from mgc.isa.error import ExecutionError, NotFiniteError
from mgc.isa.instruction import Instruction
from mgc.isa.program import Program

Numerics = Literal["quantized", "float", "device"]


class SimulationError(ValueError):
    """A run that cannot be: wrong inputs, an unsupported request, data that the program cannot work on.

    The message says what, where and what to do.
    """


class DivergenceError(SimulationError):
    """Training met a gradient, weight or loss that is not finite; the message names it.

    `undone`: the states are what they were before the iteration.
    """

    def __init__(self, message: str, undone: bool = True) -> None:
        super().__init__(message)
        self.undone = undone


def available_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def last_uses(touched: Iterable[tuple[int, Iterable[int]]]) -> dict[int, list[int]]:
    """Step -> what no later one touches, from (step, what it touches) in order."""
    last = {thing: step for step, things in touched for thing in things}
    ended: dict[int, list[int]] = {}
    for thing, step in last.items():
        ended.setdefault(step, []).append(thing)
    return ended


def simulation_error(message: str, cause: ExecutionError) -> SimulationError:
    """The simulator's error for an instruction's."""
    return (DivergenceError if isinstance(cause, NotFiniteError) else SimulationError)(message)


def failure(program: Program, instruction: Instruction, error: ExecutionError) -> SimulationError:
    """The simulator's error for one of an instruction, which it names with the nodes that it computes."""
    nodes = program.sources[instruction.source] if instruction.source >= 0 else ()
    source = f", which computes {', '.join(nodes)}" if nodes else ""
    return simulation_error(f"instruction {instruction.id} ({instruction.mnemonic}){source}: {error}", error)


@dataclass(frozen=True)
class EngineState:
    """What an engine keeps from run to run, for the crossbar groups and persistent buffers that states live in.

    `weights` maps a group to its weights [matrices, rows, cols]: integers, in `float` numerics float32; in `device`
    numerics to the conductances of its cells (`mgc.isa.device`). `buffers` maps a persistent root buffer to its array,
    in its own shape. Arrays are C-contiguous and the receiver's own. `clock` counts the runs of a program that changes
    its states in `device` numerics.
    """

    weights: dict[int, np.ndarray]
    buffers: dict[int, np.ndarray]
    clock: int = 0


class Engine(Protocol):
    """Runs micro-batches of one program in one numerics, and holds its states. The program is verified.

    Whatever the number of threads that it may use, results are the same.
    """

    @property
    def chunk(self) -> int:
        """The most micro-batches to hand to one `run`; memory grows with it, so it should not exceed what pays."""
        ...

    def run(self, batch: Mapping[str, Any], micro_batches: int, first: int = 0) -> dict[str, Any]:
        """Runs k = `micro_batches` >= 1 micro-batches at once, of numbers `first` .. in what is asked for.

        `batch` holds every input port under its name: C-contiguous, in the port's dtype; axis 0 of a `batched` port
        is k times the port's, micro-batch after micro-batch; any other port has the port's shape. An opaque port's
        value is a Python object. The result holds every output port in the same way. Inputs are not to be changed, and
        a result may not share memory with what a later `run` writes. A `run` that raises SimulationError, or is
        interrupted, leaves the states as they were before.
        """
        ...

    def state(self) -> EngineState:
        """The states now: at first, what the program says. Empty for a program without any."""
        ...

    def restore(self, state: EngineState) -> None:
        """Holds these states from now on; the integers fit their cells."""
        ...

    def conductances(self) -> dict[int, np.ndarray]:
        """Group -> the conductances of its cells now, in `device` numerics; empty in others."""
        ...
