"""The training loop: iterations, history, checkpoints, and when to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mgc.sim.engine import DivergenceError
from mgc.training.checkpoint import CheckpointError
from mgc.training.data.feeding import Feeder
from mgc.training.data.samples import is_finite
from mgc.training.errors import Diverged, TrainingError
from mgc.training.store import Store
from mgc.training.trainee import Trainee


@dataclass
class Progress:
    """Where training stands: iterations done, each loss from the first iteration on, the newest checkpoint."""

    steps: int
    resumed_from: int
    seconds: float
    history: dict[str, list[float]]
    checkpoint: Path | None
    interrupted: bool = False


@dataclass(frozen=True)
class Listener:
    """What the loop tells and asks. `stop` true ends it after the iteration at hand."""

    began: Callable[[Progress], None] = lambda progress: None
    stepped: Callable[[Progress], None] = lambda progress: None
    warn: Callable[[str], None] = lambda message: None
    stop: Callable[[], bool] = lambda: False


def train(
    trainee: Trainee,
    feeder: Feeder,
    steps: int,
    store: Store | None = None,
    resume: bool = False,
    checkpoint_every: int = 100,
    listener: Listener | None = None,
    carried: Mapping[str, np.ndarray] | None = None,
) -> Progress:
    """Trains until `steps` iterations are done, those before a resumed checkpoint included; the last writes one, too.
    `carried` are the first values of what iterations hand on, if it is not resumed.

    Raises Diverged where a loss or a state stops being finite, with `progress` of the listener's last call as what was
    reached, after a checkpoint of it where the trainee could undo the iteration that failed; TrainingError for unsound
    data or checkpoints.
    """
    listener = listener or Listener()
    progress = _resumed(trainee, feeder, store, listener.warn) if store and resume else None
    if progress is None:
        if store is not None:
            store.refuse_others()
        trainee.begin(carried or {})
        progress = Progress(0, 0, 0.0, {name: [] for name in trainee.losses}, None)
    if progress.steps > steps:
        raise TrainingError(
            f"the checkpoint {progress.checkpoint} is of step {progress.steps}, --steps {steps} is before it"
        )
    listener.began(progress)
    begin = time.perf_counter()
    while progress.steps < steps and not progress.interrupted:
        step = progress.steps + 1
        feeds = feeder.iteration(progress.steps)
        try:
            losses = trainee.step(feeds)
        except DivergenceError as error:
            if store and error.undone:
                _save_last_good(trainee, feeder, store, progress, listener.warn)
            raise Diverged(step, str(error)) from error
        check_losses(step, losses, trainee)
        for name, value in losses.items():  # a loss that is switched on later has values from then on
            progress.history[name].append(float(value))
        progress.steps = step
        progress.interrupted = listener.stop() and step < steps
        if store and (progress.interrupted or step == steps or step % checkpoint_every == 0):
            progress.checkpoint = _saved(trainee, feeder, store, progress)
        progress.seconds = time.perf_counter() - begin
        listener.stepped(progress)
    if store is None:
        check_state(progress.steps, trainee.state())
    return progress


def _resumed(trainee: Trainee, feeder: Feeder, store: Store, warn: Callable[[str], None]) -> Progress | None:
    """Takes up the newest checkpoint. None if there is none yet."""
    found = store.newest(warn)
    if found is None:
        return None
    path, checkpoint = found
    if feeder.fingerprint(checkpoint.step) != dict(checkpoint.data):
        raise CheckpointError(f"{path} was made with other data: give the same --data and --input")
    if set(checkpoint.history) != set(trainee.losses):
        raise CheckpointError(f"{path} has the losses {', '.join(checkpoint.history)}, not those of this program")
    trainee.restore(checkpoint.state)
    history = {name: list(checkpoint.history[name]) for name in trainee.losses}
    return Progress(checkpoint.step, checkpoint.step, 0.0, history, path)


def _saved(trainee: Trainee, feeder: Feeder, store: Store, progress: Progress) -> Path:
    state = trainee.state()
    check_state(progress.steps, state)
    return store.save(progress.steps, state, progress.history, feeder.fingerprint(progress.steps))


def _save_last_good(
    trainee: Trainee, feeder: Feeder, store: Store, progress: Progress, warn: Callable[[str], None]
) -> None:
    """A checkpoint of the state before the iteration that failed, unless there is one, or the state is no better."""
    if progress.steps in (0, store.saved):
        return
    try:
        progress.checkpoint = _saved(trainee, feeder, store, progress)
    except (CheckpointError, Diverged) as error:
        warn(str(error))


def check_losses(step: int, losses: Mapping[str, float], trainee: Trainee) -> None:
    """Diverged, naming the loss, and a state where one is at fault as well, if a loss is not finite."""
    for name, value in losses.items():
        if not np.isfinite(value):
            try:
                check_state(step, trainee.state())
            except Diverged as error:
                raise Diverged(step, f"loss {name} is {float(value)}; {error.what}") from error
            raise Diverged(step, f"loss {name} is {float(value)}")


def check_state(step: int, state: Mapping[str, np.ndarray]) -> None:
    """Diverged, naming the tensor, if a state holds a value that is not finite."""
    for name, value in state.items():
        if not is_finite(value):
            wrong = np.asarray(value).reshape(-1)
            wrong = wrong[~np.isfinite(wrong)]
            raise Diverged(step, f"state {name} holds {float(wrong[0])} ({wrong.size} of {value.size})")
