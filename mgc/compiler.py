"""ONNX in, program out: the one place that strings frontend, passes, targets and codegen together."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mgc.accuracy import Accuracy
from mgc.calibration import load_calibration
from mgc.functions.onnx_model import ModelRunError, OnnxModel
from mgc.images import DEFAULT_RANGE
from mgc.ir.graph import Graph
from mgc.ir.module import Entry, Module
from mgc.isa.program import Program as StoredProgram
from mgc.options import CompileOptions, takes_options
from mgc.passes.manager import Dump, Pass, PassManager, PassRecord
from mgc.passes.pipeline import passes
from mgc.passes.quantizing.calibrate import EXTRA_BITS
from mgc.passes.registry import by_name
from mgc.passes.state import CompileState, Tools, UnsupportedError
from mgc.passes.streaming.dataflow import DEFAULT_DATAFLOW
from mgc.passes.tensor.split_batch import Batching
from mgc.program import Program
from mgc.targets.codegen.emit import Emit, PortInfo, VerifySchedule
from mgc.torch_models import as_source
from mgc.version import VERSION

if TYPE_CHECKING:
    from mgc.frontend.budget import Budget
    from mgc.frontend.importer import ImportedModel, Named
    from mgc.frontend.load import Source
    from mgc.frontend.training_model import TrainableModel

Progress = Callable[[str, float], None]

AFTER: tuple[Pass, ...] = (Emit(), VerifySchedule(), Accuracy())
"""What follows the passes that map and schedule."""


@dataclass(frozen=True)
class CompileStats:
    """What a compilation tells besides its program: seconds for each pass and in all, warnings for the user."""

    passes: tuple[PassRecord, ...]
    warnings: tuple[str, ...]
    seconds: float


@takes_options(CompileOptions)
def compile(model: Any, example: Any, options: CompileOptions) -> Program:
    """Compiles an ONNX network for inference, or one iteration of adversarial training.

    model: path, bytes or ModelProto, never written; what `torch.onnx.export` returned; or a `torch.nn.Module`, with its
    inputs as `example` (a tensor or several, samples on axis 0). With `discriminator` and `loss` it is the generator;
    with `phases` a step model whose outputs are losses, each minimised over the parameters NAME.* or `groups`. target:
    a name of `mgc targets`, a TOML file, or a Target. calibrate "none" is for `float` numerics only. Raises ModelError,
    TargetError, CapacityError or UnsupportedError (all ValueError) with what, where and what to do. The options:
    """
    source = as_source(model, example, trains=options.trains)
    return Program(**vars(compile_with_stats(source, options)[0]))


compile_training = compile


def compile_with_stats(
    model: Source, options: CompileOptions, progress: Progress | None = None
) -> tuple[StoredProgram, CompileStats]:
    """`compile`, with what it took. `progress` is called with the step's name and the fraction done, 0 to 1."""
    begin = time.perf_counter()
    report = progress or (lambda name, fraction: None)
    report("import", 0.0)
    state = imported_state(model, options)
    imported = PassRecord("import", time.perf_counter() - begin)
    steps = all_passes(options)
    dump: Dump | None = None
    if options.dump_dir is not None:
        from mgc.dump import dump_to

        dump = dump_to(Path(options.dump_dir))
        dump(state, 1, "import", steps)
    manager = PassManager(steps, dump, before=("import",))
    state = manager.run(state, lambda name, done: report(name, (1 + done) / (len(steps) + 1)))
    report("done", 1.0)
    program: StoredProgram = state.module.attributes["program"]
    records = (imported, *manager.records)
    if options.extra_bits:
        state.warnings.extend(_without_effect(program, options))
    return program, CompileStats(records, tuple(dict.fromkeys(state.warnings)), time.perf_counter() - begin)


