"""Progress of long work on stderr: a bar in a terminal, elsewhere one line that names the stages."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda stage, share: bar.update(task, description=f"{title} {stage}".rstrip(), completed=share)


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
