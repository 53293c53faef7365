"""What the diff-block takes and saves: training with it, and with its work done by the vector units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from benchmarks import networks
from benchmarks.paper.cases import ADAM, Workload
from mgc.compiler import all_passes, imported_state
from mgc.isa.instructions import Diff
from mgc.isa.program import Program
from mgc.options import CompileOptions
from mgc.passes.manager import Pass, PassManager
from mgc.passes.state import CompileState
from mgc.passes.training.passes import FuseLoss
from mgc.targets.description import Target

LOSSES = ("bce", "lsgan", "hinge", "wgan")


@dataclass(frozen=True)
class LossResult:
    """One iteration with a loss: its cycles and joules with diff-blocks (`busy` and `spent` are what the blocks
    themselves take), and with loss and error delta as kernels of the vector units.
    """

    loss: str
    busy: int
    spent: float
    cycles: int
    joules: float
    vector_cycles: int
    vector_joules: float


class KeepLosses(Pass):
    """Losses stay as they were written: differentiated op by op, they become kernels like any other."""

    name: ClassVar[str] = "keep-losses"

    def run(self, state: CompileState) -> CompileState:
        return state.with_entries(state.module.entries, losses=())


def loss_program(workload: Workload, target: Target, loss: str, *, blocks: bool) -> Program:
    """The iteration of a workload with a loss, with its diff-blocks or without."""
    options = CompileOptions(
        discriminator=networks.discriminator(workload.width, colours=workload.colours).SerializeToString(),
        loss=loss,
        target=target,
        batch=workload.batch,
        **ADAM,
    )
    model = networks.generator(workload.width, colours=workload.colours).SerializeToString()
    steps = [KeepLosses() if isinstance(step, FuseLoss) and not blocks else step for step in all_passes(options)]
    state = PassManager(steps).run(imported_state(model, options))
    program: Program = state.module.attributes["program"]
    return program


def loss_results(workload: Workload, target: Target, losses: Sequence[str] = LOSSES) -> Iterator[LossResult]:
    """Each loss both ways."""
    for loss in losses:
        program, other = (loss_program(workload, target, loss, blocks=blocks) for blocks in (True, False))
        busy = 0
        for entry in program.iteration:
            for i in program.instructions[entry.first : entry.stop]:
                if isinstance(i, Diff):
                    busy += i.duration * int(np.sum(entry.schedule.starts[i.id - entry.first] >= 0)) * entry.repeats
        yield LossResult(
            loss,
            busy,
            program.meta["energy"]["diff"],
            program.iteration_cycles,
            program.meta["energy_j"],
            other.iteration_cycles,
            other.meta["energy_j"],
        )
