"""ONNX in, program out: the one place that strings frontend, passes, targets and codegen together."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import mgc
from mgc.isa.program import Program
from mgc.isa.verify_schedule import check_schedule
from mgc.options import CompileOptions, takes_options
from mgc.passes.manager import CompileState, PassManager, PassRecord, Tools, UnsupportedError
from mgc.passes.pipeline import inference_passes
from mgc.passes.work import totals
from mgc.targets.codegen.bill import bill
from mgc.targets.codegen.emit import PortInfo, emit
from mgc.targets.cost import CostModel
from mgc.targets.description import Target
from mgc.targets.loader import load_target

if TYPE_CHECKING:
    from mgc.frontend.dims import IODescription
    from mgc.frontend.importer import ImportedModel
    from mgc.frontend.load import Source

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class CompileStats:
    """What a compilation tells besides its program: seconds for each pass and in all, warnings for the user."""

    passes: tuple[PassRecord, ...]
    warnings: tuple[str, ...]
    seconds: float


@takes_options(CompileOptions)
def compile(model: Source, options: CompileOptions) -> Program:
    """Compiles an ONNX network for inference, or one iteration of adversarial training.

    model: path, bytes or ModelProto; never written. With `discriminator` and `loss` it is the generator; with `phases`
    a step model whose outputs are losses, each minimised over the parameters NAME.* or `groups`. target: a name of
    `mgc targets`, a TOML file, or a Target. calibrate "none" is for `float` numerics only. Raises ModelError,
    TargetError, CapacityError or UnsupportedError (all ValueError) with what, where and what to do. The options:
    """
    return compile_with_stats(model, options)[0]


compile_training = compile


def compile_with_stats(
    model: Source, options: CompileOptions, progress: Progress | None = None
) -> tuple[Program, CompileStats]:
    """`compile`, with what it took. `progress` is called with the step's name and the fraction done, 0 to 1."""
    from mgc.frontend.exporter import export_graph
    from mgc.frontend.importer import import_model

    if options.trains:
        from mgc.compiler_training import compile_training_with_stats

        return compile_training_with_stats(model, options, progress)
    begin = time.perf_counter()
    report = progress or (lambda name, fraction: None)
    target, batch, dims, seed = options.target, options.batch, options.dims or {}, options.seed
    chip = target if isinstance(target, Target) else load_target(target)
    data = load_calibration(options.calibration)
    report("import", 0.0)
    imported, graph_batch = _import_for_analysis(model, batch, dims)
    records = [PassRecord("import", time.perf_counter() - begin)]
    state = CompileState(
        graph=imported.graph,
        target=chip,
        tools=Tools(export=lambda graph: export_graph(graph).SerializeToString(), run=_run_onnx),
        batch=batch,
        graph_batch=graph_batch,
        batched_inputs=_batched_inputs(imported),
        reimport=lambda size: import_model(model, batch=size, dims=dims).graph,
        seed=seed,
        calibration_data=data,
    )
    passes = inference_passes(options.calibrate)
    dump_dir = None if options.dump_dir is None else Path(options.dump_dir)
    manager = PassManager(passes, dump_dir=dump_dir, before=("import",))
    state = manager.run(state, lambda name, done: report(name, (1 + done) / (len(passes) + 2)))
    report("emit", (1 + len(passes)) / (len(passes) + 2))
    emitting = time.perf_counter()
    program = _emit(state, imported, chip, seed)
    records += [*manager.records, PassRecord("emit", time.perf_counter() - emitting)]
    checking = time.perf_counter()
    check_schedule(program)
    records.append(PassRecord("verify-schedule", time.perf_counter() - checking))
    report("done", 1.0)
    warnings = tuple(dict.fromkeys((*imported.warnings, *state.warnings)))
    return program, CompileStats(tuple(records), warnings, time.perf_counter() - begin)


