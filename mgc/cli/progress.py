"""Progress of long work on stderr: a bar in a terminal, one line a stage elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float], None]
"""(stage, share of the whole work that is done, 0 to 1)."""


@contextmanager
def progress(title: str) -> Iterator[Progress]:
    """Shows what the callback is told until the block ends, then takes the bar away."""
    if not sys.stderr.isatty():
        yield _lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda stage, share: bar.update(task, description=f"{title}: {stage}", completed=share)


def _lines(title: str) -> Progress:
    last = ""

    def tell(stage: str, share: float) -> None:
        nonlocal last
        if stage != last:
            last = stage
            sys.stderr.write(f"{title}: {stage}\n")
            sys.stderr.flush()

    return tell
