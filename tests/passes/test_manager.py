"""The pass manager: order, times, dumps, and who is to blame for a broken graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
from pass_graphs import state_of

from mgc.ir.graph import Graph
from mgc.ir.ops import Unary
from mgc.ir.types import DType, TensorType
from mgc.passes.manager import Pass, PassError, PassManager
from mgc.passes.state import CompileState, with_graph


@dataclass(frozen=True)
class Idle(Pass):
    """Does nothing."""

    name: ClassVar[str] = "idle"

    def run(self, state: CompileState) -> CompileState:
        return state


@dataclass(frozen=True)
class Breaks(Pass):
    """Reverses the nodes."""

    name: ClassVar[str] = "breaks"

    def run(self, state: CompileState) -> CompileState:
        graph = state.graph.copy()
        graph.nodes.reverse()
        return state.with_entries([with_graph(state.entry, graph)])


def chain() -> Graph:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2,)))
    graph.outputs = [("y", graph.add(Unary("exp"), graph.add(Unary("relu"), x)))]
    return graph


def test_records_every_pass_with_its_time() -> None:
    manager = PassManager([Idle(), Idle()])
    told: list[tuple[str, int]] = []
    manager.run(state_of(chain()), lambda name, done: told.append((name, done)))
    assert told == [("idle", 0), ("idle", 1)]
    assert [r.name for r in manager.records] == ["idle", "idle"]
    assert all(r.seconds >= 0 for r in manager.records)


def test_broken_graph_names_the_pass_and_those_before_it() -> None:
    manager = PassManager([Idle(), Breaks(), Idle()], before=["import"])
    with pytest.raises(PassError, match=r"pass breaks left a graph .* \(passes before it: import, idle\)"):
        manager.run(state_of(chain()))


def test_stages_are_numbered_and_include_the_one_that_broke() -> None:
    dumped: list[tuple[int, str]] = []
    manager = PassManager(
        [Idle(), Breaks()], lambda state, number, name, later: dumped.append((number, name)), ["import"]
    )
    with pytest.raises(PassError):
        manager.run(state_of(chain()))
    assert dumped == [(2, "idle"), (3, "breaks")]