def _without_effect(program: StoredProgram, options: CompileOptions) -> Iterator[str]:
    """Why more bits that were asked for were not given to any code."""
    crossbar, target = options.chip.crossbar, options.chip.name
    if any(g.arithmetic.input_bits > crossbar.input_bits for g in program.groups):
        return
    why = (
        f"target {target} has input registers of {crossbar.widest_input} bits, as many as codes have (register_bits in "
        "its [crossbar] table says how many)"
        if crossbar.widest_input <= crossbar.input_bits
        else f"no value is worth more than {crossbar.input_bits} bits within this share of the reads, as far as errors "
        "could be followed to the outputs, or the model states its codes itself"
    )
    yield f"--extra-bits {options.extra_bits:g} changes nothing: {why}"


def all_passes(options: CompileOptions) -> tuple[Pass, ...]:
    """What runs on `imported_state`, in order."""
    extra = EXTRA_BITS if options.extra_bits is None else options.extra_bits
    how = {"objective": options.objective, "extra_bits": extra}
    return (*passes(options.calibrate, training=options.trains, **how), *AFTER)


# -- import -----------------------------------------------------------------------------------------------------------


def imported_state(model: Source, options: CompileOptions) -> CompileState:
    """The networks as a module, with all that passes need."""
    chip, warnings = options.chip, list[str]()
    module = (_training_module if options.trains else _inference_module)(model, options, warnings)
    module.attributes["compiler"] = {"version": VERSION, "seed": options.seed, "options": options.to_json_dict()}
    return CompileState(module, chip, compile_tools(_budget(options)), options.seed, warnings)


def _inference_module(model: Source, options: CompileOptions, warnings: list[str]) -> Module:
    """A network as a module with the entry "testing"."""
    from mgc.frontend.load import self_contained

    batch, dims = options.batch, dict(options.dims or {})
    imported, graph_batch = _import_for_analysis(model, batch, dims, _budget(options))
    warnings.extend(imported.warnings)
    data = load_calibration(options.calibration, imported.graph, options.image_range or DEFAULT_RANGE)
    name = imported.batch_dim
    batched = () if name is None else tuple(i.name for i in imported.inputs if i.shape and i.shape[0] == name)
    again = b"" if graph_batch == batch else self_contained(model)
    attributes: dict[str, Any] = {
        "ports": {d.name: PortInfo(_numpy_name(d.dtype), tuple(map(str, d.shape or ()))) for d in _described(imported)},
        "batching": Batching(batch, graph_batch, batched, again, dims),
    }
    entry = Entry("testing", "test", imported.graph, attributes=attributes)
    module = Module(imported.graph.name, (entry,), (), {"hashes": {"": imported.model_sha256}})
    if data is not None:
        module.attributes["calibration_data"] = dict(data)
    return module


def _described(imported: ImportedModel) -> Sequence[Any]:
    return (*imported.inputs, *imported.outputs)


def _budget(options: CompileOptions) -> Budget:
    from mgc.frontend.budget import Budget

    return Budget(options.max_elements, options.max_nodes)


def _import_for_analysis(
    model: Source, batch: int, dims: Mapping[str, int], budget: Budget
) -> tuple[ImportedModel, int]:
    """The model and the batch size it is bound to: 2 for a batch of 1, so that the batch is told from other ones."""
    from mgc.frontend.budget import BudgetError
    from mgc.frontend.errors import ModelError
    from mgc.frontend.importer import import_model, no_effect

    if batch == 1:
        try:
            imported = import_model(model, batch=2, dims=dims, budget=budget)
            if imported.batch_dim is not None:
                return imported, 2
            return replace(imported, warnings=[w for w in imported.warnings if w != no_effect(2)]), 1
        except BudgetError:
            raise
        except ModelError:
            pass  # some models hold for a batch of 1 only; if it is wrong in itself, the next line says so
    return import_model(model, batch=batch, dims=dims, budget=budget), batch


