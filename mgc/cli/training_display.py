"""How training shows where it is, on stderr: a bar in a terminal, elsewhere a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from mgc.cli import console

if TYPE_CHECKING:
    from mgc.training.loop import Progress

_EVERY_S = 10.0


class Display(Protocol):
    """Is told of each step."""

    def show(self, progress: Progress) -> None:
        """One more step is done."""
        ...


@contextmanager
def display(steps: int) -> Iterator[Display]:
    """Shows what it is told until the block ends."""
    if not sys.stderr.isatty():
        lines = _Lines(steps)
        try:
            yield lines
        finally:
            lines.end()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("train"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, steps)


def state_of(progress: Progress) -> str:
    """Losses and rate: "loss_d 1.386  loss_g 0.693  12.3 steps/s"."""
    done = progress.steps - progress.resumed_from
    rate = [f"{done / progress.seconds:,.1f} steps/s"] if done and progress.seconds else []
    return "  ".join([*(f"{name} {values[-1]:.4g}" for name, values in progress.history.items() if values), *rate])


class _Bar:
    def __init__(self, bar: Any, steps: int) -> None:
        self._bar, self._task = bar, bar.add_task("train", total=steps, state="")

    def show(self, progress: Progress) -> None:
        self._bar.update(self._task, completed=progress.steps, state=state_of(progress))


class _Lines:
    def __init__(self, steps: int) -> None:
        self._steps, self._shown_at, self._last = steps, time.monotonic(), None

    def show(self, progress: Progress) -> None:
        self._last: Progress | None = progress
        if time.monotonic() - self._shown_at >= _EVERY_S:
            self.end()

    def end(self) -> None:
        """The line of the last step that has none yet."""
        if self._last is not None:
            console.note(f"step {self._last.steps} of {self._steps}: {state_of(self._last)}")
            self._shown_at, self._last = time.monotonic(), None
