"""How training can fail."""

from __future__ import annotations


class TrainingError(ValueError):
    """Training that cannot begin or go on as asked: the message says what, where, what to do."""


class Diverged(RuntimeError):  # noqa: N818 - an outcome of sound input, no mistake of anyone
    """A loss or a state became infinite or no number.

    `step` is the iteration that made it (1 for the first), `what` names the tensor and what it holds.
    """

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what
        super().__init__(f"step {step}: {what}")
