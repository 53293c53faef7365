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


class NotFinite(RuntimeError):  # noqa: N818 - as above
    """What a trainee raises where an iteration meets a value that is not finite; the message names it.

    `undone`: the trainee's state is what it was before the iteration.
    """

    def __init__(self, what: str, undone: bool = False) -> None:
        self.undone = undone
        super().__init__(what)
