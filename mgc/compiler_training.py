"""ONNX networks and a loss in, training program out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mgc
from mgc.compiler import CompileStats, Progress
from mgc.ir.graph import Graph
from mgc.ir.training import Iteration, State, TrainingModel
from mgc.isa.program import Program
from mgc.isa.verify_schedule import check_schedule
from mgc.options import CompileOptions
from mgc.passes.fuse_loss import fuse_training_model
from mgc.passes.losses.report import LossReport
from mgc.passes.manager import PassRecord, UnsupportedError
from mgc.passes.streaming.dataflow import DEFAULT_DATAFLOW
from mgc.passes.training.compose import compose
from mgc.passes.training.lift import lift
from mgc.passes.training.model import Network, step_model
from mgc.passes.training.step import training_iteration
from mgc.passes.training_pipeline import TrainingEntry, TrainingPasses
from mgc.passes.training_plan import TrainingPlan
from mgc.passes.work import training_totals
from mgc.targets.codegen.bill import bill
from mgc.targets.codegen.emit_training import emit_training
from mgc.targets.cost import CostModel
from mgc.targets.description import Target
from mgc.targets.loader import load_target

if TYPE_CHECKING:
    from mgc.frontend.load import Source
    from mgc.frontend.skeleton import Skeletons
    from mgc.frontend.training_model import TrainableModel

GENERATOR, DISCRIMINATOR = "generator", "discriminator"

SEPARATE = "dataflow cyclic: with a phase of several steps, iterations follow one another, as in parallel"

SHARED = (
    "dataflow shared: every phase reads the parameters as they were before the iteration, so the generator's step sees "
    "the discriminator before its update; this is another training than that of the models' script"
)


def compile_training_with_stats(
    model: Source, options: CompileOptions, progress: Progress | None = None
) -> tuple[Program, CompileStats]:
    """`compile_with_stats` of options that ask for training."""
    discriminator, target, batch, dims, seed = (
        getattr(options, name) for name in ("discriminator", "target", "batch", "dims", "seed")
    )
    dataflow = options.dataflow or DEFAULT_DATAFLOW
    begin = time.perf_counter()
    report = progress or (lambda name, fraction: None)
    chip = target if isinstance(target, Target) else load_target(target)
    records: list[PassRecord] = []

    def record(name: str, since: float) -> float:
        now = time.perf_counter()
        records.append(PassRecord(name, now - since))
        return now

    report("import", 0.0)
    sources = {GENERATOR: model, DISCRIMINATOR: discriminator} if discriminator is not None else {"": model}
    loaded = {name: _loaded(name, source, batch, dims) for name, source in sources.items()}
    common = _common_nodes(loaded)
    for name, network in loaded.items():
        _tell_apart(network.imported.graph, name, common)
    at = record("import", begin)
    report("compose", 0.1)
    forward = _forward(loaded, options)
    at = record("compose", at)
    report("fuse-loss", 0.15)
    forward, losses = fuse_training_model(forward)
    at = record("fuse-loss", at)
    report("differentiate", 0.2)
    shared = dataflow == "shared"
    iteration = training_iteration(forward, options.parsed_phases, options.rule, old_versions=shared)
    at = record("differentiate", at)
    batch = _samples(forward, batch)
    skeletons = _skeletons(loaded, iteration.states)
    entries = _entries(iteration, batch)
    test, warnings = _testing(skeletons, iteration.states, dims, common)
    passes = TrainingPasses(
        chip, None if options.dump_dir is None else Path(options.dump_dir), dataflow=dataflow, progress=report
    )
    plan = passes.run([*entries, *test], iteration.states, batch)
    records += passes.records
    report("emit", 0.9)
    at = time.perf_counter()
    program = emit_training(plan, chip, name=forward.graph.name, meta={})
    program = replace(
        program,
        tensors={**program.tensors, **skeletons.tensors()},
        meta=_meta(program, chip, loaded, iteration, forward, losses, skeletons, seed, dataflow) | _work(plan),
    )
    at = record("emit", at)
    check_schedule(program)
    record("verify-schedule", at)
    report("done", 1.0)
    told = (
        *([SEPARATE] if dataflow == "cyclic" and sum(s.repeats for s in iteration.segments) > 1 else ()),
        *([SHARED] if shared and len(options.parsed_phases) > 1 else ()),
        *(f"{name}: {w}" if name else w for name, m in loaded.items() for w in m.warnings),
        *iteration.warnings,
        *skeletons.warnings,
        *warnings,
    )
    return program, CompileStats(tuple(records), tuple(dict.fromkeys(told)), time.perf_counter() - begin)


def _loaded(name: str, source: Source, batch: int, dims: Mapping[str, int] | None) -> TrainableModel:
    """A network to be trained; where there are two (`name` is not ""), an error says which of them it is about."""
    from mgc.frontend.errors import ModelError
    from mgc.frontend.training_model import load_trainable

    try:
        return load_trainable(source, batch=batch, dims=dims)
    except ModelError as error:
        file = str(source) if isinstance(source, str | Path) else ""
        if not name or (file and file in str(error)):
            raise
        raise ModelError(str(error), where=f"{name} {file}".strip()) from error


def _common_nodes(loaded: Mapping[str, TrainableModel]) -> frozenset[str]:
    """Names of ONNX nodes that several networks have; none where there is one file."""
    names = [{s for node in m.imported.graph.nodes for s in node.sources} for m in loaded.values()]
    return frozenset(s for k, own in enumerate(names) for other in names[:k] for s in own & other)


def _tell_apart(graph: Graph, name: str, common: frozenset[str]) -> None:
    """Puts the network's name before those of ONNX nodes that another one has too, in place, as states have it."""
    for node in graph.nodes:
        node.sources = tuple(f"{name}.{s}" if s in common else s for s in node.sources)


