"""A simulator as a trainee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mgc.isa.dtypes import numpy_dtype
from mgc.sim.engine import SimulationError
from mgc.sim.simulator import Simulator
from mgc.training.entries import iteration_of, roles_of
from mgc.training.errors import TrainingError
from mgc.training.identity import program_hash
from mgc.training.trainee import TraineeInput


class SimulatedTrainee:
    """Trains the program of a simulator, from the states that it has; see `mgc.training.trainee.Trainee`.

    Raises TrainingError for a program that does not train.
    """

    def __init__(self, simulator: Simulator) -> None:
        program = simulator.program
        parts = [program.part(entry.name) for entry in iteration_of(program)]
        roles = roles_of(program)
        ports = {port.name: port for part in parts for port in part.inputs}
        self.simulator = simulator
        self.batches = simulator.batches
        self.inputs: Sequence[TraineeInput] = tuple(
            TraineeInput(p.name, p.shape, numpy_dtype(p.dtype), roles.get(p.name, "")) for p in ports.values()
        )
        self.losses: Sequence[str] = tuple(dict.fromkeys(p.name for part in parts for p in part.outputs))
        self.identity: Mapping[str, str] = {"program": program_hash(program), "numerics": simulator.numerics}
        if simulator.numerics == "device":
            self.identity = {**self.identity, "seed": str(simulator.seed)}  # of the devices

    def step(self, batches: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, float]:
        """Runs one iteration; DivergenceError as `Simulator.run_iteration` says."""
        outputs = self.simulator.run_iteration(*batches)
        return {name: float(np.asarray(value).reshape(-1)[0]) for name, value in outputs.items()}

    def state(self) -> Mapping[str, np.ndarray]:
        """Every state."""
        return self.simulator.states()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes states back."""
        strange = sorted(set(state) ^ set(self.simulator.state_names))
        if strange:
            raise TrainingError(f"the checkpoint's states are not those of this program: {strange[0]}")
        try:
            self.simulator.load_states(state)
        except SimulationError as error:
            raise TrainingError(f"the checkpoint does not go with this program: {error}") from error

    def weights(self) -> Mapping[str, np.ndarray]:
        """All states: those of a simulator are real numbers already."""
        return self.state()
