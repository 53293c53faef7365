"""Devices whose reads run as large products, on several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mgc.isa.device.reads import Runs, planes_of
from mgc.isa.device.state import Devices
from mgc.isa.program import Program
from mgc.sim.engine import available_threads
from mgc.sim.fast.device_reads import Reader, reader


class FastDevices(Devices):
    """`Devices` with the reads of `mgc.sim.fast.device_reads`: the same bits, on `threads` threads.

    What is made of a group's conductances is kept until they are replaced.
    """

    def __init__(self, program: Program, seed: int, changes: bool, threads: int | None = None) -> None:
        super().__init__(program, seed, changes)
        threads = threads or available_threads()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mgc-device") if threads > 1 else None
        self._readers: dict[tuple[int, bool, bool], tuple[np.ndarray, list[Reader]]] = {}

    def sums(
        self,
        group: int,
        instruction: int,
        codes: np.ndarray,
        conductances: np.ndarray,
        signed: bool,
        runs: Runs,
        transposed: bool,
    ) -> np.ndarray:
        """See `Devices.sums`."""
        each = enumerate(zip(self._made(group, conductances, signed, transposed), codes, strict=True))
        return np.stack([r.read(x, self.noise(instruction, matrix), runs, self._pool) for matrix, (r, x) in each])

    def _made(self, group: int, conductances: np.ndarray, signed: bool, transposed: bool) -> list[Reader]:
        """One reader for each matrix."""
        key = group, signed, transposed
        held = self._readers.get(key)
        if held is None or held[0] is not conductances:
            cells, arithmetic, noise = self.cells(group), self.arithmetic(group), self.model.noise_bound
            planes = [planes_of(matrix, arithmetic, signed, transposed) for matrix in self.read(group, conductances)]
            readers = [reader(each, cells, arithmetic, signed, noise) for each in planes]
            held = self._readers[key] = conductances, readers
        return held[1]
