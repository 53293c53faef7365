"""The simulator: a whole program, any number of samples through its entries, the states between them."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar

import numpy as np

from mgc.functions.dtypes import is_float
from mgc.functions.optimizers import ITERATIONS
from mgc.isa.crossbar import encode_weights
from mgc.isa.dataflow import changing
from mgc.isa.device.state import Devices
from mgc.isa.entry import Entry
from mgc.isa.error import ProgramError
from mgc.isa.machine import Updates
from mgc.isa.program import Program
from mgc.sim.cell_writes import CellWrites
from mgc.sim.engine import DivergenceError, EngineState, Numerics, SimulationError
from mgc.sim.exactness import Cells, exact_columns, exact_rows
from mgc.sim.inputs import with_key
from mgc.sim.reference import ReferenceEngine
from mgc.sim.samples import EntrySimulation, Progress
from mgc.sim.states import device_names, initial_states, read_states, write_states

EngineName = Literal["fast", "reference"]
P = ParamSpec("P")
R = TypeVar("R")


def _one_at_a_time(method: Callable[Concatenate[Simulator, P], R]) -> Callable[Concatenate[Simulator, P], R]:
    """A method that a thread waits in until no other thread is in one of the same object."""

    @functools.wraps(method)
    def waiting(self: Simulator, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return waiting


class Simulator:
    """Runs a program. Raises ProgramError for a program that breaks a rule, SimulationError for a bad request.

    engine: "fast", or "reference" (slow, the definition); their results are equal bit for bit but in `float`. numerics:
    "quantized" (the crossbars' own arithmetic), "device" (with the errors of the target's cells, drawn by seed) or
    "float" (ideal real arithmetic). threads: the most to use. max_elements: a program with a larger buffer is refused.

    `run` runs the entry for testing (the last one where there is none), `run_iteration` those for training. All of them
    work on the same states.

    count_writes: count the cells whose level changes when instructions write (`cell_writes`); no results change. It
    takes time, and 3 bytes for each cell of the crossbars in use.

    Several threads may use one simulator: it does one thing at a time, whatever they ask for, and `threads` of its own
    work on that. For more at once make a simulator for each thread. It can be pickled and copied: a copy has the
    program, the options and the states as they are now; its counts begin anew.
    """

    def __init__(
        self,
        program: Program,
        engine: EngineName = "fast",
        numerics: Numerics = "quantized",
        threads: int | None = None,
        seed: int = 0,
        max_elements: int = 1 << 28,
        count_writes: bool = False,
    ) -> None:
        if numerics not in ("quantized", "device", "float"):
            raise SimulationError(f"numerics {numerics!r} is unknown; use quantized, device or float")
        if engine not in ("fast", "reference"):
            raise SimulationError(f"engine {engine!r} is unknown; use fast or reference")
        if count_writes and numerics == "float":
            raise SimulationError("numerics float knows no levels of cells: count writes in quantized or device")
        if threads is not None and threads < 1:
            raise SimulationError(f"threads is {threads}; use 1 or more")
        program.verify()
        _refuse_large(program, max_elements)
        self._lock = threading.RLock()
        self.program = program
        self.numerics: Numerics = numerics
        self.seed = seed
        self._options: tuple[EngineName, int | None] = engine, threads
        self._max_elements = max_elements
        self._tested = next((e for e in program.entries if e.kind == "test"), program.entries[-1])
        self._counts = count_writes
        self._changes = bool(changing(program))
        self._base = initial_states(program)
        self._runs: dict[str, EntrySimulation] = {}
        self._done: int | None = None
        """The iterations done, where that is known."""
        self._current: list[str] = []
        """The entries whose engines hold the states as they are now; none while these are the program's own."""
        self._run_of(self._tested)
        self._writes = self._new_counts() if count_writes else None
        self._uncounted: list[tuple[str, Updates, int]] = []
        """What ran, in a call that has not ended yet."""

    takes_nan: ClassVar[bool] = True
    """Whether NaN may come in where converters have no code for it: engines agree on what becomes of it."""

    @property
    def _refuses_nan(self) -> bool:
        return self.numerics != "float" and not self.takes_nan

    def __repr__(self) -> str:
        return f"<simulator of {self.program.name!r}: {self._options[0]} engine, {self.numerics} numerics>"

    @property
    def batches(self) -> int:
        """Batches of one iteration; where iterations differ, of the longest, and shorter ones leave the last out."""
        train = [entry for entry in self.program.entries if entry.kind == "train"]
        return max((sum(e.repeats for e in train if e.trains(i)) for i in {e.since for e in train}), default=0)

    def __getstate__(self) -> dict[str, Any]:
        states = self.states() if self._current else None
        return {"program": self.program, "numerics": self.numerics, "seed": self.seed, "options": self._options,
                "most": self._max_elements, "states": states, "done": self._done,
                "counts": self._counts}  # fmt: skip

    def __setstate__(self, kept: Mapping[str, Any]) -> None:
        (engine, threads), counts = kept["options"], kept["counts"]
        Simulator.__init__(self, kept["program"], engine, kept["numerics"], threads, kept["seed"], kept["most"], counts)
        if kept["states"] is not None:
            self.load_states(kept["states"])
        self._done = kept["done"]

    # ---- running

    @_one_at_a_time
    def run(self, inputs: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        """Outputs under their names, in the ports' dtypes, for inputs under theirs.

        A batched program takes n samples along axis 0 and gives exactly n; any other takes the ports' exact shapes.
        Random ops draw by the simulator's seed and the samples' numbers, from 0 on. Raises SimulationError for wrong
        inputs, and for NaN in all numerics but float: no converter has a code for it.
        """
        keyed = with_key(self._run_of(self._tested).program, inputs, self.seed)
        if not self._counts:
            return self._run(self._tested, keyed, progress)
        with self._counted():
            return self._run(self._tested, keyed, progress)

    @_one_at_a_time
    def run_iteration(self, *batches: Mapping[str, Any]) -> dict[str, Any]:
        """One iteration of a training program: its outputs (losses) under their names; the states move on.

        The entries for training run in order, each as often as it says, every time on the next of `batches`. An output
        that several have is as the last one gave it. Raises SimulationError for a program that does not train or wrong
        inputs, DivergenceError for a value that is not finite where training cannot go on: a gradient, a new weight
        (the states then stay as they were before) or a loss (they stay where there are several batches).
        """
        if not self._changes:
            raise SimulationError(f"program {self.program.name} changes no state, so there is nothing to train")
        if len(batches) != self.batches:
            raise SimulationError(f"{len(batches)} batches came, an iteration takes {self.batches}")
        before = self._state() if len(batches) > 1 else None
        try:
            with self._counted():
                return self._iterate(batches)
        except BaseException as error:
            if before is not None:
                self._restore(before)
            if isinstance(error, DivergenceError):
                error.undone |= before is not None
            raise

    def _iterate(self, batches: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
        outputs: dict[str, Any] = {}
        remaining = iter(batches)
        number = self._iteration()
        train = [entry for entry in self.program.entries if entry.trains(number)]
        ports = {entry.name: {p.name for p in self._run_of(entry).program.inputs} for entry in train}
        known = set().union(*ports.values())
        for entry in train:
            for _ in range(entry.repeats):
                feeds = {n: v for n, v in next(remaining).items() if n in ports[entry.name] or n not in known}
                found = self._run(entry, feeds)
                outputs |= found
                for name, value in found.items():
                    if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                        values = value.reshape(-1)[:4].tolist()
                        raise DivergenceError(f"output {name} is not finite ({values})", undone=False)
        self._done = number + 1
        return outputs

    def _iteration(self) -> int:
        """The number of the next iteration, where it matters."""
        counters = tuple(s for s in self.program.states if s.name == ITERATIONS and s.kind == "counter")
        if self._done is None and counters:
            found = read_states(replace(self.program, states=counters), "float", self._state(), self._base)
            self._done = int(found[ITERATIONS])
        return self._done or 0

    def _run(self, entry: Entry, inputs: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Any]:
        run = self._run_of(entry)
        if self._refuses_nan:
            _refuse_nan(inputs)
        outputs = run.samples(inputs, progress)
        if run.changes:
            self._current = [entry.name]
        return outputs

    def _run_of(self, entry: Entry) -> EntrySimulation:
        """An entry's run, whose engine holds the states as they are now."""
        run = self._runs.get(entry.name)
        if run is None:
            run = self._runs[entry.name] = self._make(entry)
        if self._current and entry.name not in self._current:
            run.engine.restore(self._runs[self._current[0]].engine.state())
            self._current.append(entry.name)
        return run

    def _make(self, entry: Entry) -> EntrySimulation:
        program, (name, threads) = self.program.part(entry.name), self._options
        devices = self._devices(program) if self.numerics == "device" else None
        updates: Updates | None = {} if self._counts else None
        ran = self._note if self._counts else None
        if name == "reference" or devices is not None:  # with devices nearly all work is in their reads
            engine = ReferenceEngine(program, self.numerics, threads, devices, updates)
            return EntrySimulation(program, engine, devices, updates, ran)
        from mgc.sim.fast import FastEngine

        engine = FastEngine(program, self.numerics, threads, updates, numbers=self._refuses_nan)
        return EntrySimulation(program, engine, None, updates, ran)

    def _devices(self, program: Program) -> Devices:
        engine, threads = self._options
        try:
            changes = bool(changing(program))
            if engine == "reference":
                return Devices(program, self.seed, changes)
            from mgc.sim.fast.devices import FastDevices

            return FastDevices(program, self.seed, changes, threads)
        except ProgramError as error:
            raise SimulationError(
                f"{self.program.name}: {error}; compile it again, for a target that has one"
            ) from error

    # ---- states

    @property
    def _holder(self) -> EntrySimulation:
        """An entry's run whose engine holds the states as they are now."""
        return self._runs[self._current[0]] if self._current else self._run_of(self._tested)

    def _state(self) -> EngineState:
        return self._holder.engine.state()

    def _restore(self, state: EngineState) -> None:
        holder = self._holder
        holder.engine.restore(state)
        self._current = [holder.program.entry.name]

    @_one_at_a_time
    def states(self) -> dict[str, np.ndarray]:
        """What the program keeps from run to run, under its names: a copy of each, in the model's own shape.

        Element types are those of the chip (float32, int64). A weight in a crossbar is what it stands for: its integer
        times the weight scale of its group, in `float` numerics the real weight, in `device` numerics what its cells
        stand for; there the cells themselves and their clock are states as well. Empty for a program without states.
        """
        return read_states(self.program, self.numerics, self._state(), self._base) if self._base else {}

    @property
    def state_names(self) -> list[str]:
        """The names of what `states` gives."""
        names = [s.name for s in self.program.states]
        return names + device_names(self.program) if self.numerics == "device" else names

    @_one_at_a_time
    def load_states(self, states: Mapping[str, np.ndarray]) -> None:
        """Replaces every state; what `states` gave comes back to the same bits, integers of crossbars included.

        In `device` numerics the cells may be left out: then they are written anew, with errors of their own. Raises
        SimulationError (and changes nothing) for names, shapes or element types that are not the program's.
        """
        self._restore(write_states(self.program, self.numerics, self._state(), states, self._holder.devices))
        self._base = {name: np.array(states[name], order="C") for name in self._base}
        self._done = None
        if self._writes is not None:
            self._writes.hold(self._integers() or {})

    @_one_at_a_time
    def reset(self) -> None:
        """Goes back to the states that the program was compiled with; counts begin anew."""
        if self._current:
            self._runs, self._current, self._base = {}, [], initial_states(self.program)
            self._done = None
        if self._writes is not None:
            self._writes = self._new_counts()

    # ---- writes

    @_one_at_a_time
    def cell_writes(self) -> dict[str, Any]:
        """How many cells changed their level since the simulator was made, as `CellWrites.to_json_dict` says; calls
        that raised do not count, nor what `load_states` writes. SimulationError without `count_writes`.
        """
        if self._writes is None:
            raise SimulationError("no writes were counted: make the simulator with count_writes=True")
        return self._writes.to_json_dict()

    def _new_counts(self) -> CellWrites:
        groups, devices = self.program.groups, self._run_of(self._tested).devices

        def levels(group: int, weights: np.ndarray) -> np.ndarray:
            if devices is not None:
                return devices.aims(group, weights)
            return encode_weights(weights, groups[group].arithmetic)

        return CellWrites(self.program, levels)

    def _note(self, entry: str, updates: Updates, micro_batches: int) -> None:
        self._uncounted.append((entry, updates, micro_batches))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Counts what runs inside, if all of it succeeds."""
        try:
            yield
            if self._writes is not None:
                for ran in self._uncounted:
                    self._writes.ran(*ran)
        finally:
            self._uncounted.clear()

    # ---- exactness

    @property
    @_one_at_a_time
    def exact_columns(self) -> float:
        """The fraction of logical columns that the ADCs are proven to compute without loss; 1.0 with none.

        Of the weights as they are now: training may move a column across the line.
        """
        return exact_columns(self.program, self._integers(), self._disturbance())

    @property
    @_one_at_a_time
    def exact_rows(self) -> float:
        """The same of rows in transposed reads; 1.0 with none."""
        return exact_rows(self.program, self._integers(), self._disturbance())

    def _integers(self) -> Mapping[int, np.ndarray] | None:
        """The integer weights of the groups that states live in; None if they are the program's own."""
        if self.numerics == "float":
            return None
        weights, devices = self._state().weights, self._holder.devices
        if devices is None:
            return weights
        ranges = {group: self.program.groups[group].arithmetic.weight_range for group in weights}
        away = {group for group in weights if self.program.groups[group].off_chip}
        found = {g: held if g in away else devices.found(g, held) for g, held in weights.items()}
        return {g: np.clip(integers, *ranges[g]) for g, integers in found.items()}

    def _disturbance(self) -> Cells | None:
        """What devices do to reads, in `device` numerics."""
        devices, cells = self._holder.devices, self._holder.engine.conductances()
        if devices is None:
            return None

        def undisturbed(g: int, weights: np.ndarray, signed: bool, transposed: bool) -> np.ndarray:
            # what takes turns is in no cells now: as if written anew
            held = cells[g] if g in cells else devices.programmed(g, weights)
            return devices.undisturbed(g, held, weights, signed, transposed)

        return undisturbed


def _refuse_large(program: Program, most: int) -> None:
    for buffer in program.buffers:
        if prod(buffer.shape) > most:
            raise SimulationError(
                f"buffer {buffer.name} holds {prod(buffer.shape):,} elements, more than {most:,}: raise --max-elements "
                "(max_elements in Python) if it is meant so"
            )


def _refuse_nan(inputs: Mapping[str, Any]) -> None:
    for name, value in inputs.items():
        if not isinstance(value, np.ndarray) or not is_float(value.dtype) or not value.size:
            continue
        numbers = value.reshape(-1) if value.itemsize > 2 else value.reshape(-1).astype(np.float32)
        if math.isnan(np.minimum.reduce(numbers)):  # the least of numbers is NaN if one of them is
            place = ", ".join(str(k) for k in np.argwhere(np.isnan(value))[0])
            raise SimulationError(
                f"input {name} holds NaN (first at [{place}]), which the chip cannot take: give numbers, or run with "
                "numerics float"
            )
