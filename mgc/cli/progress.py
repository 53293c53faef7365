"""Progress of long work on stderr: a bar in a terminal, elsewhere one line that names the stages, and of training a
line every few seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mgc.cli import console

if TYPE_CHECKING:
    from mgc.training.loop import Progress as TrainingProgress

Progress = Callable[[str, float], None]
"""(stage, "" if there is only one; share of the whole work that is done, 0 to 1)."""

_EVERY_S = 5.0


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Shows what the callback is told until the block ends, then takes the bar away."""
    if not sys.stderr.isatty():
        line = _Line(title)
        try:
            yield line.tell
        finally:
            line.end()
        return
    with _bar(title, 1.0, rate=False) as update:
        yield lambda stage, share: update(description=f"{title} {stage}".rstrip(), completed=share)


@contextmanager
def training_progress(steps: int) -> Iterator[Callable[[TrainingProgress], None]]:
    """Shows the losses and the rate of each step that the callback is told of, until the block ends."""
    if sys.stderr.isatty():
        with _bar("train", steps, rate=True) as update:
            yield lambda progress: update(description=f"train  {losses_and_rate(progress)}", completed=progress.steps)
        return
    last: TrainingProgress | None = None
    shown_at = time.monotonic()

    def show() -> None:
        nonlocal last, shown_at
        if last is not None:
            console.note(f"step {last.steps} of {steps}: {losses_and_rate(last)}")
            last, shown_at = None, time.monotonic()

    def step(progress: TrainingProgress) -> None:
        nonlocal last
        last = progress
        if time.monotonic() - shown_at >= 2 * _EVERY_S:
            show()

    try:
        yield step
    finally:
        show()


def losses_and_rate(progress: TrainingProgress) -> str:
    """ "loss_d 1.386  loss_g 0.693  12.3 steps/s"."""
    done = progress.steps - progress.resumed_from
    rate = [f"{done / progress.seconds:,.1f} steps/s"] if done and progress.seconds else []
    return "  ".join([*(f"{name} {values[-1]:.4g}" for name, values in progress.history.items() if values), *rate])


@contextmanager
def _bar(title: str, total: float, *, rate: bool) -> Iterator[Callable[..., None]]:
    """A bar with what is done in per cent, or in steps with the time left; what is given changes it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    done = (MofNCompleteColumn(),) if rate else (TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left:"))
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(16 if rate else 40), *done, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda **changes: bar.update(task, **changes)


class _Line:
    """One line that grows: the stages, and from time to time how much is done."""

    def __init__(self, title: str) -> None:
        self._title, self._begun, self._stage, self._shown_at = title, False, "", time.monotonic()

    def tell(self, stage: str, share: float) -> None:
        """Adds a word for a new stage, or a number every few seconds."""
        now = time.monotonic()
        if share >= 1 or (stage == self._stage and now - self._shown_at < _EVERY_S):
            return
        word = stage if stage != self._stage else f"{share:.0%}"
        sys.stderr.write(f" {word}" if self._begun else f"{self._title}: {word}")
        sys.stderr.flush()
        self._begun, self._stage, self._shown_at = True, stage, now

    def end(self) -> None:
        """Ends the line if there is one."""
        if self._begun:
            sys.stderr.write("\n")
