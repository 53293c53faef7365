"""ONNX -> level-1 graph: an abstract interpreter over the model's nodes.

Every ONNX value is either known data or an IR value. A node whose operands are all known is computed here; one with a
handler becomes ops; one whose definition is a function of other ops is replaced by it; any other goes to the host.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from mgc.frontend.context import Context, NodeView, Operand
from mgc.frontend.dims import IODescription, bind, bound_type, describe
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.fold import fold
from mgc.frontend.handlers import HANDLERS
from mgc.frontend.host import HostBuilder, is_tensor, known_type
from mgc.frontend.load import LoadedModel, Source, load_model, to_array
from mgc.frontend.operand import Known, Sym, ir_dtype, ir_type
from mgc.ir.graph import Graph, Value
from mgc.ir.op import IRError
from mgc.ir.types import DType, OpaqueType, TensorType

# Ops whose result differs from call to call, or that are there for their effect: never computed at import.
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
# What a handler may stumble over in a malformed node (a wrong kind of attribute, too few numbers, ...).
_MALFORMED = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    AttributeError,
    ZeroDivisionError,
    MemoryError,
)

Scope = MutableMapping[str, Operand]


@dataclass
class ImportedModel:
    """A model as a level-1 graph.

    `batch_dim` is the name of the dynamic dimension that `batch` bound (None: the model has none); `node_names` are
    all nodes of the main graph, under unique names.
    """

    graph: Graph
    batch_dim: str | None
    model_sha256: str
    inputs: list[IODescription]
    outputs: list[IODescription]
    node_names: list[str]
    warnings: list[str] = field(default_factory=list)


def unaccounted(imported: ImportedModel) -> set[str]:
    """Nodes of the ONNX model that are neither a source of an IR node nor listed as absorbed: always empty."""
    held = {s for n in imported.graph.nodes for s in n.sources} | set(imported.graph.absorbed)
    return set(imported.node_names) - held


def import_model(
    source: Source, *, batch: int = 1, dims: Mapping[str, int] | None = None, keep_parameters: bool = False
) -> ImportedModel:
    """Imports an ONNX model (path, bytes or ModelProto).

    The first dynamic dimension of the inputs gets size `batch`, others come by name from `dims`. With
    `keep_parameters` no float initializer is transposed or scaled at import, so that a trained one can go back under
    its own name. Raises ModelError: what is wrong, where, what to do.
    """
    loaded = load_model(source)
    return _Importer(loaded, keep_parameters).run(batch, dims or {})


class _Importer:
    def __init__(self, loaded: LoadedModel, keep_parameters: bool) -> None:
        self.loaded = loaded
        self.model = _inlined(loaded)
        graph = self.model.graph
        self.graph = Graph(graph.name or "graph")
        self.ctx = Context(self.graph, keep_parameters)
        self.host = HostBuilder(self.ctx, max(int(self.model.ir_version), 4))
        self.absorbed: dict[str, str] = {}

    def run(self, batch: int, dims: Mapping[str, int]) -> ImportedModel:
        graph = self.model.graph
        infos = [i for i in graph.input if i.name not in self.loaded.weights]
        sizes, batch_dim = bind(infos, batch, dims)
        if batch_dim is None and batch != 1 and not sizes:
            self.ctx.warnings.append(f"the model has no dynamic dimension: batch {batch} has no effect")
        names = _unique_names(graph.node)
        scope: Scope = {}
        _check_definitions(graph, self.loaded.weights)
        for info in infos:
            type_ = bound_type(info, sizes)
            scope[info.name] = Sym(self.graph.add_input(info.name, ir_type(type_)), type_)
        self._add_weights(scope)
        self.run_nodes(graph.node, scope, names, self.loaded.opsets)
        for info in graph.output:
            self.graph.outputs.append((info.name, self._output(scope, info)))
        self.graph.absorbed.update(self.absorbed)
        self.graph.prune()
        self.host.finish(self.graph)
        held = {s for n in self.graph.nodes for s in n.sources}
        self.graph.absorbed = {k: v for k, v in self.graph.absorbed.items() if k not in held}
        return ImportedModel(
            self.graph,
            batch_dim,
            self.loaded.sha256,
            [describe(i, _static(v)) for i, v in zip(infos, self.graph.inputs, strict=True)],
            [describe(i, _static(v)) for i, (_, v) in zip(graph.output, self.graph.outputs, strict=True)],
            names,
            self.ctx.warnings,
        )

    # -- data ------------------------------------------------------------------------------------------------------

    def _add_weights(self, scope: Scope) -> None:
        readers: dict[str, set[str]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                readers.setdefault(name, set()).add(node.op_type)
        for name, tensor in self.loaded.weights.items():
            array = to_array(tensor, self.loaded.folder)
            _check_finite(name, array, readers.get(name, set()))
            scope[name] = Known(array, name)

    def _output(self, scope: Scope, info: onnx.ValueInfoProto) -> Value:
        operand = scope.get(info.name)
        if operand is None:
            raise ModelError("no node makes it", where=f"output {info.name!r}", todo="check the graph's outputs")
        declared = info.type.tensor_type.elem_type if info.type.WhichOneof("value") == "tensor_type" else 0
        self.ctx.source, self.ctx.hint = "", info.name
        if isinstance(operand, Known):
            if operand.is_tensor:
                return self.graph.add_constant(operand.array, info.name, onnx_name=operand.name)
            view = NodeView(onnx.helper.make_node("Identity", ["x"], ["y"]), "", self.loaded.opsets[""], [operand], [])
            (result,) = self.host.add(view, "not a tensor", {}, {"": self.loaded.opsets[""]}, [info.name])
            assert isinstance(result, Sym)
            return result.value
        value = self.ctx.exact_value(operand)
        wanted = ir_dtype(declared)
        if isinstance(value.type, TensorType) and wanted is not None and wanted.is_float and value.type.dtype.is_float:
            return self.ctx.cast(operand.value, wanted)
        return value

    # -- nodes -----------------------------------------------------------------------------------------------------

    def run_nodes(
        self, nodes: Iterable[NodeProto], scope: Scope, sources: str | list[str], opsets: dict[str, int]
    ) -> None:
        """Interprets nodes in order; `sources` names each of them, or all of them (in a subgraph or function)."""
        nodes = list(nodes)
        for index, node in enumerate(nodes):
            source = sources if isinstance(sources, str) else sources[index]
            before = len(self.graph.nodes)
            results = self.run_node(node, scope, source, opsets, nodes[index + 1 :])
            for name, result in zip(node.output, results, strict=False):
                if name and result is not None:
                    scope[name] = result
            if isinstance(sources, list) and not any(source in n.sources for n in self.graph.nodes[before:]):
                folded = all(isinstance(r, Known) for r in results if r is not None)
                self.absorbed[source] = "folded into a constant" if folded else f"{node.op_type} changes nothing here"

    def run_node(
        self, node: NodeProto, scope: Scope, source: str, opsets: dict[str, int], later: list[NodeProto]
    ) -> list[Operand | None]:
        """The results of one node, one for each output name."""
        domain = "" if node.domain == "ai.onnx" else node.domain
        inputs = [self._lookup(name, scope, node, source, later) for name in node.input]
        while inputs and inputs[-1] is None:
            inputs.pop()
        outputs = list(node.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        view = NodeView(node, source, opsets.get(domain, 1), inputs, outputs, known_type)
        self.ctx.source, self.ctx.hint = source, next((o for o in outputs if o), node.op_type)
        if (domain, node.op_type) == ("", "If") and isinstance(inputs[0], Known):
            return self._branch(view, bool(np.asarray(inputs[0].array).reshape(-1)[0]), scope, opsets)
        if node.op_type not in RANDOM and all(i is None or isinstance(i, Known) for i in inputs):
            results = self._folded(view, scope, opsets)
            if results is not None:
                return results
        reason = f"no {node.op_type} on the chip"
        opaque = [i for i in inputs if i is not None and not is_tensor(i)]
        handler = HANDLERS.get((domain, node.op_type))
        if handler is not None and not opaque:
            try:
                return self._handled(view)
            except Unsupported as error:
                reason = str(error)
        elif opaque:
            reason = f"{node.op_type} of a value without static shape or of a type the chip does not have"
        if node.op_type not in RANDOM and not opaque:
            results = self._expanded(view, scope, opsets)
            if results is not None:
                return results
        return self._hosted(view, reason, scope, opsets)

    def _lookup(self, name: str, scope: Scope, node: NodeProto, source: str, later: list[NodeProto]) -> Operand | None:
        if not name:
            return None
        if name in scope:
            return scope[name]
        where = f"node {source!r} ({node.op_type})"
        if name in node.output or any(name in n.output for n in later):
            raise ModelError(
                f"input {name!r} is made only later: the graph has a cycle or is not in topological order",
                where=where,
                todo="export the model again",
            )
        raise ModelError(f"input {name!r} is undefined", where=where, todo="export the model again")

    def _handled(self, view: NodeView) -> list[Operand | None]:
        """The results by the node's handler. What it added is taken back if it gives up."""
        count = len(self.graph.nodes)
        handler = HANDLERS["" if view.proto.domain == "ai.onnx" else view.proto.domain, view.op_type]
        try:
            given = handler(self.ctx, view)
        except Unsupported:
            self._roll_back(count)
            raise
        except ModelError:
            raise
        except IRError as error:
            raise ModelError(str(error), where=view.where, todo="check the shapes") from error
        except _MALFORMED as error:
            raise ModelError(f"malformed ({error})", where=view.where, todo="export the model again") from error
        results = list(given) if isinstance(given, (list, tuple)) else [given]
        return [self.ctx.result(r, view) if isinstance(r, Value) else r for r in results]  # type: ignore[misc]

    def _roll_back(self, count: int) -> None:
        gone = self.graph.nodes[count:]
        del self.graph.nodes[count:]
        dead = {v for n in gone for v in n.outputs}
        self.ctx.forget(dead)
        for node in gone:
            self.host.pieces.pop(node, None)

    def _folded(self, view: NodeView, scope: Scope, opsets: dict[str, int]) -> list[Operand | None] | None:
        """The results of a node with known operands, None if it cannot be computed here."""
        return fold(view, scope, opsets, self.host.ir_version)

    def _branch(self, view: NodeView, condition: bool, scope: Scope, opsets: dict[str, int]) -> list[Operand | None]:
        """The chosen branch of an If, in place."""
        graph = view.attr("then_branch" if condition else "else_branch")
        inner = self._graph_scope(graph, scope)
        self.run_nodes(graph.node, inner, view.source, opsets)
        missing = [o.name for o in graph.output if o.name not in inner]
        if missing:
            raise ModelError(f"branch output {missing[0]!r} is undefined", where=view.where)
        return [inner[o.name] for o in graph.output]

    def _graph_scope(self, graph: GraphProto, scope: Scope) -> Scope:
        inner: Scope = ChainMap({}, scope)  # type: ignore[arg-type]
        for tensor in graph.initializer:
            inner[tensor.name] = Known(to_array(tensor, self.loaded.folder))
        return inner

    def _expanded(self, view: NodeView, scope: Scope, opsets: dict[str, int]) -> list[Operand | None] | None:
        """The results by the op's definition as a function; None if it has none, or if part of it needs the host."""
        from mgc.frontend.functions import function_body

        body = function_body(view, opsets)
        if body is None:
            return None
        nodes, inputs, outputs, inner_opsets = body
        count, pieces = len(self.graph.nodes), len(self.host.pieces)
        given = [*view.inputs, *[None] * len(inputs)]
        inner: Scope = {name: operand for name, operand in zip(inputs, given, strict=False) if operand is not None}
        try:
            self.run_nodes(nodes, inner, view.source, inner_opsets)
        except (ModelError, Unsupported):
            self._roll_back(count)
            return None
        if len(self.host.pieces) > pieces:
            self._roll_back(count)
            return None
        return [inner.get(name) for name in outputs[: len(view.outputs)]]

    def _hosted(self, view: NodeView, reason: str, scope: Scope, opsets: dict[str, int]) -> list[Operand | None]:
        domain = "" if view.proto.domain == "ai.onnx" else view.proto.domain
        needed = {d: v for d, v in opsets.items() if d in ("", domain)}
        self.ctx.source, self.ctx.hint = view.source, next((o for o in view.outputs if o), view.op_type)
        results = self.host.add(view, reason, scope, needed, view.outputs)
        return results


