"""What a plan is made of: operations on arrays that hold k micro-batches along axis 0."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ExecutionError
from mgc.isa.functions import cast, evaluate
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Rewrite, WriteCells
from mgc.isa.machine import Machine, Updates
from mgc.isa.program import Program
from mgc.sim.engine import failure
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.host import HostSegments


class DoubtError(Exception):
    """A guard does not hold: what the plan computes for these inputs may differ from what the program says."""


@dataclass(frozen=True)
class Slot:
    """A value between operations, written once. shape: of one micro-batch; batched: k of them lie along axis 0."""

    id: int
    shape: tuple[int, ...]
    dtype: np.dtype
    batched: bool
    opaque: bool = False


Arrays = dict[int, Any]
"""Slot id -> array (or opaque object; a list of k of them if batched)."""


class RunContext:
    """What operations share: the program, the host, cells for instructions that run as the reference runs them."""

    def __init__(self, program: Program, ideal: bool, threads: int | None, updates: Updates | None = None) -> None:
        self.program = program
        self.ideal = ideal
        self.updates = updates
        self._host = HostSegments(program, threads)
        self._cells: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def run_host(self, segment: int, args: Sequence[Any]) -> list[Any]:
        """Runs a host segment, one at a time."""
        with self._lock:
            return self._host.run(segment, args)

    def machine(self, groups: Sequence[int]) -> Machine:
        """A machine whose cells of `groups` are written."""
        machine = Machine(self.program, self.ideal, self.run_host)
        with self._lock:
            for i in self.program.instructions:
                if isinstance(i, WriteCells | Rewrite) and i.group in groups and i.group not in self._cells:
                    i.execute(machine)
                    self._cells[i.group] = machine.cells[i.group]
        machine.cells = dict(self._cells)
        return machine


class Item(Protocol):
    """One operation: slots it reads and writes, and its work."""

    @property
    def reads(self) -> tuple[Slot, ...]: ...
    @property
    def writes(self) -> tuple[Slot, ...]: ...
    def run(self, context: RunContext, arrays: Arrays, k: int, threads: int) -> None:
        """Adds what it writes to `arrays`, for k micro-batches."""
        ...


@dataclass
class GraphItem:
    """One ONNX graph."""

    graph: GraphBuilder
    feeds: dict[str, Slot] = field(default_factory=dict)
    fetches: dict[str, Slot] = field(default_factory=dict)
    guard: str | None = None

    @property
    def reads(self) -> tuple[Slot, ...]:
        return tuple(self.feeds[n] for n in self.graph.live_inputs() if n in self.feeds)

    @property
    def writes(self) -> tuple[Slot, ...]:
        return tuple(self.fetches.values())

    def run(self, context: RunContext, arrays: Arrays, k: int, threads: int) -> None:
        session = self.graph.session(threads)
        feeds = {n: _plain(arrays[s.id], s.dtype) for n, s in self.feeds.items() if n in session.inputs}
        if "k" in session.inputs:
            feeds["k"] = np.array([k], np.int64)
        names = [*self.fetches, *([self.guard] if self.guard else [])]
        results = session.run(names, feeds)
        if self.guard and not np.isfinite(results.pop()).all():
            raise DoubtError
        for slot, array in zip(self.fetches.values(), results, strict=True):
            arrays[slot.id] = array


def _plain(value: np.ndarray | np.generic, dtype: np.dtype) -> np.ndarray:
    """The value as an array, row-major and of a type."""
    if isinstance(value, np.ndarray) and value.dtype == dtype and value.flags.c_contiguous:
        return value
    return np.ascontiguousarray(value, dtype).reshape(value.shape)


@dataclass(frozen=True)
class StepItem:
    """One VEC step as the ISA's own NumPy function, over all micro-batches at once."""

    function: int
    args: tuple[tuple[Slot, tuple[int, ...]] | np.ndarray, ...]
    attributes: tuple[float, ...]
    result: Slot

    @property
    def reads(self) -> tuple[Slot, ...]:
        return tuple(a[0] for a in self.args if isinstance(a, tuple))

    @property
    def writes(self) -> tuple[Slot, ...]:
        return (self.result,)

    def run(self, context: RunContext, arrays: Arrays, k: int, threads: int) -> None:
        arrays[self.result.id] = evaluate(self.function, self.operands(arrays, k), self.attributes, context.ideal)

    def operands(self, arrays: Arrays, k: int) -> list[np.ndarray]:
        """The operands for k micro-batches."""
        found = []
        for a in self.args:
            if isinstance(a, tuple):
                slot, shape = a
                a = arrays[slot.id].reshape((k * shape[0], *shape[1:]) if slot.batched else shape)
            found.append(a)
        return found


