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

# Samples that one figure is of: errors are held against the range of outputs, which grows with the samples.
_TOGETHER = 32
# Multiply-accumulates that are simulated, and the samples at least, of outputs of few numbers and of others. One in a
# column with converters that clip costs about so many of those of others.
_MACS, _LEAST_OF_FEW, _LEAST, _CLIPPING = 3e8, 16, 2, 8
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
    """The PSNR of runs of a few samples, averaged in dB over such runs. The program is run on some of a run's samples:
    of the others the network's own outputs, which say what their range is, stand for the program's.
    """
    from mgc.comparison import compare
    from mgc.sim import SimulationError, Simulator

    share = _simulated(program, probe) / len(probe.feeds)
    if not share:
        return None
    simulator = Simulator(program, threads=1)
    together = (
        max(1, _TOGETHER // program.entry.micro_batch) if program.entry.micro_batch > 1 or program.entry.batched else 1
    )
    figures: list[float] = []
    for start in range(0, len(probe.feeds), together):
        feeds, wanted = (part[start : start + together] for part in (probe.feeds, probe.outputs))
        count = min(math.ceil(share * len(feeds)), len(feeds))
        try:
            outputs = _joined(program, [_outputs(simulator, feeds[:count]), *wanted[count:]])
        except SimulationError:  # a host segment that cannot take what was drawn, say
            return None
        reference = _joined(program, wanted)
        found = compare({name: outputs[name] for name in reference}, reference, probe.steps).psnr_db
        figures.append(found - 10 * math.log10(len(feeds) / count))
    found = float(np.mean(np.minimum(figures, MOST_DB)))
    return found if math.isfinite(found) else None


def _simulated(program: Program, probe: Probe) -> int:
    """Samples that the program is run on."""
    exact = [layer["exact_columns"] for layer in program.meta["layers"]]
    cost = max(probe.macs, 1) * (1 + _CLIPPING * (1 - float(np.mean(exact or [1.0]))))
    if cost > _MOST_MACS:
        return 0
    least = _LEAST_OF_FEW if probe.few else 1 if cost > _MACS else _LEAST
    return min(len(probe.feeds), max(least, int(_MACS / cost)))


def _outputs(simulator: Any, feeds: Sequence[Any]) -> Any:
    """The outputs for all feeds: in one run where inputs count samples, else in a run for each."""
    program = simulator.program
    if program.entry.batched and all(p.batched for p in program.inputs):
        return simulator.run({p.name: np.concatenate([f[p.name] for f in feeds]) for p in program.inputs})
    return _joined(program, [simulator.run(feed) for feed in feeds])


def _joined(program: Program, parts: Sequence[Any]) -> dict[str, np.ndarray]:
    """Results of several runs as those of one; an output that does not count samples is that of the first."""
    shared = {p.name for p in program.outputs if program.entry.batched and not p.batched}
    return {
        name: np.asarray(wanted) if name in shared else np.concatenate([np.atleast_1d(p[name]) for p in parts])
        for name, wanted in parts[-1].items()
    }