# -- the level-1 graphs -----------------------------------------------------------------------------------------------


def _network(loaded: TrainableModel) -> Network:
    return Network(loaded.imported.graph, loaded.weights, loaded.parameters)


def _forward(loaded: Mapping[str, TrainableModel], options: CompileOptions) -> TrainingModel:
    if DISCRIMINATOR not in loaded:
        (model,) = loaded.values()
        return step_model(_network(model), options.parsed_phases, options.groups)
    generator, discriminator = (_network(loaded[name]) for name in (GENERATOR, DISCRIMINATOR))
    return compose(
        generator,
        discriminator,
        str(options.loss),
        gp_weight=10.0 if options.gp_weight is None else options.gp_weight,
        redraw_noise=options.redraw_noise,
    )


def _skeletons(loaded: Mapping[str, TrainableModel], states: Sequence[State]) -> Skeletons:
    from mgc.frontend.skeleton import composed_skeletons, step_skeletons

    if DISCRIMINATOR in loaded:
        return composed_skeletons({name: m.model for name, m in loaded.items()}, states)
    (model,) = loaded.values()
    return step_skeletons(model.model, states, model.parameters)


def _samples(forward: TrainingModel, batch: int) -> int:
    """Samples in a batch: what the data have along axis 0, which a model may state whatever was asked for."""
    names = {d.name for d in forward.data}
    rows = [v.shape[0] for v in forward.graph.inputs if v.name in names and v.shape]
    return rows[0] if rows else batch


def _entries(iteration: Iteration, batch: int) -> list[TrainingEntry]:
    entries: list[TrainingEntry] = []
    for number, segment in enumerate(iteration.segments):
        name = " and ".join(p.name for p in segment.step.phases)
        if any(e.name == name for e in entries):
            name = f"{name} {number}"
        entries.append(TrainingEntry(name, "train", segment.repeats, segment.step.graph, batch))
    return entries


def _testing(
    skeletons: Skeletons, states: Sequence[State], dims: Mapping[str, int] | None, common: frozenset[str]
) -> tuple[list[TrainingEntry], list[str]]:
    """The generator in inference form, one sample at a time, reading the states that training leaves."""
    from mgc.frontend.errors import ModelError
    from mgc.frontend.training_model import load_trainable

    testing = skeletons.testing
    if testing is None:
        return [], ["no network of the model could be told to make samples: the program has no testing entry"]
    try:
        loaded = load_trainable(testing.model, batch=1, dims=dims)
        _tell_apart(loaded.imported.graph, testing.name, common)
        by_name = {s.name: s for s in states}
        used = {c.onnx_name for c in loaded.imported.graph.constants.values()}
        own = [
            replace(by_name[state], onnx_name=initializer)
            for initializer, state in testing.states.items()
            if initializer in used
        ]
        graph = lift(_without_names(loaded.imported.graph, by_name), own)
    except (ModelError, UnsupportedError) as error:
        return [], [f"the program has no testing entry: network {testing.name} cannot be imported alone: {error}"]
    batched = loaded.imported.batch_dim is not None
    size = 1 if batched else _rows(graph, by_name)
    return [TrainingEntry("testing", "test", 1, graph, size, batched)], []


def _without_names(graph: Graph, states: Mapping[str, State]) -> Graph:
    """The graph; UnsupportedError if an input has the name of a state."""
    clash = [v.name for v in graph.inputs if v.name in states]
    if clash:
        raise UnsupportedError(f"input {clash[0]} has the name of a weight")
    return graph


def _rows(graph: Graph, states: Mapping[str, State]) -> int:
    shapes = [v.shape for v in graph.inputs if v.name not in states]
    return next((s[0] for s in shapes if s), 1)


# -- what the program tells of itself ---------------------------------------------------------------------------------


def _meta(
    program: Program,
    chip: Target,
    loaded: Mapping[str, TrainableModel],
    iteration: Iteration,
    forward: TrainingModel,
    losses: Sequence[LossReport],
    skeletons: Skeletons,
    seed: int,
    dataflow: str,
) -> dict[str, Any]:
    # nobody knows which inputs of a step model are noise: those that are not given
    normal = "noise" if DISCRIMINATOR in loaded else ""
    roles = {"normal": normal, "uniform": "uniform", "given": "data"}
    return {
        "compiler": {"version": mgc.__version__, "seed": seed},
        "model_sha256": next(iter(loaded.values())).imported.model_sha256,
        "models_sha256": {name: m.imported.model_sha256 for name, m in loaded.items()},
        "losses": [r.to_json_dict() for r in losses],
        "training": {"inputs": {d.name: roles[d.draw] for d in forward.data}, "dataflow": dataflow},
        "export": skeletons.meta(),
        "crossbars": {"used": sum(len(g.crossbars) for g in program.groups), "available": chip.crossbars},
        **bill(program, CostModel(chip)),
    }


def _work(plan: TrainingPlan) -> dict[str, Any]:
    """Multiply-accumulates of one iteration, and how the crossbars are shared out."""
    useful = mapped = 0
    for entry in plan.entries:
        if entry.kind == "train":
            own = training_totals(entry.graph)
            useful, mapped = useful + own[0] * entry.repeats, mapped + own[1] * entry.repeats
    split = None if plan.split is None else plan.split.to_json_dict()
    return {"macs_useful": useful, "macs_mapped": mapped, "allocation": split}
