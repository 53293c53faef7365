"""The fast engine of `device` numerics."""

from __future__ import annotations

import os

from mgc.isa.program import Program
from mgc.sim.engine import Numerics
from mgc.sim.fast.devices import FastDevices
from mgc.sim.reference import ReferenceEngine


class FastDeviceEngine(ReferenceEngine):
    """Runs micro-batches as the reference does, with every read of a crossbar in large products on several threads.

    Reads are nearly all of the work: every converter of every digit rounds by itself. See `mgc.sim.engine.Engine`.
    """

    def __init__(self, program: Program, numerics: Numerics, threads: int | None = None, seed: int = 0) -> None:
        super().__init__(program, numerics, threads, seed)
        self._machine.devices = FastDevices(program, seed, threads or _available())


def _available() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
