"""ONNX -> level-1 graph: `import_model`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto

from mgc.frontend.budget import Budget, check_functions
from mgc.frontend.context import Context, NodeView
from mgc.frontend.departures import departures
from mgc.frontend.dims import IODescription, bind, bound_type, describe
from mgc.frontend.errors import ModelError
from mgc.frontend.host import HostBuilder
from mgc.frontend.interpreter import MALFORMED, Interpreter, Scope
from mgc.frontend.load import LoadedModel, Source, load_model, to_array
from mgc.frontend.operand import Known, Sym, elem_type_name, ir_dtype, ir_type
from mgc.frontend.validation import check_definitions, check_finite, unique_names
from mgc.functions.draws import KEY
from mgc.ir.graph import Graph, Value
from mgc.ir.types import OpaqueType, TensorType


@dataclass
class ImportedModel:
    """A model as a level-1 graph.

    `batch_dim` is the name of the dynamic dimension that `batch` bound (None: the model has none); `model_sha256` is
    that of the file (and of external data); `node_names` are all nodes of the main graph, under unique names. `inner`
    are outputs of the graph that were asked for besides those of the model; `value_names` the values of the
    graph by the model's names; `unknown` the names asked for that it has not.
    """

    graph: Graph
    batch_dim: str | None
    model_sha256: str
    inputs: list[IODescription]
    outputs: list[IODescription]
    node_names: list[str]
    warnings: list[str] = field(default_factory=list)
    inner: tuple[str, ...] = ()
    value_names: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def no_effect(batch: int) -> str:
    """What is said of a batch that no dimension takes; nothing else of an import depends on such a batch."""
    return (
        f"batch {batch} has no effect: no dynamic dimension of the inputs is left to bind; export the model with "
        "one (dynamic_axes or dynamic_shapes of torch.onnx.export), or leave --batch out"
    )


def unaccounted(imported: ImportedModel) -> set[str]:
    """Nodes of the ONNX model that are neither a source of an IR node nor listed as absorbed: always empty."""
    held = {s for n in imported.graph.nodes for s in n.sources} | set(imported.graph.absorbed)
    return set(imported.node_names) - held


# What a malformed model makes of the code that reads it, ONNX's own included.
_MALFORMED = (*MALFORMED, onnx.checker.ValidationError)


@dataclass(frozen=True)
class Named:
    """Values of a model that are asked for by name: `inner` ones become outputs, gradients end at those `stopped`."""

    inner: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()


NOTHING = Named()


def import_model(
    source: Source,
    *,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    keep_parameters: bool = False,
    budget: Budget | None = None,
    named: Named = NOTHING,
) -> ImportedModel:
    """Imports an ONNX model (path, bytes or ModelProto) into a level-1 graph.

    The first dynamic dimension of the inputs gets size `batch`, others come by name from `dims`. With
    `keep_parameters` nothing is computed from float initializers at import (no transposed weights, no weight norm),
    so that they can be trained and go back under their own names. Of `named`, what the model has not is in the result's
    `unknown`: another model may have it. Raises ModelError: what is wrong, where, what to do; BudgetError for a model
    that takes more than `budget`, of which a copy is used.
    """
    budget = replace(budget or Budget())
    try:
        return _import(source, batch, dims or {}, keep_parameters, budget, named)
    except ModelError:
        raise
    except _MALFORMED as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise ModelError(f"malformed ({reason})", where="model", todo="export the model again") from error


def _import(
    source: Source, batch: int, dims: Mapping[str, int], keep_parameters: bool, budget: Budget, named: Named
) -> ImportedModel:
    loaded = load_model(source)
    model = _inline(loaded, budget)
    names = unique_names(model.graph.node)
    check_definitions(model.graph, loaded.weights, names)
    infos = [i for i in model.graph.input if i.name not in loaded.weights]
    sizes, batch_dim = bind(infos, batch, dims)

    graph = Graph(model.graph.name or "graph")
    weights = _weights(loaded, model)
    held = sum(w.array.size for w in weights.values())
    budget = replace(budget, samples=batch if batch_dim is not None else 1, weights=held)
    ctx = Context(graph, keep_parameters, budget, model.producer_name.lower(), frozenset(named.stopped))
    if batch != 1 and batch_dim is None:
        ctx.warnings.append(no_effect(batch))
    host = HostBuilder(ctx, max(int(model.ir_version), 4))
    interpreter = Interpreter(ctx, host, loaded.folder)
    scope: Scope = {}
    for info in infos:
        type_ = bound_type(info, sizes)
        kind = type_.tensor_type.elem_type if type_.HasField("tensor_type") else None
        if type_.WhichOneof("value") is None or (kind is not None and elem_type_name(kind) == "undefined"):
            what = "it has no type" if kind is None else f"there is no element type {kind}"
            raise ModelError(what, where=f"input {info.name!r}", todo="export the model again")
        if isinstance(shape := ir_type(type_), TensorType):
            budget.hold(shape.shape, f"input {info.name!r}")
        scope[info.name] = Sym(graph.add_input(info.name, ir_type(type_)), type_)
        if type_.HasField("tensor_type") and not type_.tensor_type.HasField("shape"):
            ctx.warnings.append(f"input {info.name!r} declares no shape: what depends on it runs on the host")
    ctx.samples = _samples(graph, sizes.get(batch_dim or "", 0))
    scope.update(weights)
    interpreter.run(model.graph.node, scope, names, loaded.opsets)
    ctx.warnings.extend(departures(model.graph, names, scope))
    for info in model.graph.output:
        graph.outputs.append((info.name, _output(ctx, host, scope, info, loaded.opsets)))
    inner = _expose(ctx, scope, named.inner)
    made = {o for node in model.graph.node for o in node.output}
    graph.absorbed.update(interpreter.absorbed)
    graph.prune()
    host.finish(graph)
    inputs = [describe(i, _static(v)) for i, v in zip(infos, graph.inputs, strict=False)]
    if len(graph.inputs) > len(infos):
        key = graph.inputs[-1]
        if key in {v for n in graph.nodes for v in n.inputs}:
            inputs.append(IODescription(KEY, "int64", (batch_dim or key.shape[0], 2), key.shape))
        else:
            graph.inputs.pop()
    return ImportedModel(
        graph,
        batch_dim,
        loaded.sha256,
        inputs,
        [describe(i, _static(v)) for i, (_, v) in zip(model.graph.output, graph.outputs, strict=not inner)],
        names,
        ctx.warnings,
        inner,
        {name: operand.value.name for name, operand in scope.items() if isinstance(operand, Sym)},
        tuple(n for n in named.stopped if n not in made) + tuple(n for n in named.inner if n not in scope),
    )


def _expose(ctx: Context, scope: Scope, names: Sequence[str]) -> tuple[str, ...]:
    """Those of the names that are of inner values, which become outputs. ModelError for what training cannot change."""
    known = {v.name for v in ctx.graph.inputs} | {name for name, _ in ctx.graph.outputs}
    inner = tuple(n for n in names if n in scope and n not in known)
    for name in inner:
        operand = scope[name]
        if isinstance(operand, Known):
            raise ModelError("it is a constant", where=f"value {name!r}", todo="name a value that is computed")
        ctx.hint = name
        ctx.graph.outputs.append((name, ctx.value(operand)))
    return inner


def _samples(graph: Graph, bound: int) -> int:
    """Samples of a run: the size of the batch dimension, in a model without one what all inputs have along axis 0."""
    sizes = {v.shape[0] if isinstance(v.type, TensorType) and v.shape else 0 for v in graph.inputs}
    return bound or (max(1, sizes.pop()) if len(sizes) == 1 else 1)


def _weights(loaded: LoadedModel, model: ModelProto) -> dict[str, Known]:
    """The initializers as checked arrays."""
    readers: dict[str, set[str]] = {name: set() for name in loaded.weights}
    for node in model.graph.node:
        for name in node.input:
            if name in readers:
                readers[name].add(node.op_type)
    weights: dict[str, Known] = {}
    for name, tensor in loaded.weights.items():
        array = to_array(tensor, loaded.folder)
        check_finite(name, array, readers[name])
        weights[name] = Known(array, name)
    return weights


def _output(ctx: Context, host: HostBuilder, scope: Scope, info: ValueInfoProto, opsets: dict[str, int]) -> Value:
    """The value of a graph output, in its declared element type."""
    operand = scope.get(info.name)
    if operand is None:
        raise ModelError("no node makes it", where=f"output {info.name!r}", todo="export the model again")
    ctx.source, ctx.hint = "", info.name
    if isinstance(operand, Known):
        if operand.is_tensor:
            return ctx.graph.add_constant(operand.array, info.name, onnx_name=operand.name)
        # strings, 8-bit floats and the like: the host makes them
        node = onnx.helper.make_node("Identity", ["x"], ["y"])
        view = NodeView(node, "", "", opsets[""], [operand], [info.name])
        reason = "a constant of a type that the chip does not have"
        (result,) = host.add(view, reason, {}, {"": opsets[""]}, [info.name]) or [None]
        assert isinstance(result, Sym)
        return result.value
    if isinstance(operand.value.type, OpaqueType):
        return operand.value
    declared = ir_dtype(info.type.tensor_type.elem_type) if info.type.HasField("tensor_type") else None
    value = ctx.exact_value(operand)
    is_float = declared is not None and declared.is_float and value.tensor.dtype.is_float
    return ctx.cast(operand.value, declared) if is_float and declared is not None else value


def _inline(loaded: LoadedModel, budget: Budget) -> ModelProto:
    """The model with its own functions inlined; opsets that they bring are added to the loaded model's."""
    model = loaded.proto
    if not model.functions:
        return model
    check_functions(model, budget)
    from onnx import inliner

    # the inliner copies the model: leave the weights out, names suffice
    light = ModelProto()
    del model.graph.initializer[:]
    light.CopyFrom(model)
    light.graph.initializer.extend(TensorProto(name=n, data_type=TensorProto.FLOAT, dims=[0]) for n in loaded.weights)
    try:
        result = inliner.inline_local_functions(light)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ModelError(f"its functions cannot be inlined ({reason})", where="model") from error
    for entry in result.opset_import:
        loaded.opsets.setdefault("" if entry.domain == "ai.onnx" else entry.domain, int(entry.version))
    return result


def _static(value: Value) -> tuple[int, ...] | None:
    return None if isinstance(value.type, OpaqueType) else value.shape