def load_calibration(calibration: str | Path | Mapping[str, np.ndarray] | None) -> Mapping[str, np.ndarray] | None:
    """Calibration arrays by input name, from an .npz if a path is given. UnsupportedError if it cannot be read."""
    if calibration is None or isinstance(calibration, Mapping):
        return calibration
    try:
        with np.load(calibration, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UnsupportedError(
            f"calibration file {str(calibration)!r} cannot be read ({error}): "
            "give an .npz of arrays under the input names"
        ) from error


def _import_for_analysis(model: Source, batch: int, dims: Mapping[str, int]) -> tuple[ImportedModel, int]:
    """The model and the batch size it is bound to: 2 for a batch of 1, so that the batch is told from other ones."""
    from mgc.frontend.errors import ModelError
    from mgc.frontend.importer import import_model

    if batch == 1:
        try:
            imported = import_model(model, batch=2, dims=dims)
            if imported.batch_dim is not None:
                return imported, 2
        except ModelError:
            pass  # some models hold for a batch of 1 only; if it is wrong in itself, the next line says so
    return import_model(model, batch=batch, dims=dims), batch


def _batched_inputs(imported: ImportedModel) -> tuple[str, ...]:
    """Inputs whose axis 0 is the dimension that `batch` bound."""
    name = imported.batch_dim
    return () if name is None else tuple(i.name for i in imported.inputs if i.shape and i.shape[0] == name)


def _run_onnx(model: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> Sequence[Mapping[str, np.ndarray]]:
    """Runs an exported level-1 graph in ONNX Runtime, or in ONNX's reference evaluator where that cannot."""
    try:
        return _run_in_onnxruntime(model, feeds)
    except Exception as error:  # ONNX Runtime's errors have no common base below it; it takes no bfloat16 array
        from onnx.reference import ReferenceEvaluator

        try:
            evaluator = ReferenceEvaluator(model)
            with np.errstate(all="ignore"):
                runs = [evaluator.run(None, dict(feed)) for feed in feeds]
        except Exception as second:  # the evaluator raises whatever its NumPy code does
            raise UnsupportedError(f"the network cannot be run for calibration: {error}; {second}") from error
        return [dict(zip(map(str, evaluator.output_names), map(np.asarray, results), strict=True)) for results in runs]


def _run_in_onnxruntime(model: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> Sequence[Mapping[str, np.ndarray]]:
    """One thread, so that the same feeds give the same bits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    runs = (session.run(names, dict(feed)) for feed in feeds)
    return [dict(zip(names, map(np.asarray, results), strict=True)) for results in runs]


def _emit(state: CompileState, imported: ImportedModel, chip: Target, seed: int) -> Program:
    if state.plan is None:
        raise ValueError("no pass made a plan")

    def ports(described: Sequence[IODescription]) -> tuple[PortInfo, ...]:
        return tuple(
            PortInfo(
                d.name,
                _numpy_name(d.dtype),
                state.batched and d.name not in state.whole_ports,
                tuple(map(str, d.shape or ())),
            )
            for d in described
        )

    useful, mapped, row_block_mvms = totals(state.plan.graph, chip.crossbar.rows)
    meta: dict[str, Any] = {
        "compiler": {"version": mgc.__version__, "seed": seed},
        "model_sha256": imported.model_sha256,
        "crossbars": {
            "used": sum(len(group.crossbars) for group in state.plan.groups),
            "available": chip.crossbars,
        },
        "allocation": None if state.plan.split is None else state.plan.split.to_json_dict(),
        "macs_useful": useful * state.micro_batches,
        "macs_mapped": mapped * state.micro_batches,
        "row_block_mvms": row_block_mvms * state.micro_batches,
        "layers": [asdict(layer) for layer in state.quality],
    }
    program = emit(
        state.plan,
        chip,
        name=state.graph.name,
        inputs=ports(imported.inputs),
        outputs=ports(imported.outputs),
        meta=meta,
    )
    return replace(program, meta=meta | bill(program, CostModel(chip)))


_NUMPY_NAMES = {"float": "float32", "double": "float64"}


def _numpy_name(onnx_name: str) -> str:
    """ONNX's name of an element type as NumPy's."""
    return _NUMPY_NAMES.get(onnx_name, onnx_name)
