"""What goes from pass to pass beside the module: the target, tools from outside, the seed, warnings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from mgc.ir.graph import Graph
from mgc.ir.module import Entry, Module
from mgc.ir.training import State
from mgc.targets.description import Target

Exporter = Callable[[Graph], bytes]
"""A level-1 graph as a serialised ONNX model; inputs and outputs keep their names."""

Runner = Callable[[bytes, Sequence[Mapping[str, np.ndarray]]], Iterable[Mapping[str, np.ndarray]]]
"""Runs a serialised ONNX model once for each set of feeds, deterministically; results under the output names."""


class UnsupportedError(ValueError):
    """What was asked cannot be done; the message says what, where, and what to do."""


def _missing(*_: Any) -> Any:
    raise ValueError("this pass needs a tool that nobody handed in")


@dataclass(frozen=True)
class Tools:
    """What passes need from outside of `mgc.ir` and `targets`, handed in by the compiler.

    reimport: a serialised ONNX model, batch size and sizes of named dimensions -> its level-1 graph. templates: the
    models of a training module (name -> serialised ONNX) and its states -> what the program keeps of them, and the
    testing entry (see `mgc.compiler`). kept: results of passes that hold for other targets of the same network as well,
    by all that they depend on; None where there is only one target. values: what values of a graph were in its first
    samples, so that it need not be run again for them; a pass that does not find it runs the graph, with the same
    result.
    """

    export: Exporter = _missing
    run: Runner = _missing
    reimport: Callable[[bytes, int, Mapping[str, int]], Graph] = _missing
    templates: Callable[[CompileState], CompileState] = _missing
    kept: dict[Hashable, Any] | None = None
    values: WeakKeyDictionary[Graph, Sequence[Mapping[str, np.ndarray]]] = field(default_factory=WeakKeyDictionary)


@dataclass(frozen=True)
class CompileState:
    """All that passes read and hand on; a pass returns a changed copy and leaves the graphs of the one it got alone.

    What passes leave for later ones stands in the attributes of the module and its entries. `warnings` is one list for
    all copies: what the user is shown at the end.
    """

    module: Module
    target: Target
    tools: Tools = field(default_factory=Tools)
    seed: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def trains(self) -> bool:
        """Whether an entry trains: scales are then computed on the chip, and weights are as wide as training's."""
        return any(e.kind == "train" for e in self.module.entries)

    @property
    def dataflow(self) -> str:
        """What of a training iteration may overlap, see `mgc.passes.streaming.dataflow`."""
        setup = self.module.attributes.get("training")
        return setup.dataflow if setup else "parallel"

    @property
    def entry(self) -> Entry:
        """The only entry. ValueError if there are several."""
        (entry,) = self.module.entries
        return entry

    @property
    def graph(self) -> Graph:
        """The graph of the only entry."""
        return self.entry.graph

    @property
    def chip(self) -> Target:
        """The target with weights as wide as they are stored."""
        if not self.trains:
            return self.target
        bits = self.target.training.master_bits
        crossbar = self.target.crossbar.model_copy(update={"weight_bits": bits})
        return self.target.model_copy(update={"crossbar": crossbar})

    def with_entries(
        self, entries: Sequence[Entry], states: Sequence[State] | None = None, **attributes: Any
    ) -> CompileState:
        """A copy with other entries, perhaps other states, and with more attributes of the module."""
        module, known = self.module, {**self.module.attributes, **attributes}
        states = module.states if states is None else tuple(states)
        return replace(self, module=replace(module, entries=tuple(entries), states=states, attributes=known))

    def without(self, *names: str) -> CompileState:
        """A copy whose module has lost some attributes."""
        left = {k: v for k, v in self.module.attributes.items() if k not in names}
        return replace(self, module=replace(self.module, attributes=left))


def with_graph(entry: Entry, graph: Graph, **attributes: Any) -> Entry:
    """A copy of an entry with another graph, and with more attributes (None takes one away)."""
    known = {**entry.attributes, **attributes}
    return replace(entry, graph=graph, attributes={k: v for k, v in known.items() if v is not None})
