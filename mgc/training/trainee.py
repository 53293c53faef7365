"""What the loop trains: a program that runs one iteration and can tell and take back its whole state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mgc.isa.dataflow import changing
from mgc.isa.dtypes import numpy_dtype
from mgc.sim.engine import SimulationError
from mgc.sim.simulator import Simulator
from mgc.training.errors import TrainingError
from mgc.training.identity import program_hash

Role = Literal["data", "noise", "uniform", "key", "pick", "keep", ""]


@dataclass(frozen=True)
class TraineeInput:
    """One input of an iteration: the shape and element type of one batch.

    `role` says what it is where that is known: data to learn from, noise ~ N(0,1), numbers uniform in [0, 1), each
    sample's seed and number (see `mgc.functions.draws`), what a pool of samples gives and keeps. With "" it is data if
    data is given for it, else noise.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    role: Role = ""

    @property
    def rows(self) -> int:
        """Samples in a batch."""
        return self.shape[0] if self.shape else 1

    def __str__(self) -> str:
        return f"{self.name} ({self.dtype}[{', '.join(map(str, self.shape))}])"


class Trainee:
    """The program of a simulator in training, from the states that it has. TrainingError if it does not train.

    All that it is, is in `state`: equal states and feeds give equal bits. inputs: what an iteration reads; batches:
    how many of each. carried: what it reads from the one before, so that the first needs it given. losses: the names of
    what it reports. identity: what must be equal for a state to be taken back.
    """

    def __init__(self, simulator: Simulator) -> None:
        program = simulator.program
        if not changing(program):
            raise TrainingError(
                f"program {program.name} does not train: compile it with --discriminator and --loss, or with --phase"
            )
        parts = [program.part(entry.name) for entry in program.entries if entry.kind == "train"]
        stated = (program.meta.get("training") or {}).get("inputs", {})
        roles: dict[str, Role] = {name: role for name, role in stated.items() if role in get_args(Role)}
        ports = {port.name: port for part in parts for port in part.inputs}
        self.simulator = simulator
        self.batches = simulator.batches
        self.inputs: Sequence[TraineeInput] = tuple(
            TraineeInput(p.name, p.shape, numpy_dtype(p.dtype), roles.get(p.name, "")) for p in ports.values()
        )
        first = {s.name: program.tensors[s.initial] for s in program.states if s.kind == "carried"}
        self.carried: Sequence[TraineeInput] = tuple(TraineeInput(n, a.shape, a.dtype) for n, a in first.items())
        self.losses: Sequence[str] = tuple(dict.fromkeys(p.name for part in parts for p in part.outputs))
        self.identity: Mapping[str, str] = {"program": program_hash(program), "numerics": simulator.numerics}
        if simulator.numerics == "device":
            self.identity = {**self.identity, "seed": str(simulator.seed)}  # of the devices

    def step(self, batches: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, float]:
        """Runs one iteration on as many batches as `batches` says; gives the losses.

        DivergenceError as `Simulator.run_iteration` says.
        """
        outputs = self.simulator.run_iteration(*batches)
        return {name: float(np.asarray(value).reshape(-1)[0]) for name, value in outputs.items()}

    def begin(self, first: Mapping[str, np.ndarray]) -> None:
        """Takes the first values of what is `carried`. TrainingError where one is missing, or of another shape."""
        given: dict[str, np.ndarray] = {}
        for port in self.carried:
            value = first.get(port.name)
            if value is None:
                raise TrainingError(f"the first value of {port} is missing: give --input {port.name}=FILE.npy")
            if np.size(value) != np.prod(port.shape, dtype=int) or not np.isfinite(value).all():
                shape = list(np.shape(value))
                raise TrainingError(f"the first value of {port} is {value.dtype}{shape}: its finite numbers are needed")
            given[port.name] = np.asarray(value).reshape(port.shape).astype(port.dtype)
        if given:
            self.simulator.load_states({**self.simulator.states(), **given})

    def state(self) -> Mapping[str, np.ndarray]:
        """Every state, bit for bit; weights are real numbers. Later steps do not change the arrays."""
        return self.simulator.states()

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes a state back. TrainingError if it is none of this trainee's."""
        strange = sorted(set(state) ^ set(self.simulator.state_names))
        if strange:
            raise TrainingError(f"the checkpoint's states are not those of this program: {strange[0]}")
        try:
            self.simulator.load_states(state)
        except SimulationError as error:
            raise TrainingError(f"the checkpoint does not go with this program: {error}") from error
