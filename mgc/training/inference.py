"""Testing with trained weights: those of a checkpoint, in a program that only reads its states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mgc.isa.program import Program
from mgc.sim.simulator import Simulator
from mgc.training.checkpoint import CheckpointError, newest_checkpoint
from mgc.training.errors import TrainingError
from mgc.training.identity import program_hash


def entry_for_testing(program: Program) -> Program:
    """The testing entry of a training program as a program. TrainingError if there is none."""
    for entry in program.entries:
        if entry.kind == "test" and program.mode == "training":
            return program.part(entry.name)
    raise TrainingError(
        f"program {program.name} has no testing entry: it was compiled for inference, or its generator was not found"
    )


def load_weights(simulator: Simulator, weights: Mapping[str, np.ndarray]) -> None:
    """Puts trained weights into a testing program's states. TrainingError where one is missing."""
    names = [s.name for s in simulator.program.states]
    missing = [name for name in names if name not in weights]
    if missing:
        raise TrainingError(f"there is no trained value for state {missing[0]}")
    if names:
        cells = [name for name in simulator.state_names if name not in names]
        if all(name in weights for name in cells):  # in `device` numerics: the very cells that were trained
            names += cells
        simulator.load_states({name: np.asarray(weights[name]) for name in names})


def checkpoint_weights(program: Program, place: Path, warn: Callable[[str], None]) -> tuple[int, dict[str, np.ndarray]]:
    """(step, states) of the newest checkpoint in a folder, or of one file. CheckpointError if it is not this program's.

    Whatever numerics it was trained in: states are real numbers, which each numerics rounds in its own way.
    """
    if not place.exists():
        raise CheckpointError(f"there is no folder {place} (of checkpoints, as mgc train --checkpoint writes them)")
    found = newest_checkpoint(place, warn)
    if found is None:
        raise CheckpointError(f"{place} holds no checkpoint: train with --checkpoint {place} first")
    path, checkpoint = found
    if checkpoint.identity.get("program") != program_hash(program):
        raise CheckpointError(f"{path} belongs to another program: use the one it was trained with")
    return checkpoint.step, dict(checkpoint.state)
