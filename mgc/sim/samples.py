"""Any number of samples through an engine: one entry, micro-batch after micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mgc.isa.dataflow import changing
from mgc.isa.device.state import Devices
from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ExecutionError
from mgc.isa.machine import Updates
from mgc.isa.memory import Port
from mgc.isa.program import Program
from mgc.sim.engine import Engine, simulation_error
from mgc.sim.inputs import check_inputs

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


@dataclass
class EntrySimulation:
    """A program of one entry and the engine that runs it; `devices` in `device` numerics."""

    program: Program
    engine: Engine
    devices: Devices | None
    updates: Updates | None = None
    """What the engine tells of UPDATEs."""
    ran: Callable[[str, Updates, int], None] | None = None
    """Called after micro-batches with the entry's name, their UPDATEs and number, if `updates` is given."""

    @cached_property
    def changes(self) -> bool:
        """Whether a run changes states."""
        return bool(changing(self.program))

    def samples(self, inputs: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """See `mgc.sim.simulator.Simulator.run`."""
        program, entry = self.program, self.program.entry
        checked, samples = check_inputs(program, inputs)
        if not entry.batched:
            outputs = self._run(checked, 1, 0)
            if progress:
                progress(1, 1)
            return outputs
        if samples == 0:
            shapes = [(0, *p.shape[1:]) if p.batched else p.shape for p in program.outputs]
            return {p.name: np.zeros(s, numpy_dtype(p.dtype)) for p, s in zip(program.outputs, shapes, strict=True)}
        micro = entry.micro_batch
        needed, chunk = -(-samples // micro), self.engine.chunk
        runs: list[dict[str, Any]] = []
        for start in range(0, needed, chunk):
            count = min(chunk, needed - start)
            batch = {p.name: self._micro_batches(p, checked[p.name], start, count) for p in program.inputs}
            runs.append(self._run(batch, count, start))
            if progress:
                progress(min((start + count) * micro, samples), samples)
        if len(runs) == 1 and needed * micro == samples:
            return runs[0]
        result: dict[str, Any] = {}
        for port in program.outputs:
            values = [r[port.name] for r in runs]
            if port.batched:
                result[port.name] = np.concatenate(values)[: samples * (port.shape[0] // micro)]
            else:
                result[port.name] = values[0]
        return result

    def _run(self, batch: Mapping[str, Any], micro_batches: int, first: int) -> dict[str, Any]:
        try:
            outputs = self.engine.run(batch, micro_batches, first)
        except ExecutionError as error:
            raise simulation_error(str(error), error) from error
        if self.updates is not None and self.ran is not None:
            self.ran(self.program.entry.name, dict(self.updates), micro_batches)
        return outputs

    def _micro_batches(self, port: Port, value: Any, start: int, count: int) -> Any:
        """The rows of `count` micro-batches from number `start`; the last sample is repeated to fill the last one."""
        if not port.batched:
            return value
        rows = port.shape[0]
        part = value[start * rows : (start + count) * rows]
        short = count * rows - len(part)
        if short:
            each = rows // self.program.entry.micro_batch
            part = np.concatenate([part, *[value[-each:]] * (short // each)])
        return part
