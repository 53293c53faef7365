"""Progress of long work on stderr: a bar in a terminal; elsewhere a line for each stage, or one every few seconds."""

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
        yield _lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda stage, share: bar.update(task, description=f"{title} {stage}".rstrip(), completed=share)


def _lines(title: str) -> Progress:
    last, told = "", time.monotonic()

    def tell(stage: str, share: float) -> None:
        nonlocal last, told
        now = time.monotonic()
        if stage == last and now - told < _EVERY_S:
            return
        last, told = stage, now
        sys.stderr.write(f"{title} {100 * share:3.0f} % {stage}".rstrip() + "\n")
        sys.stderr.flush()

    return tell
