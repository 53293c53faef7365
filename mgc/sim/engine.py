"""What an engine is: something that runs micro-batches of one program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from mgc.isa.error import ExecutionError, NotFiniteError

Numerics = Literal["quantized", "float", "device"]


class SimulationError(ValueError):
    """A run that cannot be: wrong inputs, an unsupported request, data that the program cannot work on.

    The message says what, where and what to do.
    """


class DivergenceError(SimulationError):
    """Training met a gradient, weight or loss that is not finite; the message names it."""


def simulation_error(message: str, cause: ExecutionError) -> SimulationError:
    """The simulator's error for an instruction's."""
    return (DivergenceError if isinstance(cause, NotFiniteError) else SimulationError)(message)


class Engine(Protocol):
    """Runs micro-batches of one program. Made as `Engine(program, numerics, threads, seed)`, of a verified program.

    `threads` is the most threads to use, None for the engine's own choice. Whatever it is, results are the same.
    `seed` is that of the devices in `device` numerics.
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
        a result may not share memory with what a later `run` writes. Raises SimulationError.
        """
        ...


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


@runtime_checkable
class TrainingEngine(Engine, Protocol):
    """An engine that also runs programs with states. A `run` that raises leaves what it keeps as it was before."""

    def state(self) -> EngineState:
        """What it keeps now: at first, what the program says."""
        ...

    def restore(self, state: EngineState) -> None:
        """Keeps this from now on; the integers fit their cells."""
        ...
