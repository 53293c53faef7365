"""`mgc.Simulator`: runs programs, and trains those that are for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgc.isa.program import Program
from mgc.sim.engine import Numerics
from mgc.sim.simulator import EngineName
from mgc.sim.simulator import Simulator as Runner

if TYPE_CHECKING:
    import numpy as np

    from mgc.training.loop import Progress


class Simulator(Runner):
    """Runs a program. Raises ProgramError for a program that breaks a rule, SimulationError for a bad request.

    engine: "fast", or "reference" (slow, the definition); their results are equal bit for bit but in `float`. numerics:
    "quantized" (the crossbars' own arithmetic), "device" (with the errors of the target's cells, drawn by seed) or
    "float" (ideal real arithmetic). threads: the most to use. Of a program for training, `run` runs the testing entry:
    the generator, with the weights that it was compiled with, or those of the last `train`.
    """

    def __init__(
        self,
        program: Program,
        engine: EngineName = "fast",
        numerics: Numerics = "quantized",
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        self._training = program
        self._options: tuple[EngineName, Numerics, int | None, int] = engine, numerics, threads, seed
        super().__init__(_part(program), *self._options)

    def train(
        self,
        data: str | Path | np.ndarray | Mapping[str, np.ndarray] | None = None,
        *,
        steps: int,
        inputs: Mapping[str, str | Path | np.ndarray] | None = None,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 100,
        resume: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Progress:
        """Trains until `steps` iterations are done; gives the history of the losses.

        It begins with the weights that the program was compiled with, or with `resume` where the newest checkpoint is.
        data: samples, shuffled anew in every epoch: a file or folder as `mgc train --data` takes it, an array, or
        arrays by input. inputs: samples by input, used in order as they are. Other inputs are noise. The same program,
        data and seed give the same bits. checkpoint: a folder. progress is called after each iteration. Raises
        TrainingError for data or checkpoints that cannot be used, Diverged where a loss or state stops being finite.
        """
        from mgc.training.data.assign import feeder
        from mgc.training.inference import load_weights
        from mgc.training.loop import Listener, Schedule
        from mgc.training.loop import train as run_loop
        from mgc.training.simulated import SimulatedTrainee
        from mgc.training.store import Store

        trainee = SimulatedTrainee(self._training, *self._options)
        given = {name: Path(v) if isinstance(v, str) else v for name, v in (inputs or {}).items()}
        feeds = feeder(
            trainee.inputs, trainee.batches, steps, seed, Path(data) if isinstance(data, str) else data, given
        )
        schedule = Schedule(steps, checkpoint_every)
        listener = Listener(stepped=progress or (lambda progress: None))
        if checkpoint is None:
            result = run_loop(trainee, feeds, schedule, listener=listener)
        else:
            with Store(Path(checkpoint), seed, trainee.identity) as store:
                result = run_loop(trainee, feeds, schedule, store, resume, listener)
        weights: Mapping[str, Any] = trainee.weights()
        load_weights(self, weights)
        return result


def _part(program: Program) -> Program:
    """What `run` runs: the entry for testing, or else the last."""
    return program.part(next((e.name for e in program.entries if e.kind == "test"), program.entries[-1].name))