def _inlined(loaded: LoadedModel) -> ModelProto:
    """The model with its own functions inlined and the initializers' data left out."""
    model = loaded.proto
    if not model.functions:
        return model
    from onnx import inliner

    light = ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        name = tensor.name
        tensor.Clear()
        tensor.name, tensor.data_type = name, TensorProto.FLOAT
        tensor.dims.append(0)
        tensor.raw_data = b""
    try:
        result = inliner.inline_local_functions(light)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"its functions cannot be inlined ({str(error).splitlines()[0]})", where="model") from error
    for entry in result.opset_import:
        loaded.opsets.setdefault("" if entry.domain == "ai.onnx" else entry.domain, int(entry.version))
    return result


def _unique_names(nodes: Iterable[NodeProto]) -> list[str]:
    """A name for each node: its own, or its op type and index; repeated ones get a number."""
    taken: set[str] = set()
    names: list[str] = []
    for index, node in enumerate(nodes):
        base = node.name or f"{node.op_type}_{index}"
        name, k = base, 1
        while name in taken:
            name, k = f"{base}_{k}", k + 1
        taken.add(name)
        names.append(name)
    return names


def _check_definitions(graph: GraphProto, weights: Mapping[str, TensorProto]) -> None:
    """Every name has one definition."""
    seen: dict[str, str] = {}
    for info in graph.input:
        if info.name in seen:
            raise ModelError("two inputs have this name", where=f"input {info.name!r}")
        if not info.name:
            raise ModelError("an input has no name", where="inputs")
        seen[info.name] = "a graph input"
    seen.update(dict.fromkeys(weights, "an initializer"))
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in seen:
                raise ModelError(
                    f"output {name!r} is already {seen[name]}: a name must be defined once",
                    where=f"node {node.name or f'{node.op_type}_{index}'!r} ({node.op_type})",
                    todo="export the model again",
                )
            seen[name] = f"made by node {node.name or f'{node.op_type}_{index}'!r}"


def _check_finite(name: str, array: np.ndarray, readers: set[str]) -> None:
    """ModelError for NaN or infinite weights; single numbers and -inf in masks (Where, Add) may be infinite."""
    if array.dtype.kind not in "fV" or not _is_float(array.dtype) or array.size == 0:
        return
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32, copy=False)
    if np.isfinite(narrow).all():
        return
    nans = int(np.isnan(narrow).sum())
    infinities = int(np.isinf(narrow).sum())
    if nans == 0 and (array.size == 1 or (readers <= {"Where", "Add"} and not np.isposinf(narrow).any())):
        return
    raise ModelError(
        f"{nans} NaN and {infinities} infinite values (as float32) of {array.size}",
        where=f"initializer {name!r}",
        todo="train or export the model again",
    )


def _is_float(dtype: np.dtype) -> bool:
    try:
        return DType.of(dtype).is_float
    except KeyError:
        return False


def _static(value: Value) -> tuple[int, ...] | None:
    return None if isinstance(value.type, OpaqueType) else value.shape