@dataclass(frozen=True)
class MachineItem:
    """Instructions as the reference runs them, micro-batch after micro-batch.

    before, constants: the root buffers that they read, and what these hold; after: those that they write. weights:
    for each instruction where the weights of its group are, None if they do not change.
    """

    instructions: tuple[Instruction, ...]
    before: tuple[tuple[int, Slot], ...]
    constants: tuple[tuple[int, np.ndarray], ...]
    after: tuple[tuple[int, Slot], ...]
    weights: tuple[Slot | None, ...]

    @property
    def reads(self) -> tuple[Slot, ...]:
        return (*(s for _, s in self.before), *dict.fromkeys(s for s in self.weights if s is not None))

    @property
    def writes(self) -> tuple[Slot, ...]:
        return tuple(s for _, s in self.after)

    def run(self, context: RunContext, arrays: Arrays, k: int, threads: int) -> None:
        steps = list(zip(self.instructions, self.weights, strict=True))
        machine = context.machine([g for i, slot in steps if slot is None for g in i.reads_groups()])
        written: dict[int, int] = {}  # group -> the slot of the weights in its cells
        found: list[list[Any]] = [[] for _ in self.after]
        batched = any(s.batched for _, s in self.after)
        for m in range(k if batched else 1):
            machine.begin({})
            for root, constant in self.constants:
                machine.write(root, constant.reshape(context.program.buffers[root].shape))
            for root, slot in self.before:
                machine.write(root, _micro_batch(arrays, slot, m, context.program.buffers[root].shape))
            for i, slot in steps:
                if slot is not None:
                    (group,) = i.reads_groups()
                    if written.get(group) != slot.id:
                        machine.write_cells(group, arrays[slot.id])
                        written[group] = slot.id
                try:
                    with np.errstate(all="ignore"):
                        i.execute(machine)
                except ExecutionError as error:
                    raise failure(context.program, i, error) from error
            for (root, _), results in zip(self.after, found, strict=True):
                results.append(machine.buffer(root))
        for (_, slot), results in zip(self.after, found, strict=True):
            arrays[slot.id] = _joined(slot, results)


def _micro_batch(arrays: Arrays, slot: Slot, m: int, shape: tuple[int, ...]) -> Any:
    """Micro-batch m of a slot."""
    array = arrays[slot.id]
    if slot.opaque:
        return array[m] if slot.batched else array
    if not slot.batched:
        return array.reshape(shape)
    if not slot.shape:  # as many scalars as micro-batches
        return array[m]
    rows = slot.shape[0]
    return array[m * rows : (m + 1) * rows].reshape(shape)


def _joined(slot: Slot, results: list[Any]) -> Any:
    if slot.opaque or not slot.batched:
        return results if slot.batched else results[0]
    return np.concatenate(results) if slot.shape else np.stack(results)


@dataclass(frozen=True)
class LoadItem:
    """A port's array in its buffer's element type."""

    port: str
    result: Slot

    def load(self, value: Any, k: int) -> Any:
        """The slot's content for k micro-batches from the port's."""
        if self.result.opaque:
            return [value] * k if self.result.batched else value
        if value.dtype == self.result.dtype:
            return value
        with np.errstate(all="ignore"):
            return cast(value, self.result.dtype)


@dataclass(frozen=True)
class StoreItem:
    """A slot, or a constant, as an output port."""

    port: int
    value: Slot | np.ndarray

    @property
    def reads(self) -> tuple[Slot, ...]:
        return (self.value,) if isinstance(self.value, Slot) else ()

    def store(self, program: Program, arrays: Mapping[int, Any], k: int) -> Any:
        """The port's array for k micro-batches."""
        port = program.outputs[self.port]
        repeated = program.entry.batched and port.batched
        if isinstance(self.value, Slot):
            value, batched = arrays[self.value.id], self.value.batched
            if self.value.opaque:
                return value[0] if batched else value
        else:
            value, batched = self.value, False
        if batched:
            value = value.reshape((k * port.shape[0], *port.shape[1:]))
            value = value if repeated else value[: port.shape[0]]
        else:
            value = value.reshape(port.shape)
            value = np.concatenate([value] * k) if repeated else value
        dtype = numpy_dtype(port.dtype)
        if value.dtype == dtype:
            return value.copy()
        with np.errstate(all="ignore"):
            return cast(value, dtype)
