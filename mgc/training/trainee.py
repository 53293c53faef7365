"""What the loop trains: something that runs one iteration and can tell and take back its whole state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

Role = Literal["data", "noise", "uniform", ""]


@dataclass(frozen=True)
class TraineeInput:
    """One input of an iteration: the shape and element type of one batch.

    `role` says what it is where that is known: data to learn from, noise ~ N(0,1), numbers uniform in [0, 1). With ""
    it is data if data is given for it, else noise.
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


class Trainee(Protocol):
    """One network system in training. All that it is, is in `state`: equal states and feeds give equal bits."""

    @property
    def inputs(self) -> Sequence[TraineeInput]:
        """What an iteration reads."""
        ...

    @property
    def batches(self) -> int:
        """Fresh batches in one iteration: more than one where a phase takes several steps."""
        ...

    @property
    def losses(self) -> Sequence[str]:
        """The names of what an iteration reports."""
        ...

    @property
    def identity(self) -> Mapping[str, str]:
        """What must be equal for a state to be taken back: the program's hash, the numerics."""
        ...

    def step(self, batches: Sequence[Mapping[str, np.ndarray]]) -> Mapping[str, float]:
        """Runs one iteration on as many batches as `batches` says; gives the losses. It may raise DivergenceError."""
        ...

    def state(self) -> Mapping[str, np.ndarray]:
        """Everything that lives from iteration to iteration, bit for bit. Later steps do not change the arrays."""
        ...

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes a state back. TrainingError if it is none of this trainee's."""
        ...

    def weights(self) -> Mapping[str, np.ndarray]:
        """Parameters and running statistics as real numbers, under the names and in the shapes of the model."""
        ...
