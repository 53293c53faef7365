"""The reference engine: instruction by instruction, cell by cell. It defines what a program means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mgc.isa.dataflow import changing
from mgc.isa.device.state import Devices
from mgc.isa.error import ExecutionError
from mgc.isa.instructions import WriteCells
from mgc.isa.machine import Machine, Updates
from mgc.isa.program import Program
from mgc.sim.engine import EngineState, Numerics, failure, last_uses
from mgc.sim.host import HostSegments
from mgc.sim.states import state_groups


class ReferenceEngine:
    """Runs micro-batches one after the other through `Instruction.execute`; see `mgc.sim.engine.Engine`.

    `devices` are those of `device` numerics. threads: for the host's segments. `updates`, if given, is told what
    UPDATEs write.
    """

    chunk = 1

    def __init__(
        self,
        program: Program,
        numerics: Numerics,
        threads: int | None = None,
        devices: Devices | None = None,
        updates: Updates | None = None,
    ) -> None:
        self._program = program
        self._machine = Machine(program, numerics == "float", HostSegments(program, threads).run, devices, updates)
        self._trains = bool(changing(program))
        self._setup = [i for i in program.instructions if isinstance(i, WriteCells)]
        self._steps = [i for i in program.instructions if not isinstance(i, WriteCells)]
        touched = ((i.id, map(program.root, (*i.reads(), *i.writes()))) for i in program.instructions)
        self._dead = last_uses(touched)
        self._ready = False

    def run(self, batch: Mapping[str, Any], micro_batches: int, first: int = 0) -> dict[str, Any]:
        """See `mgc.sim.engine.Engine.run`."""
        kept, clock = self._set_up().kept(), self._clock
        try:
            results = [self._micro_batch(batch, k, first) for k in range(micro_batches)]
        except BaseException:
            self._machine.keep(kept)
            self._clock = clock
            raise
        outputs: dict[str, Any] = {}
        for n, port in enumerate(self._program.outputs):
            parts = [r[n] for r in results]
            outputs[port.name] = np.concatenate(parts) if port.batched and self._program.entry.batched else parts[0]
        return outputs

    def conductances(self) -> dict[int, np.ndarray]:
        """See `mgc.sim.engine.Engine.conductances`."""
        return self._set_up().cells if self._machine.devices is not None else {}

    def state(self) -> EngineState:
        """See `mgc.sim.engine.Engine.state`."""
        machine = self._set_up()
        groups = state_groups(self._program)
        weights = {group: np.array(machine.lasting(group), order="C") for group in groups}
        shapes = {root: self._program.buffers[root].shape for root in machine.persistent}
        buffers = {root: machine.persistent[root].reshape(s).copy() for root, s in shapes.items()}
        return EngineState(weights, buffers, self._clock)

    def restore(self, state: EngineState) -> None:
        """See `mgc.sim.engine.Engine.restore`."""
        machine = self._set_up()
        self._clock = state.clock
        for group, weights in state.weights.items():
            if machine.devices is None or group in machine.off_chip:
                machine.hold(group, np.array(weights))
            else:
                machine.cells[group] = np.array(weights)
        machine.persistent.update({root: np.array(array) for root, array in state.buffers.items()})

    @property
    def _clock(self) -> int:
        """The devices' clock."""
        return self._machine.devices.clock if self._machine.devices is not None else 0

    @_clock.setter
    def _clock(self, clock: int) -> None:
        if self._machine.devices is not None:
            self._machine.devices.clock = clock

    def _set_up(self) -> Machine:
        """The machine with its crossbars programmed."""
        if not self._ready:
            for instruction in self._setup:
                instruction.execute(self._machine)
            self._ready = True
        return self._machine

    def _micro_batch(self, batch: Mapping[str, Any], k: int, first: int) -> dict[int, Any]:
        inputs: dict[int, Any] = {}
        for n, port in enumerate(self._program.inputs):
            value = batch[port.name]
            if port.batched and self._program.entry.batched:
                value = value[k * port.shape[0] : (k + 1) * port.shape[0]]
            inputs[n] = value
        machine = self._machine
        machine.begin(inputs)
        if machine.devices is not None:
            machine.devices.run = self._clock if self._trains else first + k
        for instruction in self._steps:
            try:
                with np.errstate(all="ignore"):
                    instruction.execute(machine)
            except ExecutionError as error:
                raise failure(self._program, instruction, error) from error
            for root in self._dead.get(instruction.id, ()):
                machine.forget(root)
        self._clock += self._trains
        return machine.outputs