def _training_module(model: Source, options: CompileOptions, warnings: list[str]) -> Module:
    """Networks to be trained as a module with an entry each, in which initializers are constants."""
    from mgc.frontend.importer import Named
    from mgc.passes.training.compose import DEFAULT_GP_WEIGHT, DISCRIMINATOR, GENERATOR
    from mgc.passes.training.model import Weights
    from mgc.passes.training.passes import TrainingSetup

    sources = {"step": model}
    if options.discriminator is not None:
        sources = {GENERATOR: model, DISCRIMINATOR: options.discriminator}
    dims, alone = dict(options.dims or {}), len(sources) == 1
    named = Named(options.script.names if alone else (), tuple(options.stop_gradient))
    loaded = {name: _loaded(name, source, options, dims, named, alone=alone) for name, source in sources.items()}
    unknown = set.intersection(*({*m.imported.unknown} for m in loaded.values()))
    if unknown:
        known = {n for m in loaded.values() for n in m.imported.value_names}
        raise UnsupportedError(_no_value(min(unknown), known))
    names = [{s for node in m.imported.graph.nodes for s in node.sources} for m in loaded.values()]
    common = frozenset(s for k, own in enumerate(names) for other in names[:k] for s in own & other)
    entries: list[Entry] = []
    alike = len({m.imported.graph.name for m in loaded.values()}) < len(loaded)
    for name, network in loaded.items():
        if alike:  # what an exporter calls every graph
            network.imported.graph.name = name
        _prefix_common(network.imported.graph, name, common)
        warnings.extend(w if len(sources) == 1 else f"{name}: {w}" for w in network.warnings)
        imported = network.imported
        weights = Weights(
            dict(network.weights),
            dict(network.parameters),
            imported.inner,
            dict(imported.value_names),
            network.spectra,
        )
        entries.append(Entry(name, "train", network.imported.graph, attributes={"weights": weights}))
    attributes: dict[str, Any] = {
        "training": TrainingSetup(
            options.parsed_phases,
            options.rule,
            {name: tuple(globs) for name, globs in (options.groups or {}).items()},
            options.loss or "",
            DEFAULT_GP_WEIGHT if options.gp_weight is None else options.gp_weight,
            options.redraw_noise,
            options.dataflow or DEFAULT_DATAFLOW,
            options.script,
            dict(options.ema or {}),
        ),
        "batch": options.batch,
        "hashes": {name: m.imported.model_sha256 for name, m in loaded.items()},
        "models": {name: m.model.SerializeToString(deterministic=True) for name, m in loaded.items()},
        "parameters": {name: dict(m.parameters) for name, m in loaded.items()},
        "common": common,
        "dims": dims,
    }
    return Module(" and ".join(e.graph.name for e in entries), tuple(entries), (), attributes)


def _no_value(name: str, known: Collection[str]) -> str:
    """What is said of a name that no value has."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"the model has no value {name!r}" + (f"; there are {', '.join(near)}" if near else "")


def _loaded(
    name: str, source: Source, options: CompileOptions, dims: Mapping[str, int], named: Named, *, alone: bool
) -> TrainableModel:
    """A network to be trained; where there are two, an error says which of them it is about."""
    from mgc.frontend.errors import ModelError
    from mgc.frontend.training_model import load_trainable

    try:
        return load_trainable(source, batch=options.batch, dims=dims, budget=_budget(options), named=named)
    except ModelError as error:
        file = str(source) if isinstance(source, str | Path) else ""
        if alone or (file and file in str(error)):
            raise
        raise ModelError(str(error), where=f"{name} {file}".strip()) from error


def _prefix_common(graph: Graph, name: str, common: frozenset[str]) -> None:
    """Puts the network's name before those of ONNX nodes that another one has too, in place, as states have it."""
    for node in graph.nodes:
        node.sources = tuple(f"{name}.{s}" if s in common else s for s in node.sources)


_NUMPY_NAMES = {"float": "float32", "double": "float64"}


def _numpy_name(onnx_name: str) -> str:
    """ONNX's name of an element type as NumPy's."""
    return _NUMPY_NAMES.get(onnx_name, onnx_name)


