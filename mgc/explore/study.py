"""What is measured at a point of a sweep. What all points have in common is computed once in each process."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mgc.compiler import all_passes, imported_state
from mgc.evaluation.checking import check
from mgc.evaluation.feeding import Feeds, counts_samples, files_by_name, make_feeds, run_fed
from mgc.evaluation.given import ImageOptions
from mgc.evaluation.metrics import FeatureNetwork, Metrics
from mgc.evaluation.reference import Reference
from mgc.explore.space import TARGET, Point
from mgc.explore.table import Row
from mgc.isa.program import Program
from mgc.options import CompileOptions
from mgc.passes.manager import PassManager
from mgc.passes.state import CompileState
from mgc.report.views import cost, summary
from mgc.simulator import Simulator
from mgc.targets.description import Target
from mgc.targets.loader import load_target

_SHARED = "lower-linear"
"""The last pass whose result depends on the target's input bits alone."""


@dataclass(eq=False)
class Study:
    """One network, and how each point is measured: compiled for its target, then run on the same samples.

    model: the file's bytes, self-contained. options: for the base target. inputs: arrays by name, the others are drawn
    by the options' seed; samples: how many are run, None for what the arrays hold. numerics: "quantized", or "device"
    with a chip of its own for each trial.
    """

    model: bytes
    options: CompileOptions
    samples: int | None
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    numerics: Literal["quantized", "device"] = "quantized"
    metrics: Metrics | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    _states: dict[tuple[int, int, int], CompileState] = field(default_factory=dict, repr=False)
    _programs: dict[tuple[str, ...], Program] = field(default_factory=dict, repr=False)
    _reference: tuple[Feeds, Reference] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: not what it can compute."""
        return {n: getattr(self, n) for n in ("model", "options", "samples", "inputs", "numerics", "metrics")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(**state)

    def target(self, point: Point) -> Target:
        """The target of a point. TargetError if there is none."""
        named = point.get(TARGET)
        base = self.options.chip if named is None else load_target(named).replace(self.options.overrides)
        return base.replace({key: value for key, value in point.items() if key != TARGET})

    def program(self, point: Point) -> Program:
        """The program for a point's target. Raises what compiling raises."""
        key = tuple(f"{k}={v}" for k, v in point.items())
        with self._lock:
            if key not in self._programs:
                target = self.target(point)
                state = replace(self._shared(target), target=target, warnings=[])
                self._programs.clear()  # the trials of one point follow one another
                done = PassManager(self._passes[1]).run(state)
                self._programs[key] = done.module.attributes["program"]
            return self._programs[key]

    def measure(self, point: Point, trial: int) -> Row:
        """The row of a point's chip number `trial`; where something is wrong with it, with the error and no figures."""
        begin = time.perf_counter()
        row: Row = {**point, "trial": trial}
        try:
            program = self.program(point)
            row |= {name: value for name, value in _figures(program).items() if value is not None}
            row |= self._accuracy(program, trial)
        except Exception as error:  # a point that fails is a row: the others go on
            row["error"] = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        row["seconds"] = round(time.perf_counter() - begin, 3)
        return row

    @property
    def _passes(self) -> tuple[Sequence[Any], Sequence[Any]]:
        """The passes that all points share, and those of each point."""
        steps = all_passes(self.options)
        first = next(k for k, p in enumerate(steps) if p.name == _SHARED) + 1
        return steps[:first], steps[first:]

    def _shared(self, target: Target) -> CompileState:
        """The network with its scales."""
        crossbar = target.crossbar
        bits = crossbar.input_bits, crossbar.widest_input, crossbar.dac_bits
        if bits not in self._states:
            state = replace(imported_state(self.model, self.options), target=target)
            state = replace(state, tools=replace(state.tools, kept={}))
            self._states[bits] = PassManager(self._passes[0]).run(state)
        return self._states[bits]

    def fed(self, program: Program) -> Feeds:
        """The samples of all points."""
        count = self.samples if counts_samples(program) else None
        return make_feeds(program, {}, count, self.options.seed, self.inputs)

    def read(
        self,
        points: Sequence[Point],
        given: Mapping[str, str],
        images: ImageOptions,
        real: Mapping[str, Path],
        features: Path | None,
    ) -> None:
        """Adds what files, folders and numbers hold, and real images, for the first point that has a program.
        GivenError for what does not fit.
        """
        for point in points if given or real else ():
            try:
                program = self.program(point)
            except ValueError:
                continue
            files = files_by_name([f"{name}={text}" for name, text in given.items()], [p.name for p in program.inputs])
            if files:
                fed = make_feeds(program, files, self.samples, self.options.seed, self.inputs, images)
                self.inputs = {**self.inputs, **{name: fed.arrays[name] for name in files}}
            if real:
                self.metrics = Metrics(
                    program, real, FeatureNetwork(features), images.limits, self.fed(program).samples
                )
            return

    def _accuracy(self, program: Program, trial: int) -> Row:
        """PSNR of the outputs in dB against the model in ONNX Runtime, whether the check of a run holds, metrics."""
        with self._lock:
            if self._reference is None:
                fed = self.fed(program)
                self._reference = fed, Reference(self.model, program, fed, 1)
                _ = self._reference[1].outputs
            fed, reference = self._reference
        outputs = run_fed(Simulator(program, numerics=self.numerics, threads=1, seed=trial), fed)
        found = check(outputs, reference, self.numerics)
        row: Row = {"psnr_db": found.psnr_db, "yield": float(found.ok(self.numerics))}
        return row | (self.metrics.of(outputs) if self.metrics is not None else {})


def _figures(program: Program) -> Row:
    """What the compiler knows: crossbars, area, time, energy."""
    head, bill = summary.headline(program), cost.facts(program)
    area = bill.get("area_mm2") or {}
    chips = bill.get("chips") or 1
    whole = bill["area_mm2_per_chip"]
    return {
        "crossbars": head["crossbars"]["used"],
        "area_used_mm2": area.get("used"),
        "area_chip_mm2": area.get("chip", whole if whole is None else whole * chips),
        "cycles": head["schedule"]["makespan_cycles"],
        "samples_per_s": head["samples_per_s"],
        "energy_j": head["energy_j"],
    }
