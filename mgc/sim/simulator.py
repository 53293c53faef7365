"""The simulator: any number of samples through an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from mgc.isa.dataflow import changing
from mgc.isa.device.state import Devices
from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ExecutionError, ProgramError
from mgc.isa.memory import Port
from mgc.isa.program import Program
from mgc.sim.engine import DivergenceError, Engine, Numerics, SimulationError, simulation_error
from mgc.sim.exactness import Cells, exact_columns, exact_rows
from mgc.sim.inputs import check_inputs
from mgc.sim.reference import ReferenceEngine
from mgc.sim.states import device_names, initial_states, read_states, write_states

EngineName = Literal["fast", "reference"]
Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


class Simulator:
    """Runs a program. Raises ProgramError for a program that breaks a rule, SimulationError for a bad request.

    engine: "fast", or "reference" (slow, the definition); their results are equal bit for bit but in `float`. numerics:
    "quantized" (the crossbars' own arithmetic), "device" (with the errors of the target's cells, drawn by seed) or
    "float" (ideal real arithmetic). threads: the most to use.
    """

    def __init__(
        self,
        program: Program,
        engine: EngineName = "fast",
        numerics: Numerics = "quantized",
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        if numerics not in ("quantized", "device", "float"):
            raise SimulationError(f"numerics {numerics!r} is unknown; use quantized, device or float")
        if threads is not None and threads < 1:
            raise SimulationError(f"threads is {threads}; use 1 or more")
        program.verify()
        if len(program.entries) > 1:
            names = ", ".join(e.name for e in program.entries)
            raise SimulationError(
                f"program {program.name} has entries that run on their own ({names}); simulate program.part(name)"
            )
        self.program = program
        self._numerics: Numerics = numerics
        if engine not in ("fast", "reference"):
            raise SimulationError(f"engine {engine!r} is unknown; use fast or reference")
        self._devices = _devices(program, engine, seed, threads) if numerics == "device" else None
        self._engine = _engine(program, engine, numerics, threads, self._devices)
        self._base = initial_states(program)

    @property
    def exact_columns(self) -> float:
        """The fraction of logical columns that the ADCs are proven to compute without loss; 1.0 with none.

        Of the weights as they are now: training may move a column across the line.
        """
        return exact_columns(self.program, self._integers(), self._disturbance())

    @property
    def exact_rows(self) -> float:
        """The same of rows in transposed reads; 1.0 with none."""
        return exact_rows(self.program, self._integers(), self._disturbance())

    def _integers(self) -> Mapping[int, np.ndarray] | None:
        """The integer weights of the groups that states live in; None if they are the program's own."""
        if self._numerics == "float":
            return None
        weights = self._engine.state().weights
        if self._devices is not None:
            ranges = {group: self.program.groups[group].arithmetic.weight_range for group in weights}
            return {g: np.clip(self._devices.found(g, cells), *ranges[g]) for g, cells in weights.items()}
        return weights

    def _disturbance(self) -> Cells | None:
        """What devices do to reads, in `device` numerics."""
        devices, cells = self._devices, self._engine.conductances()
        if devices is None:
            return None
        return lambda g, weights, signed, transposed: devices.undisturbed(g, cells[g], weights, signed, transposed)

    def run(self, inputs: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """Outputs under their names, in the ports' dtypes, for inputs under theirs.

        A batched program takes n samples along axis 0 and gives exactly n; any other takes the ports' exact shapes.
        Raises SimulationError for wrong inputs.
        """
        program = self.program
        checked, samples = check_inputs(program, inputs)
        if not program.entry.batched:
            outputs = self._run(checked, 1)
            if progress:
                progress(1, 1)
            return outputs
        if samples == 0:
            return {p.name: np.zeros(_whole_shape(program, p, 0), numpy_dtype(p.dtype)) for p in program.outputs}
        micro = program.entry.micro_batch
        needed = -(-samples // micro)
        parts: dict[str, list[np.ndarray]] = {p.name: [] for p in program.outputs}
        for start in range(0, needed, self._engine.chunk):
            count = min(self._engine.chunk, needed - start)
            batch = {p.name: _micro_batches(program, p, checked[p.name], start, count) for p in program.inputs}
            for name, value in self._run(batch, count, start).items():
                parts[name].append(value)
            if progress:
                progress(min((start + count) * micro, samples), samples)
        result: dict[str, Any] = {}
        for port in program.outputs:
            if port.batched:
                rows = samples * (port.shape[0] // micro)
                value = parts[port.name][0] if len(parts[port.name]) == 1 else np.concatenate(parts[port.name])
                result[port.name] = value[:rows]
            else:
                result[port.name] = parts[port.name][0]
        return result

    def run_iteration(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """One iteration of a training program: its outputs (losses) under their names; the states move on.

        Raises SimulationError for a program that does not train or wrong inputs, DivergenceError for a value that is
        not finite where training cannot go on: a gradient, a new weight (the states then stay as they were before) or
        a loss.
        """
        if not changing(self.program):
            raise SimulationError(f"program {self.program.name} changes no state, so there is nothing to train")
        outputs = self.run(inputs)
        for name, value in outputs.items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                raise DivergenceError(f"output {name} is not finite ({value.reshape(-1)[:4].tolist()})")
        return outputs

    def states(self) -> dict[str, np.ndarray]:
        """What the program keeps from run to run, under its names: a copy of each, in the model's own shape.

        Element types are those of the chip (float32, int64). A weight in a crossbar is what it stands for: its integer
        times the weight scale of its group, in `float` numerics the real weight, in `device` numerics what its cells
        stand for; there the cells themselves and their clock are told as well. Empty for a program without states.
        """
        if not self._base:
            return {}
        return read_states(self.program, self._numerics, self._engine.state(), self._base)

    @property
    def state_names(self) -> list[str]:
        """The names of what `states` gives."""
        names = [s.name for s in self.program.states]
        return names + device_names(self.program) if self._devices is not None else names

    def load_states(self, states: Mapping[str, np.ndarray]) -> None:
        """Replaces every state; what `states` gave comes back to the same bits, integers of crossbars included.

        In `device` numerics the cells may be left out: then they are written anew, with errors of their own. Raises
        SimulationError (and changes nothing) for names, shapes or element types that are not the program's.
        """
        kept = self._engine.state()
        self._engine.restore(write_states(self.program, self._numerics, kept, states, self._devices))
        self._base = {name: np.array(states[name], order="C") for name in self._base}

    def _run(self, batch: Mapping[str, Any], micro_batches: int, first: int = 0) -> dict[str, Any]:
        try:
            return self._engine.run(batch, micro_batches, first)
        except ExecutionError as error:
            raise simulation_error(str(error), error) from error


def _devices(program: Program, engine: EngineName, seed: int, threads: int | None) -> Devices:
    """The devices of a program. SimulationError where its target says nothing, or nonsense, of them."""
    try:
        if engine == "reference":
            return Devices(program, seed)
        from mgc.sim.fast.devices import FastDevices

        return FastDevices(program, seed, threads)
    except ProgramError as error:
        raise SimulationError(f"{program.name}: {error}; compile it again, for a target that has one") from error


def _engine(
    program: Program, name: EngineName, numerics: Numerics, threads: int | None, devices: Devices | None
) -> Engine:
    if name == "reference" or devices is not None:  # with devices nearly all work is in their reads
        return ReferenceEngine(program, numerics, threads, devices)
    from mgc.sim.fast import FastEngine

    return FastEngine(program, numerics, threads)


def _whole_shape(program: Program, port: Port, samples: int) -> tuple[int, ...]:
    if not port.batched:
        return port.shape
    return (samples * (port.shape[0] // program.entry.micro_batch), *port.shape[1:])


def _micro_batches(program: Program, port: Port, value: Any, start: int, count: int) -> Any:
    """The rows of `count` micro-batches from number `start`; the last sample is repeated to fill the last one."""
    if not port.batched:
        return value
    rows = port.shape[0]
    part = value[start * rows : (start + count) * rows]
    short = count * rows - len(part)
    if short:
        each = rows // program.entry.micro_batch
        part = np.concatenate([part, *[value[-each:]] * (short // each)])
    return part
