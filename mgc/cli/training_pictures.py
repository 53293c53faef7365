"""Samples drawn and measured while a GAN trains: always from the same noise, by the program's testing entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgc.cli import console
from mgc.cli.simulation import make_metrics, make_simulator, save_picture, simulate
from mgc.evaluation.feeding import Feeds, counts_samples, make_feeds

if TYPE_CHECKING:
    from mgc.isa.program import Program
    from mgc.training.data.feeding import Feeder
    from mgc.training.log import TrainingLog
    from mgc.training.trainee import Trainee

SAMPLES = 64


def training_feeds(part: Program, feeder: Feeder, seed: int, samples: int) -> Feeds:
    """The inputs of a testing entry: the first samples of those that training has data for, noise for the others."""
    import numpy as np

    from mgc.training.data.feeding import Noise

    if not counts_samples(part):
        return make_feeds(part, {}, None, seed)
    given: dict[str, Any] = {}
    for port in part.inputs:
        supply = feeder.supplies.get(port.name)
        if supply is not None and not isinstance(supply, Noise):
            first = supply.batch(0)
            numbers = range(1, min(-(-samples // max(1, len(first))), feeder.steps * feeder.batches))
            given[port.name] = np.concatenate([first, *(supply.batch(k) for k in numbers)])
    count = min([samples, *map(len, given.values())])
    return make_feeds(part, {}, count, seed, {name: array[:count] for name, array in given.items()})


class Measurements:
    """Takes metrics of what the GAN makes, every so many steps and at the end. `history`: (step, value) by name."""

    def __init__(
        self,
        program: Program,
        trainee: Trainee,
        feeder: Feeder,
        texts: Sequence[str],
        features: Path | None,
        samples: int,
        every: int | None,
        options: Mapping[str, Any],
    ) -> None:
        from mgc.training.inference import entry_for_testing

        part = entry_for_testing(program)
        self._trainee, self._every = trainee, every
        self._metrics = make_metrics(texts, features, part, samples=samples)
        self._simulator = make_simulator(part, None, **options)
        self._fed = training_feeds(part, feeder, options["seed"], samples)
        self.history: dict[str, list[tuple[int, float]]] = {}

    def after(self, step: int, log: TrainingLog | None, *, last: bool = False) -> None:
        """Measures if it is time to, or at the `last` step what is not measured yet."""
        from mgc.training.inference import load_weights

        done = any(values[-1][0] == step for values in self.history.values())
        if self._metrics is None or done or not (last or (self._every is not None and step % self._every == 0)):
            return
        load_weights(self._simulator, self._trainee.state())
        found = self._metrics.of(simulate(self._simulator, self._fed))
        for name, value in found.items():
            self.history.setdefault(name, []).append((step, value))
        if log is not None:
            log.metrics(step, found)
        console.note(f"step {step}: {', '.join(f'{name} {value:.6g}' for name, value in found.items())}")


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
        self._fed = training_feeds(self._part, feeder, seed, SAMPLES)

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
