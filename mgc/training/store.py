"""The folder that one training run writes its checkpoints to."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

from mgc.functions.drafts import sweep_drafts
from mgc.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_identity,
    list_checkpoints,
    newest_checkpoint,
    write_checkpoint,
)

_LOCK = ".lock"


class Store:
    """A checkpoint folder, made if need be and held by one process: `with Store(...) as store`.

    Raises CheckpointError for a folder that cannot be made or is in use.
    """

    def __init__(self, folder: Path, seed: int, identity: Mapping[str, str]) -> None:
        self.folder, self._seed, self._identity = folder, seed, dict(identity)
        self._lock = -1
        self.saved: int | None = None
        """The step of the newest checkpoint, where it is of this run or was taken up by it."""

    def __enter__(self) -> Store:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileExistsError as error:
            raise CheckpointError(f"{self.folder} is a file: name a folder for the checkpoints") from error
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be written to: {error.strerror or error}") from error
        try:
            import fcntl
        except ImportError:  # no POSIX: one process is trusted to be the only one
            pass
        else:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(self._lock)
                raise CheckpointError(f"{self.folder} is in use by another training run") from error
        sweep_drafts(self.folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            os.close(self._lock)

    def refuse_others(self) -> None:
        """CheckpointError if there are checkpoints already: a fresh run must not mix with them."""
        found = list_checkpoints(self.folder)
        if found:
            raise CheckpointError(f"{found[-1]} is there already: add --resume to go on, or choose another folder")

    def newest(self, warn: Callable[[str], None]) -> tuple[Path, Checkpoint] | None:
        """The checkpoint to go on from. CheckpointError if it is not of this program, these numerics and this seed."""
        found = newest_checkpoint(self.folder, warn)
        if found is None:
            return None
        path, checkpoint = found
        check_identity(path, checkpoint, self._identity)
        if checkpoint.seed != self._seed:
            raise CheckpointError(f"{path} was made with seed {checkpoint.seed}, not {self._seed}: use that --seed")
        self.saved = checkpoint.step
        return found

    def save(
        self,
        step: int,
        state: Mapping[str, np.ndarray],
        history: Mapping[str, list[float]],
        data: Mapping[str, str],
    ) -> Path:
        """Writes the checkpoint of a step. CheckpointError if it cannot; those before it stay."""
        path = write_checkpoint(self.folder, Checkpoint(step, self._seed, self._identity, data, state, history))
        self.saved = step
        return path
