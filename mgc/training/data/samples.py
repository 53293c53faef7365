"""Samples in an array, of memory or of a mapped file: their shape, their fingerprint, whether they are sound."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mgc.training.errors import TrainingError

_CHUNK_BYTES = 1 << 24
_READ_WHOLE_BYTES = 1 << 30
"""More than this is not read before training begins: the fingerprint then covers evenly spaced parts of it."""


@dataclass(frozen=True)
class Samples:
    """Samples along axis 0 of an array. `name` is what messages call them: a file, or an array in one."""

    name: str
    array: np.ndarray

    @property
    def count(self) -> int:
        """How many there are."""
        return self.array.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self.array.shape[1:]

    def __str__(self) -> str:
        return f"{self.name} ({self.array.dtype}{list(self.array.shape)})"

    def examine(self) -> str:
        """The fingerprint: SHA-256 of type, shape and content. TrainingError where a value is NaN or infinite.

        Of very large data only every n-th part is read; batches are checked again as they are used.
        """
        digest = hashlib.sha256(f"{self.array.dtype.str}{list(self.array.shape)}".encode())
        for start, rows in self._parts():
            check_finite(self.name, rows, np.arange(start, start + len(rows)))
            digest.update(np.ascontiguousarray(rows).view(np.uint8).data if rows.size else b"")
        return digest.hexdigest()

    def digest(self, begin: int, end: int, into: hashlib._Hash) -> None:
        """Adds the samples begin .. end - 1 to a hash."""
        for start in range(begin, end, self._chunk):
            rows = np.ascontiguousarray(self.array[start : min(start + self._chunk, end)])
            into.update(rows.view(np.uint8).data if rows.size else b"")

    def _parts(self) -> Iterator[tuple[int, np.ndarray]]:
        skip = max(1, -(-self.array.nbytes // _READ_WHOLE_BYTES))
        starts = range(0, self.count, self._chunk)
        for number, start in enumerate(starts):
            if number % skip == 0 or number == len(starts) - 1:
                yield start, self.array[start : start + self._chunk]

    @property
    def _chunk(self) -> int:
        return max(1, _CHUNK_BYTES // max(1, self.array.nbytes // max(1, self.count)))


def is_finite(array: np.ndarray) -> bool:
    """False where any value of a floating array is NaN or infinite; true for other types."""
    if array.dtype.kind != "f" or not array.size:
        return True
    with np.errstate(all="ignore"):  # NaN and infinity reach the sum; a sum that overflows is looked at again
        if np.isfinite(np.sum(array, dtype=np.float64)):
            return True
    return bool(np.isfinite(array).all())


def check_finite(name: str, rows: np.ndarray, numbers: np.ndarray) -> None:
    """TrainingError, naming the first sample, where a floating value is NaN or infinite."""
    if is_finite(rows):
        return
    flat = rows.reshape(len(rows), -1)
    wrong = int(np.flatnonzero(~np.isfinite(flat).all(axis=1))[0])
    value = flat[wrong][~np.isfinite(flat[wrong])][0]
    raise TrainingError(f"{name}: sample {numbers[wrong]} holds {value}; take it out or repair it")