def pass_registry() -> dict[str, type[Pass]]:
    """Every pass by its name, in the order of a training program."""
    return by_name(type(p) for p in (*passes(training=True), *AFTER))


# -- tools for passes -------------------------------------------------------------------------------------------------


def compile_tools(budget: Budget | None = None) -> Tools:
    """The frontend and ONNX Runtime, as passes use them; models are imported within `budget`."""
    from mgc.frontend.exporter import export_graph

    return Tools(
        export=lambda graph: export_graph(graph).SerializeToString(),
        run=_OnnxRuns(),
        reimport=functools.partial(_reimport, budget),
        templates=_with_templates,
    )


def _reimport(budget: Budget | None, model: bytes, batch: int, dims: Mapping[str, int]) -> Graph:
    from mgc.frontend.importer import import_model

    return import_model(model, batch=batch, dims=dims, budget=budget).graph


class _OnnxRuns:
    """Runs exported level-1 graphs, in one thread and node by node, so that the same feeds give a value the same bits,
    whatever else a graph computes. A graph is run a few times: optimising it would take longer than it saves. The last
    graph stays ready to be run again.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes, OnnxModel] | None = None

    def __call__(self, model: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> Iterator[Mapping[str, np.ndarray]]:
        if self._last is None or self._last[0] is not model:
            self._last = model, OnnxModel(model, exact=False, optimize=False)
        runner = self._last[1]
        try:
            for feed in feeds:
                yield dict(zip(runner.outputs, map(np.asarray, runner.run(feed)), strict=True))
        except ModelRunError as error:
            raise UnsupportedError(f"the network cannot be run for calibration: {error}") from error


def _with_templates(state: CompileState) -> CompileState:
    """A training module with the models that trained weights go back into, and its testing entry; see `Testing`."""
    import onnx

    from mgc.frontend.template import composed_templates, step_templates
    from mgc.passes.training.compose import DISCRIMINATOR

    attributes, states = state.module.attributes, state.module.states
    models = {name: onnx.load_model_from_string(data) for name, data in attributes["models"].items()}
    if DISCRIMINATOR in models:
        templates = composed_templates(models, states)
    else:
        ((name, model),) = models.items()
        templates = step_templates(model, states, attributes["parameters"][name])
    state.warnings.extend(templates.warnings)
    entries = [*state.module.entries, *_testing(templates.testing, state)]
    done = state.with_entries(entries, export=templates.meta(), templates=templates.tensors())
    return done.without("models", "parameters", "common", "dims")


def _testing(template: Any, state: CompileState) -> list[Entry]:
    """The generator in inference form, one sample at a time, reading the states that training leaves."""
    from mgc.frontend.errors import ModelError
    from mgc.frontend.training_model import load_trainable
    from mgc.passes.training.lift import lift, number_draws

    attributes = state.module.attributes
    if template is None:
        state.warnings.append("no network of the model could be told to make samples: the program has no testing entry")
        return []
    by_name = {s.name: s for s in state.module.states}
    try:
        loaded = load_trainable(template.model, batch=1, dims=attributes["dims"])
        _prefix_common(loaded.imported.graph, template.name, attributes["common"])
        used = {c.onnx_name for c in loaded.imported.graph.constants.values()}
        own = [replace(by_name[s], onnx_name=name) for name, s in template.states.items() if name in used]
        clash = [v.name for v in loaded.imported.graph.inputs if v.name in by_name]
        if clash:
            raise UnsupportedError(f"input {clash[0]} has the name of a weight")
        graph = lift(loaded.imported.graph, own)
        number_draws(graph)
    except (ModelError, UnsupportedError) as error:
        where = f"network {template.name} cannot be imported alone: {error}"
        state.warnings.append(f"the program has no testing entry: {where}")
        return []
    batched = loaded.imported.batch_dim is not None
    rows = [v.shape[0] for v in graph.inputs if v.name not in by_name and v.shape]
    return [Entry("testing", "test", graph, micro_batch=1 if batched or not rows else rows[0], batched=batched)]
