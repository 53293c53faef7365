"""Checkpoints: a folder of sealed safetensors files, the newest two kept, each whole or not there at all.

A file holds the states, the history of every loss and a manifest: which program, numerics, seed and data it belongs to,
and the step. It is written beside its place, forced to the disk and renamed, so that a process killed at any moment
leaves what was there before. It is sealed by SHA-256: a damaged one is told from a whole one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgc.isa import container
from mgc.isa.error import ProgramError
from mgc.training.errors import TrainingError

FORMAT, VERSION = "mgc-checkpoint", 1
KEPT = 2

_STATE, _HISTORY = "state/", "history/"
_NAME = re.compile(r"step-(\d{8,})\.safetensors")


class CheckpointError(TrainingError):
    """A checkpoint that cannot be written, read or used here."""


@dataclass(frozen=True)
class Checkpoint:
    """Training after `step` iterations. `identity` is the trainee's; `data` the fingerprint of what was read so far."""

    step: int
    seed: int
    identity: Mapping[str, str]
    data: Mapping[str, str]
    state: Mapping[str, np.ndarray]
    history: Mapping[str, Sequence[float]]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes a checkpoint, then removes those before the last two. CheckpointError if it cannot; all others stay."""
    final = folder / f"step-{checkpoint.step:08d}.safetensors"
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "step": checkpoint.step,
        "seed": checkpoint.seed,
        "identity": dict(checkpoint.identity),
        "data": dict(checkpoint.data),
    }
    tensors = {_STATE + name: np.asarray(value) for name, value in checkpoint.state.items()}
    tensors |= {_HISTORY + name: np.asarray(v, np.float64) for name, v in checkpoint.history.items()}
    try:
        container.write(final, tensors, json.dumps(manifest, sort_keys=True), durable=True)
    except OSError as error:
        kept = list_checkpoints(folder)
        stays = f"; {kept[-1]} stays" if kept else ""
        raise CheckpointError(f"{final} cannot be written: {error.strerror or error}{stays}") from error
    for old in list_checkpoints(folder)[:-KEPT]:
        with suppress(OSError):
            old.unlink()
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first."""
    with suppress(OSError):
        found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(found)]
    return []


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads one file. CheckpointError if it is damaged or no checkpoint."""
    try:
        tensors, metadata = container.read(path)
        manifest = json.loads(metadata)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ProgramError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is truncated, damaged or no checkpoint") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint")
    if manifest.get("version") != VERSION:
        raise CheckpointError(f"{path}: its format version is {manifest.get('version')}, this mgc reads {VERSION}")
    step, named = _whole(path, manifest, "step"), _NAME.fullmatch(path.name)
    if named and int(named[1]) != step:
        raise CheckpointError(f"{path} holds step {step}, which is not what its name says: give it its own name again")
    history = {name.removeprefix(_HISTORY): a for name, a in tensors.items() if name.startswith(_HISTORY)}
    wrong = [name for name, a in history.items() if a.dtype != np.float64 or a.ndim != 1]
    if wrong:
        raise CheckpointError(f"{path} is no checkpoint of this mgc: the history of {wrong[0]!r} is no list of numbers")
    return Checkpoint(
        step=step,
        seed=_whole(path, manifest, "seed"),
        identity=_texts(path, manifest, "identity"),
        data=_texts(path, manifest, "data"),
        state={name.removeprefix(_STATE): a for name, a in tensors.items() if name.startswith(_STATE)},
        history={name: a.tolist() for name, a in history.items()},
    )


def _whole(path: Path, manifest: Mapping[str, Any], key: str) -> int:
    value = manifest.get(key)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise CheckpointError(f"{path} is no checkpoint of this mgc: its {key} is no whole number")
    return value


def _texts(path: Path, manifest: Mapping[str, Any], key: str) -> dict[str, str]:
    value = manifest.get(key)
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise CheckpointError(f"{path} is no checkpoint of this mgc: its {key} is no table of texts")
    return value


def newest_checkpoint(place: Path, warn: Callable[[str], None]) -> tuple[Path, Checkpoint] | None:
    """The newest checkpoint of a folder (or the one that a file is); None if there is none.

    A damaged one is passed over with a warning. CheckpointError if all are damaged.
    """
    if place.is_file():
        return place, read_checkpoint(place)
    errors: list[CheckpointError] = []
    for path in reversed(list_checkpoints(place)):
        try:
            found = read_checkpoint(path)
        except CheckpointError as error:
            errors.append(error)
            continue
        for error in errors:
            warn(f"{error}; going on from {path.name}")
        return path, found
    if errors:
        raise CheckpointError(f"{errors[0]}, and no other can be used: remove them to begin anew")
    return None


def check_identity(path: Path, checkpoint: Checkpoint, identity: Mapping[str, str]) -> None:
    """CheckpointError if the checkpoint belongs to another program or other numerics."""
    for what, value in identity.items():
        found = checkpoint.identity.get(what, "")
        if found != value:
            if what == "program":
                raise CheckpointError(f"{path} belongs to another program: use the one it was trained with")
            raise CheckpointError(f"{path} was made with {what} {found}, not {value}: use --{what} {found}")
