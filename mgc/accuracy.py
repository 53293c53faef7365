"""The last pass: how near a program's outputs come to its network's, by running it on a few samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from mgc.isa.program import Program
from mgc.passes.manager import Pass
from mgc.passes.quantizing.probe import Probe
from mgc.passes.quantizing.quality import MOST_DB
from mgc.passes.state import CompileState, with_graph

# Samples that one figure is of, of outputs of few numbers and of others: errors are held against the range of outputs,
# which grows with the samples.
_TOGETHER_OF_FEW, _TOGETHER = 32, 16
# Samples are simulated until the mean of their errors is known to this share of it,
_SURE = 0.1
# at least so many, of outputs of few numbers and of others, and at most so many multiply-accumulates, where converters
# clip and elsewhere. One in a column with converters that clip costs about so many of those of others.
_LEAST_OF_FEW, _LEAST, _MACS_CLIPPED, _MACS, _CLIPPING = 16, 8, 4e9, 5e8, 8
# A network of which one sample takes more than this is left alone.
_MOST_MACS = 1e11


class Accuracy(Pass):
    """Runs the program, in `quantized` numerics, on some of the samples that scales were calibrated on, and compares
    its float outputs with what the network gave for them. The program's `expected_psnr_db` is what `mgc run --check`
    would measure on such samples: everything that crossbars do is in it, clipping of converters included. None where
    nothing was calibrated, or where no output is a float.
    """

    name: ClassVar[str] = "accuracy"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run(self, state: CompileState) -> CompileState:
        program: Program = state.module.attributes["program"]
        probes = [probe for e in state.module.entries if (probe := e.attributes.get("probe")) is not None]
        found = expected_psnr(program, probes[0]) if len(probes) == 1 else None
        program = replace(program, meta={**program.meta, "expected_psnr_db": found})
        entries = [with_graph(e, e.graph, probe=None) for e in state.module.entries]
        return state.with_entries(entries, program=program)


def expected_psnr(program: Program, probe: Probe) -> float | None:
    """The PSNR of runs of a few samples, by the mean of their errors. The program is run on some of a run's samples: of
    the others the network's own outputs, which say what their range is, stand for the program's.
    """
    from mgc.comparison import psnr_db
    from mgc.sim import SimulationError, Simulator

    least, most = _simulated(program, probe)
    simulator = Simulator(program, threads=1)
    batched = program.entry.micro_batch > 1 or program.entry.batched
    together = _TOGETHER_OF_FEW if probe.few else _TOGETHER
    together = max(1, together // program.entry.micro_batch) if batched else 1
    count = len(probe.feeds)
    errors: list[float] = []
    # one of each run, then the next of each
    for k in [k for first in range(together) for k in range(first, count, together)][:most]:
        start = min(k - k % together, max(count - together, 0))  # all runs are of as many samples
        wanted = probe.outputs[start : start + together]
        try:
            found = _outputs(simulator, probe.feeds[k])
        except SimulationError:  # a host segment that cannot take what was drawn, say
            return None
        found = {name: found[name] for name in wanted[0]}  # those that are compared
        outputs = _joined(program, [*wanted[: k - start], found, *wanted[k - start + 1 :]])
        psnr = psnr_db(outputs, _joined(program, wanted), probe.steps)
        errors.append(10 ** (-psnr / 10) * len(wanted))
        if len(errors) >= least and np.std(errors) <= _SURE * math.sqrt(len(errors)) * np.mean(errors):
            break
    error = float(np.mean(errors)) if errors else math.nan
    if not math.isfinite(error):
        return None
    return min(-10 * math.log10(error), MOST_DB) if error else MOST_DB


def _simulated(program: Program, probe: Probe) -> tuple[int, int]:
    """Samples that the program is run on, at least and at most."""
    exact = float(np.mean([layer["exact_columns"] for layer in program.meta["layers"]] or [1.0]))
    cost = max(probe.macs, 1) * (1 + _CLIPPING * (1 - exact))
    if cost > _MOST_MACS:
        return 0, 0
    affordable = int((_MACS_CLIPPED if exact < 1 else _MACS) / cost)
    least = _LEAST_OF_FEW if probe.few else min(_LEAST, max(1, affordable))
    return least, max(least, affordable)


def _outputs(simulator: Any, feed: Any) -> Any:
    """The outputs for one of the feeds."""
    return simulator.run({p.name: feed[p.name] for p in simulator.program.inputs})


def _joined(program: Program, parts: Sequence[Any]) -> dict[str, np.ndarray]:
    """Results of several runs as those of one; an output that does not count samples is that of the first."""
    shared = {p.name for p in program.outputs if program.entry.batched and not p.batched}
    return {
        name: np.asarray(wanted) if name in shared else np.concatenate([np.atleast_1d(p[name]) for p in parts])
        for name, wanted in parts[-1].items()
    }
