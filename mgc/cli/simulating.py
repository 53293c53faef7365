"""Runs any number of samples through the simulator, with progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgc.cli.feeding import Feeds
    from mgc.cli.progress import Progress
    from mgc.sim import Simulator


def simulated(simulator: Simulator, fed: Feeds, tell: Progress) -> dict[str, Any]:
    """The outputs for all that is fed, batch after batch where the model mixes samples."""

    def samples_done(done: int, total: int) -> None:
        tell("", done / total if total else 1.0)

    if fed.group is None:
        return simulator.run(fed.arrays, samples_done)
    results = []
    for part in fed.parts(fed.group):
        results.append(simulator.run(part))
        samples_done(min(len(results) * fed.group, fed.samples), fed.samples)
    return fed.joined(results, fed.group)
