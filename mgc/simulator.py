"""`mgc.Simulator`: the simulator with the training loop around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mgc.sim.simulator import Simulator as ProgramSimulator

if TYPE_CHECKING:
    import numpy as np

    from mgc.training.loop import Progress


class Simulator(ProgramSimulator):
    """Runs a program, and trains one that is for training; arguments are those of `mgc.sim.Simulator`.

    engine: "fast", or "reference" (slow, the definition). numerics: "quantized", "device" (with the errors of the
    target's cells, drawn by seed) or "float" (ideal real arithmetic). threads: the most to use.
    """

    takes_nan: ClassVar[bool] = False

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
        """Trains until `steps` iterations are done; gives the history of the losses. `run` then has these weights.

        It begins with the weights that the program was compiled with, or with `resume` where the newest checkpoint is.
        data: samples, shuffled anew in every epoch: a file or folder as `mgc train --data` takes it, an array, or
        arrays by input. inputs: samples by input, used in order as they are (of an input that is carried from
        iteration to iteration: its first value). Other inputs are noise. The same program,
        data and seed give the same bits. checkpoint: a folder. progress is called after each iteration. Raises
        TrainingError for data or checkpoints that cannot be used, Diverged where a loss or state stops being finite.
        """
        from mgc.training.data.assign import feeder, first_values
        from mgc.training.loop import Listener
        from mgc.training.loop import train as run_loop
        from mgc.training.store import Store
        from mgc.training.trainee import Trainee

        trainee = Trainee(self)
        given = {name: Path(v) if isinstance(v, str) else v for name, v in (inputs or {}).items()}
        first, given = first_values(given, trainee.carried)
        feeds = feeder(
            trainee.inputs, trainee.batches, steps, seed, Path(data) if isinstance(data, str) else data, given
        )
        listener = Listener(stepped=progress or (lambda progress: None))
        self.reset()
        if checkpoint is None:
            return run_loop(trainee, feeds, steps, listener=listener, carried=first)
        with Store(Path(checkpoint), seed, trainee.identity) as store:
            return run_loop(trainee, feeds, steps, store, resume, checkpoint_every, listener, first)
