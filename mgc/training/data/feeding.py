"""Which samples a step gets: shuffled data, files used in order, noise. Everything follows from seed and step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mgc.isa.functions.random import keys
from mgc.training import noise
from mgc.training.data.fitting import Fit, fit
from mgc.training.data.samples import Samples, check_finite
from mgc.training.errors import TrainingError
from mgc.training.trainee import TraineeInput


class Supply(Protocol):
    """Gives one input its batches."""

    def batch(self, number: int) -> np.ndarray:
        """Batch `number`, 0 for the first of all, whatever was asked for before."""
        ...

    def fingerprint(self, batches: int) -> str:
        """What the first so many batches come from, so that another source can be told; "" for noise."""
        ...


@dataclass(frozen=True)
class Noise:
    """Drawn numbers."""

    port: TraineeInput
    seed: int

    def batch(self, number: int) -> np.ndarray:
        draw = noise.uniform if self.port.role == "uniform" else noise.normal
        return draw(self.seed, self.port.name, number, self.port.shape, self.port.dtype)

    def fingerprint(self, batches: int) -> str:
        return ""


@dataclass(frozen=True)
class Keys:
    """The seed and number of each sample, for the random ops of the program."""

    port: TraineeInput
    seed: int

    def batch(self, number: int) -> np.ndarray:
        return keys(self.seed, number * self.port.rows, self.port.rows)

    def fingerprint(self, batches: int) -> str:
        return ""


@dataclass(frozen=True)
class Replayed:
    """What a pool of samples gives, and what it keeps, by number: those in the pool, from 0 on, then the new ones.

    As CycleGAN's buffer: until it is full it keeps each new sample and gives it back; then, sample by sample, it gives
    half of them back, and for the others one out of the pool, whose place they take.
    """

    port: TraineeInput
    seed: int
    size: int
    rows: int

    def batch(self, number: int) -> np.ndarray:
        draw = noise.generator(self.seed, "replay", self.port.name.rpartition(".")[0], number)
        pool, held, given = np.arange(self.size), min(self.size, number * self.rows), np.arange(self.rows) + self.size
        for k in range(self.rows):
            if held < self.size:
                pool[held], held = self.size + k, held + 1
            elif draw.random() > 0.5:
                slot = int(draw.integers(self.size))
                pool[slot], given[k] = given[k], pool[slot]
        return (given if self.port.role == "pick" else pool).astype(self.port.dtype)

    def fingerprint(self, batches: int) -> str:
        return ""


class Shuffled:
    """Data in epochs, each in an order of its own; what does not fill a batch at an epoch's end is left out of it.

    Inputs with the same `stream` and number of samples get samples that belong together.
    """

    def __init__(self, samples: Samples, port: TraineeInput, fitted: Fit, seed: int, stream: str) -> None:
        if samples.count < port.rows:
            raise TrainingError(
                f"{samples.name} holds {samples.count} samples, a batch of input {port} takes {port.rows}: "
                f"give more, or compile with a smaller --batch"
            )
        self._samples, self._port, self._fit, self._seed, self._stream = samples, port, fitted, seed, stream
        self._fingerprint = samples.examine()
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def batch(self, number: int) -> np.ndarray:
        rows = self._port.rows
        epoch, place = divmod(number, self._samples.count // rows)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, noise.order(self._seed, self._stream, epoch, self._samples.count)
        chosen = self._order[place * rows : (place + 1) * rows]
        raw = np.asarray(self._samples.array[chosen])
        check_finite(self._samples.name, raw, chosen)
        return self._fit.transform(raw)

    def fingerprint(self, batches: int) -> str:
        return self._fingerprint


class InOrder:
    """A file's samples from the first to the last, as they are; its fingerprint is that of the samples used."""

    def __init__(self, samples: Samples, port: TraineeInput, steps: int, batches: int) -> None:
        if samples.array.dtype == np.uint8 and port.dtype.kind == "f":  # bytes are no pixels here
            raise TrainingError(f"{samples}: input {port} is floating; convert the values, or give images with --data")
        fitted = fit(samples, port)
        if fitted.rank or (port.shape and samples.shape != port.shape[1:]):
            raise TrainingError(f"{samples}: input {port} takes samples of shape {list(port.shape[1:])}")
        needed = steps * batches * port.rows
        if samples.count < needed:
            times = f"{steps} steps" + (f" of {batches} batches" if batches > 1 else "") + f" of {port.rows}"
            raise TrainingError(f"{samples.name} holds {samples.count} samples, {times} need {needed} of input {port}")
        self._samples, self._port, self._fit = samples, port, fitted
        self._digest, self._digested = hashlib.sha256(samples.array.dtype.str.encode()), 0

    def batch(self, number: int) -> np.ndarray:
        start = number * self._port.rows
        raw = np.asarray(self._samples.array[start : start + self._port.rows])
        check_finite(self._samples.name, raw, np.arange(start, start + len(raw)))
        return self._fit.transform(raw).reshape(self._port.shape)

    def fingerprint(self, batches: int) -> str:
        end = batches * self._port.rows
        if end > self._samples.count:
            return "too short"
        if end < self._digested:
            self._digest, self._digested = hashlib.sha256(self._samples.array.dtype.str.encode()), 0
        self._samples.digest(self._digested, end, self._digest)
        self._digested = end
        return self._digest.hexdigest()


@dataclass(frozen=True)
class Feeder:
    """All inputs of every iteration."""

    supplies: Mapping[str, Supply]
    batches: int
    """In one iteration."""
    steps: int
    """Iterations for which there is data."""

    def iteration(self, step: int) -> Sequence[Mapping[str, np.ndarray]]:
        """What iteration `step`, 0 for the first, reads. TrainingError where data is unsound."""
        numbers = range(step * self.batches, (step + 1) * self.batches)
        return [{name: supply.batch(n) for name, supply in self.supplies.items()} for n in numbers]

    def fingerprint(self, steps: int) -> dict[str, str]:
        """For each input that is given, what its first `steps` iterations come from."""
        found = {name: supply.fingerprint(steps * self.batches) for name, supply in self.supplies.items()}
        return {name: text for name, text in found.items() if text}
