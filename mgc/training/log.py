"""A record of training: the losses as CSV, and as events that TensorBoard reads, with grids of samples."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mgc.training.errors import TrainingError
from mgc.training.loop import Progress

CSV_NAME = "losses.csv"
"""The file of the losses in the folder: a row an iteration, from the first one on."""


METRICS_NAME = "metrics.csv"
"""That of what `--metric` asks for: a row for each step at which it is measured, and metric."""


class TrainingLog:
    """Writes to a folder as training goes on. A resumed run takes up the record where its checkpoint is.

    Raises TrainingError where the folder cannot be used or TensorBoard's library is missing.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise TrainingError(f"--log {folder}: events are TensorBoard's: install mgc[log]")
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        # generated modules: their classes are made when they are imported
        self._event: Any = import_module("tensorboard.compat.proto.event_pb2")
        self._summary: Any = import_module("tensorboard.compat.proto.summary_pb2").Summary

        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._events: Any = EventFileWriter(str(folder))
        except OSError as error:
            raise TrainingError(f"--log {folder}: {error.strerror or error}: name a folder") from error
        self._table = folder / CSV_NAME
        self._measured = folder / METRICS_NAME
        self._names: list[str] = []
        self._began = time.monotonic()
        self._first = 0
        self._metrics: list[list[str]] = []

    def began(self, progress: Progress) -> None:
        """The record so far: what the checkpoint says, whatever a run that was killed had written after it."""
        self._names = list(progress.history)
        self._first, self._began = progress.steps, time.monotonic()
        with open(self._table, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", *self._names])
            for step in range(progress.steps):
                writer.writerow([step + 1, *(repr(progress.history[n][step]) for n in self._names)])
        kept = self._measured.read_text(encoding="utf-8").splitlines()[1:] if self._measured.exists() else []
        self._metrics = [row for row in map(str.split, kept, [","] * len(kept)) if int(row[0]) <= progress.steps]
        # tells TensorBoard that later steps of an earlier run do not count
        self._add(progress.steps + 1, session_log=self._event.SessionLog(status=self._event.SessionLog.START))

    def stepped(self, progress: Progress) -> None:
        """One more iteration."""
        step = progress.steps
        losses = {name: progress.history[name][-1] for name in self._names}
        with open(self._table, "a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([step, *map(repr, losses.values())])
        rate = (step - self._first) / max(time.monotonic() - self._began, 1e-9)
        self._scalars(step, {**losses, "steps_per_s": rate})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of the images: metrics.csv has a row for each."""
        self._metrics += [[str(step), name, repr(value)] for name, value in values.items()]
        with open(self._measured, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([["step", "metric", "value"], *self._metrics])
        self._scalars(step, values)

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        tagged = [self._summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(step, summary=self._summary(value=tagged))

    def picture(self, step: int, png: bytes, width: int, height: int) -> None:
        """A grid of samples, as PNG."""
        image = self._summary.Image(encoded_image_string=png, width=width, height=height, colorspace=3)
        self._add(step, summary=self._summary(value=[self._summary.Value(tag="samples", image=image)]))

    def close(self) -> None:
        """All is on disk."""
        self._events.close()

    def _add(self, step: int, **content: Any) -> None:
        self._events.add_event(self._event.Event(step=step, wall_time=time.time(), **content))
        self._events.flush()
