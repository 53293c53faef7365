"""Samples drawn while a GAN trains: always from the same noise, through the program's testing entry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgc.cli import console
from mgc.cli.simulation import save_picture, simulate
from mgc.evaluation.feeding import Feeds, counts_samples, make_feeds

if TYPE_CHECKING:
    from mgc.isa.program import Program
    from mgc.training.data.feeding import Feeder
    from mgc.training.log import TrainingLog
    from mgc.training.trainee import Trainee

SAMPLES = 64


class Pictures:
    """Draws GRID.png at the end, and GRID-STEP.png every so many steps; into a log as well, or into that alone.

    Raises TrainingError for a program without testing entry, PictureError where its outputs cannot be drawn.
    """

    def __init__(
        self,
        program: Program,
        trainee: Trainee,
        feeder: Feeder,
        seed: int,
        path: Path | None,
        every: int | None,
        engine: Any,
        numerics: Any,
        threads: int | None,
        log: TrainingLog | None = None,
    ) -> None:
        from mgc.report.png import check
        from mgc.sim import Simulator
        from mgc.training.inference import entry_for_testing

        self._trainee, self._path, self._every, self._log = trainee, path, every, log
        self._logged = -1
        self._part = entry_for_testing(program)
        check(self._part)
        self._simulator = Simulator(self._part, engine, numerics, threads, seed)
        self._fed = self._feeds(feeder, seed)

    def _feeds(self, feeder: Feeder, seed: int) -> Feeds:
        """The inputs: the first samples of those that have data, noise for the others."""
        import numpy as np

        from mgc.training.data.feeding import Noise

        if not counts_samples(self._part):
            return make_feeds(self._part, {}, None, seed)
        given: dict[str, Any] = {}
        for port in self._part.inputs:
            supply = feeder.supplies.get(port.name)
            if supply is not None and not isinstance(supply, Noise):
                first = supply.batch(0)
                numbers = range(1, min(-(-SAMPLES // max(1, len(first))), feeder.steps * feeder.batches))
                given[port.name] = np.concatenate([first, *(supply.batch(k) for k in numbers)])
        count = min([SAMPLES, *map(len, given.values())])
        return make_feeds(self._part, {}, count, seed, {name: array[:count] for name, array in given.items()})

    def after(self, step: int) -> None:
        """Draws if it is time to."""
        if self._every is not None and step % self._every == 0:
            path = self._path and self._path.with_name(f"{self._path.stem}-{step:08d}{self._path.suffix}")
            self._draw(step, path)

    def final(self, step: int) -> None:
        """Draws what training has come to."""
        said = self._draw(step, self._path)
        if said:
            console.note(said)

    def _draw(self, step: int, path: Path | None) -> str:
        import io

        from mgc.report.png import draw
        from mgc.training.inference import load_weights

        load_weights(self._simulator, self._trainee.state())
        picture = draw(self._part, simulate(self._simulator, self._fed))
        if self._log is not None and step != self._logged:
            self._logged = step
            file = io.BytesIO()
            picture.image.save(file, format="PNG")
            self._log.picture(step, file.getvalue(), *picture.image.size)
        if path is None:
            return ""
        save_picture(picture, path)
        return f"{path}: {picture.shown} {picture.kind} of output {picture.output}"
