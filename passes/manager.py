"""What a pass is, the state that goes from pass to pass, and the manager that verifies, times and dumps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mgc.ir.graph import Graph
from mgc.ir.op import IRError
from mgc.ir.verifier import verify
from mgc.passes.plan import Plan
from mgc.targets.description import Target

if TYPE_CHECKING:
    from mgc.passes.calibrate import Calibration
    from mgc.passes.losses.report import LossReport
    from mgc.passes.quantizing.quality import LayerQuality

Exporter = Callable[[Graph], bytes]
"""A level-1 graph as a serialised ONNX model; inputs and outputs keep their names."""

Runner = Callable[[bytes, Sequence[Mapping[str, np.ndarray]]], Sequence[Mapping[str, np.ndarray]]]
"""Runs a serialised ONNX model once for each set of feeds, deterministically; results under the output names."""


@dataclass(frozen=True)
class Tools:
    """What passes need from outside of `mgc.ir` and `targets`, handed in by the compiler."""

    export: Exporter
    run: Runner


class PassError(IRError):
    """A pass left a graph that the verifier refuses: a defect of the pass, named in the message."""


class UnsupportedError(ValueError):
    """What was asked cannot be done; the message says what, where, and what to do."""


@dataclass(frozen=True)
class CompileState:
    """All that passes read and hand on; a pass returns a changed copy (`dataclasses.replace`).

    batch: samples asked for. graph_batch: the size of the batch dimension in `graph` as imported; `batched_inputs`
    names the inputs whose axis 0 it is (none: the model has no dynamic batch). For a batch of 1 the graph is imported
    at 2, so that the batch can be told from other ones of size 1; `reimport` gives the graph at another batch size.
    micro_batch, micro_batches, batched: set by `split-batch`; batched says that axis 0 of every input and output is
    the samples', but of those in `whole_ports`, which all samples share, and that micro-batches are independent.
    calibration_data: arrays under the input names, samples along axis 0; None: noise drawn with `seed`.
    calibration: set by `calibrate`. plan: set by the mapping passes. warnings: shown to the user at the end.
    losses: set by `fuse-loss`. quality: of each layer, set by `quantize`.
    """

    graph: Graph
    target: Target
    tools: Tools
    batch: int = 1
    graph_batch: int = 1
    batched_inputs: tuple[str, ...] = ()
    reimport: Callable[[int], Graph] | None = None
    micro_batch: int = 1
    micro_batches: int = 1
    batched: bool = False
    whole_ports: frozenset[str] = frozenset()
    seed: int = 0
    calibration_data: Mapping[str, np.ndarray] | None = None
    calibration: Calibration | None = None
    plan: Plan | None = None
    warnings: tuple[str, ...] = ()
    losses: tuple[LossReport, ...] = ()
    quality: tuple[LayerQuality, ...] = ()


@dataclass(frozen=True)
class Pass:
    """Base of all passes: a frozen dataclass; its fields are its options, its docstring is its contract.

    `name` is kebab-case; `levels` are the levels of the ops in the graph that it leaves.
    """

    name: ClassVar[str] = ""
    levels: ClassVar[tuple[int, ...]] = (1,)

    def run(self, state: CompileState) -> CompileState:
        """The state after this pass. The graph of `state` itself stays as it is."""
        raise TypeError(f"{type(self).__name__} has no run method")


@dataclass(frozen=True)
class PassRecord:
    """One pass that ran, and how long it took in wall-clock seconds (verifier and dump not included)."""

    name: str
    seconds: float


@dataclass
class PassManager:
    """Runs passes in order; verifies after each, times each, and writes each stage to `dump_dir` if given.

    `before` names the steps that made the first graph ("import"). Stages are numbered after those: `03-fold.ir`, and
    `03-fold.onnx` while the graph is of level 1.
    """

    passes: Sequence[Pass]
    dump_dir: Path | None = None
    before: Sequence[str] = ()
    records: list[PassRecord] = field(default_factory=list)

    def run(self, state: CompileState, progress: Callable[[str, int], None] | None = None) -> CompileState:
        """The state after all passes. PassError, naming the pass and those before it, where a graph fails to verify.

        `progress` is called before each pass with its name and how many are done.
        """
        ran = list(self.before)
        for number, pass_ in enumerate(self.passes, len(self.before) + 1):
            if progress is not None:
                progress(pass_.name, len(ran) - len(self.before))
            begin = time.perf_counter()
            state = pass_.run(state)
            self.records.append(PassRecord(pass_.name, time.perf_counter() - begin))
            error = _broken(state.graph, pass_.levels)
            if self.dump_dir is not None:
                dump(state.graph, self.dump_dir, number, pass_.name, None if error else state.tools.export)
            if error:
                history = f"passes before it: {', '.join(ran)}" if ran else "it was the first pass"
                raise PassError(f"pass {pass_.name} left a graph that does not verify: {error} ({history})") from error
            ran.append(pass_.name)
        return state


def _broken(graph: Graph, levels: tuple[int, ...]) -> IRError | None:
    try:
        verify(graph, levels=levels)
    except IRError as error:
        return error
    return None


def dump(graph: Graph, folder: Path, number: int, name: str, export: Exporter | None) -> None:
    """Writes `NN-name.ir`, and `NN-name.onnx` where all ops are of level 1 and the graph is fit to `export`.

    The folder is made if need be.
    """
    from mgc.ir.text import print_graph

    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{number:02d}-{name}"
    stem.with_suffix(".ir").write_text(print_graph(graph, elide=False), encoding="utf-8")
    if export is not None and all(node.op.level == 1 for node in graph.nodes):
        stem.with_suffix(".onnx").write_bytes(export(graph))
