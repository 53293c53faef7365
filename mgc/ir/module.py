"""A module: named entries, each with its graph, and the states that live from run to run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from mgc.ir.graph import Graph
from mgc.ir.op import IRError
from mgc.ir.training import State
from mgc.ir.types import tensor_type_of
from mgc.ir.verifier import verify

EntryKind = Literal["train", "test"]


@dataclass(eq=False)
class Entry:
    """What a program can be asked to run: a graph, how often, on how many samples.

    An iteration runs each entry of kind "train" `repeats` times; one of kind "test" runs by itself. A run of the entry
    runs the graph `micro_batches` times, each on `micro_batch` samples. `batched` says that axis 0 of every input and
    output is the samples' and that samples do not mix. `attributes` hold what passes leave for later passes; they may
    refer to values and nodes of the graph. An entry of kind "train" is part of the iterations `since` .. `until` - 1,
    counted from 0 (0: of all from `since` on).
    """

    name: str
    kind: EntryKind
    graph: Graph
    repeats: int = 1
    micro_batch: int = 1
    micro_batches: int = 1
    batched: bool = False
    since: int = 0
    until: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Module:
    """All entries of a program to be and the states that they share; `attributes` as an entry's, but of all of it.

    A state is known to a graph as the input of its name; a new value leaves as the output NAME.next.
    """

    name: str
    entries: tuple[Entry, ...]
    states: tuple[State, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)


def verify_module(module: Module, *, levels: tuple[int, ...] = (1,)) -> None:
    """Checks every graph (see `mgc.ir.verifier.verify`), the entries' numbers and names, and the states' types.

    Raises IRError that ends with the name of the entry.
    """
    _distinct("entries", [e.name for e in module.entries])
    _distinct("states", [s.name for s in module.states])
    states = {s.name: s for s in module.states}
    for entry in module.entries:
        try:
            verify(entry.graph, levels=levels)
            if entry.kind not in ("train", "test"):
                raise IRError(f"the kind is {entry.kind!r}, train or test is expected")
            if min(entry.repeats, entry.micro_batch, entry.micro_batches) < 1:
                raise IRError("repeats, micro_batch and micro_batches are 1 or more")
        except IRError as error:
            raise IRError(f"{error} (entry {entry.name!r})") from error
        for value in entry.graph.inputs:
            state = states.get(value.name)
            if levels == (1,) and state is not None and tensor_type_of(state.initial) != value.type:
                raise IRError(
                    f"state {state.name!r} starts as {tensor_type_of(state.initial)}, but the input is {value} "
                    f"(entry {entry.name!r})"
                )


def _distinct(what: str, names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise IRError(f"the {what} are {', '.join(names)}: every name may stand there once only")
