"""A program on the simulator as a trainee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from mgc.isa.dtypes import numpy_dtype
from mgc.isa.program import Program
from mgc.sim.engine import DivergenceError, Numerics, SimulationError
from mgc.sim.simulator import EngineName, Simulator
from mgc.training.entries import iteration_of, roles_of
from mgc.training.errors import NotFinite, TrainingError
from mgc.training.identity import program_hash
from mgc.training.trainee import TraineeInput


class SimulatedTrainee:
    """Trains a program, segment by segment; see `mgc.training.trainee.Trainee`.

    `seed` is that of the devices in `device` numerics. Raises TrainingError for a program that does not train,
    SimulationError for what the simulator cannot do.
    """

    def __init__(
        self,
        program: Program,
        engine: EngineName = "fast",
        numerics: Numerics = "quantized",
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        self.program = program
        segments = iteration_of(program)
        self._simulators = [(Simulator(s.program, engine, numerics, threads, seed), s.repeats) for s in segments]
        self.batches = sum(repeats for _, repeats in self._simulators)
        roles = roles_of(program)
        ports = {port.name: port for simulator, _ in self._simulators for port in simulator.program.inputs}
        self.inputs: Sequence[TraineeInput] = tuple(
            TraineeInput(p.name, p.shape, numpy_dtype(p.dtype), roles.get(p.name, "")) for p in ports.values()
        )
        self.losses: Sequence[str] = tuple(dict.fromkeys(p.name for s in segments for p in s.program.outputs))
        self.identity: Mapping[str, str] = {"program": program_hash(program), "numerics": numerics}
        if numerics == "device":
            self.identity = {**self.identity, "seed": str(seed)}  # of the devices
        self._at = self._simulators[-1][0]  # holds the current states
        self._whole = program_states(self._simulators)

    def step(self, batches: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, float]:
        """Runs the segments in order; a loss is reported as the last segment that has it saw it.

        NotFinite leaves the states as they were, but where all that is not finite is a loss of a single segment.
        """
        if self.batches == 1:
            return self._step(batches)
        before = self.state()
        try:
            return self._step(batches)
        except NotFinite as error:
            self.restore(before)
            raise NotFinite(str(error), undone=True) from error

    def _step(self, batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
        losses: dict[str, float] = {}
        remaining = iter(batches)
        for simulator, repeats in self._simulators:
            self._move_to(simulator)
            names = [port.name for port in simulator.program.inputs]
            for _ in range(repeats):
                feeds = next(remaining)
                losses |= self._run(simulator, {name: feeds[name] for name in names})
        return losses

    def _run(self, simulator: Simulator, feeds: Mapping[str, Any]) -> dict[str, float]:
        try:
            outputs = simulator.run(feeds)
        except DivergenceError as error:
            raise NotFinite(str(error), undone=True) from error
        losses = {name: float(np.asarray(value).reshape(-1)[0]) for name, value in outputs.items()}
        wrong = [f"loss {name} is {value}" for name, value in losses.items() if not isfinite(value)]
        if wrong:
            raise NotFinite("; ".join(wrong))
        return losses

    def _move_to(self, simulator: Simulator) -> None:
        """Hands the states on to the simulator that runs next."""
        if simulator is not self._at:
            self._whole |= self._at.states()
            simulator.load_states({name: self._whole[name] for name in simulator.state_names})
            self._at = simulator

    def state(self) -> Mapping[str, np.ndarray]:
        """Every state of every segment."""
        return self._whole | self._at.states()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes states back."""
        if set(state) != set(self._whole):
            strange = sorted(set(state) ^ set(self._whole))
            raise TrainingError(f"the checkpoint's states are not those of this program: {strange[0]}")
        try:
            self._at.load_states({name: state[name] for name in self._at.state_names})
        except SimulationError as error:
            raise TrainingError(f"the checkpoint does not go with this program: {error}") from error
        self._whole = {name: np.array(value) for name, value in state.items()}

    def weights(self) -> Mapping[str, np.ndarray]:
        """All states: the simulator tells them as real numbers already."""
        return self.state()


def program_states(simulators: Sequence[tuple[Simulator, int]]) -> dict[str, np.ndarray]:
    """The first value of every state of all segments."""
    return {name: value for simulator, _ in simulators for name, value in simulator.states().items()}
