"""The parts of a training program: the entries of an iteration, the testing entry, what its inputs are.

What the loop needs beyond the program itself stands in its `meta`: `meta["training"]["inputs"]` maps each input to
"data", "noise", "uniform" or "" (not known), `meta["export"]` is for `mgc.training.export`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mgc.isa.dataflow import changing
from mgc.isa.entry import Entry
from mgc.isa.program import Program
from mgc.training.errors import TrainingError
from mgc.training.trainee import Role

META = "training"
_ROLES: Mapping[str, Role] = {"data": "data", "noise": "noise", "uniform": "uniform", "": ""}


def training_meta(inputs: Mapping[str, Role]) -> dict[str, Any]:
    """What `meta` holds for the loop, under `META`."""
    return {"inputs": dict(inputs)}


def iteration_of(program: Program) -> tuple[Entry, ...]:
    """The entries of one iteration, in order. TrainingError if the program does not train."""
    if not changing(program):
        raise TrainingError(
            f"program {program.name} does not train: compile it with --discriminator and --loss, or with --phase"
        )
    return program.iteration


def entry_for_testing(program: Program) -> Program:
    """The testing entry of a training program as a program. TrainingError if there is none."""
    for entry in program.entries:
        if entry.kind == "test" and program.mode == "training":
            return program.part(entry.name)
    raise TrainingError(
        f"program {program.name} has no testing entry: it was compiled for inference, or its generator was not found"
    )


def roles_of(program: Program) -> dict[str, Role]:
    """What is known of the inputs."""
    stated = (program.meta.get(META) or {}).get("inputs", {})
    return {name: _ROLES[role] for name, role in stated.items() if role in _ROLES}
