"""The abstract interpreter: walks ONNX nodes and gives every value as known data or as an IR value.

A node whose operands are all known is computed here; one with a handler becomes ops; one whose definition is a
function of other ops is replaced by it; any other goes to the host.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import MutableMapping, Sequence
from pathlib import Path

import numpy as np
from onnx import GraphProto, NodeProto

from mgc.frontend.attributes import check_attributes, check_counts
from mgc.frontend.budget import BudgetError
from mgc.frontend.context import Context, NodeView, Operand
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.fold import fold
from mgc.frontend.functions import function_body, schema_of
from mgc.frontend.handlers import HANDLERS
from mgc.frontend.host import HostBuilder, is_tensor, known_type
from mgc.frontend.load import to_array
from mgc.frontend.onnx_graph import subgraphs
from mgc.frontend.operand import Known, Sym
from mgc.ir.graph import Value
from mgc.ir.op import IRError
from mgc.ir.ops import Concat
from mgc.ir.types import TensorType

# Ops whose result differs from call to call: never computed at import.
RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
# What a malformed node (a wrong kind of attribute, too few numbers, ...) makes of the code that reads it.
MALFORMED = (
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    RuntimeError,
)

# Nodes that a loop may become; more of them run as a loop, on the host.
_UNROLLED = 1 << 12

Scope = MutableMapping[str, Operand]


class Interpreter:
    """Runs nodes on a graph under construction. `absorbed` collects the nodes that left no op, with the reason."""

    def __init__(self, ctx: Context, host: HostBuilder, folder: Path | None) -> None:
        self.ctx, self.host, self.folder = ctx, host, folder
        self.absorbed: dict[str, str] = {}

    def run(
        self, nodes: Sequence[NodeProto], scope: Scope, sources: str | Sequence[str], opsets: dict[str, int]
    ) -> None:
        """Interprets nodes in order; `sources` names each of them, or all of them (in a subgraph or function).

        Results go to `scope`. ModelError names the node that cannot be read.
        """
        for index, node in enumerate(nodes):
            source = sources if isinstance(sources, str) else sources[index]
            before = len(self.ctx.graph.nodes)
            try:
                self.ctx.budget.read(1, _where(node, source))
                results = self._node(node, scope, source, opsets)
                for made in self.ctx.graph.nodes[before:]:
                    for value in made.outputs:
                        if isinstance(value.type, TensorType):
                            self.ctx.budget.hold(value.shape, _where(node, source))
            except ModelError:
                raise
            except IRError as error:
                raise ModelError(str(error), where=_where(node, source), todo="check the shapes") from error
            except _Undefined as error:
                raise _undefined(error.name, node, source, nodes[index:]) from error
            except MALFORMED as error:
                reason = (str(error).splitlines() or [""])[0] or type(error).__name__
                raise ModelError(
                    f"malformed node ({reason})", where=_where(node, source), todo="export the model again"
                ) from error
            for name, result in zip(node.output, results, strict=False):
                if name and result is not None:
                    own = not isinstance(sources, str)
                    scope[name] = self.ctx.detached(result) if own and name in self.ctx.stopped else result
            if not isinstance(sources, str) and not any(source in n.sources for n in self.ctx.graph.nodes[before:]):
                folded = all(isinstance(r, Known) for r in results if r is not None)
                self.absorbed[source] = "folded into a constant" if folded else f"{node.op_type} changes nothing here"

    def _node(self, node: NodeProto, scope: Scope, source: str, opsets: dict[str, int]) -> list[Operand | None]:
        """The results of one node, one for each output name."""
        inputs: list[Operand | None] = []
        for name in node.input:
            if name and name not in scope:
                raise _Undefined(name)
            inputs.append(scope[name] if name else None)
        while inputs and inputs[-1] is None:
            inputs.pop()
        outputs = list(node.output)
        while outputs and not outputs[-1]:
            outputs.pop()
        domain = "" if node.domain == "ai.onnx" else node.domain
        view = NodeView(node, domain, source, opsets.get(domain, 1), inputs, outputs, known_type)
        self._stamp(view)
        check_attributes(view)
        if (domain, node.op_type) == ("", "If") and inputs and isinstance(inputs[0], Known):
            return self._branch(view, bool(np.asarray(inputs[0].array).reshape(-1)[0]), scope, opsets)
        if (domain, node.op_type) == ("", "Loop"):
            results = self._unroll(view, scope, opsets)
            if results is not None:
                return results
        draws = node.op_type in RANDOM
        # what is computed from a parameter changes with it in training
        kept = self.ctx.keep_parameters and any(isinstance(i, Known) and i.is_parameter for i in inputs)
        known = not draws and all(i is None or isinstance(i, Known) for i in inputs)
        if known and not kept:
            results = fold(view, scope, opsets, self.folder, self.ctx.budget)
            if results is not None:
                return results
        reason = f"the chip has no {node.op_type}"
        opaque = [i for i in inputs if i is not None and not is_tensor(i)]
        if opaque:
            reason = f"{node.op_type} of a value without a static shape, or of a type that the chip does not have"
        elif (domain, node.op_type) in HANDLERS:
            try:
                return self._handle(view)
            except Unsupported as error:
                reason = f"{node.op_type}: {error}"
        if known and kept:
            # what it makes of a parameter must be known at import
            results = fold(view, scope, opsets, self.folder, self.ctx.budget)
            if results is not None:
                return results
        if not draws and not opaque:
            results = self._expand(view, opsets)
            if results is not None:
                return results
        return self._send_to_host(view, reason, scope, opsets)

    def _stamp(self, view: NodeView) -> None:
        self.ctx.source = view.source
        self.ctx.hint = next((o for o in view.outputs if o), view.op_type)

    def _handle(self, view: NodeView) -> list[Operand | None]:
        """The results by the node's handler. What it added is taken back if it gives up."""
        count = len(self.ctx.graph.nodes)
        try:
            given = HANDLERS[view.domain, view.op_type](self.ctx, view)
            results = list(given) if isinstance(given, (list, tuple)) else [given]
            for i in range(len(view.outputs)):
                if view.wants(i) and (i >= len(results) or results[i] is None):
                    raise Unsupported(f"output {i} is not made on the chip")
        except Unsupported:
            self._roll_back(count)
            raise
        return [self.ctx.result(r, view) if isinstance(r, Value) else r for r in results]  # type: ignore[misc]

    def _roll_back(self, count: int) -> None:
        graph = self.ctx.graph
        gone = graph.nodes[count:]
        del graph.nodes[count:]
        self.ctx.forget({v for n in gone for v in n.outputs})
        for node in gone:
            self.host.pieces.pop(node, None)

    def _unroll(self, view: NodeView, scope: Scope, opsets: dict[str, int]) -> list[Operand | None] | None:
        """The results of a Loop whose trips are known, its body in place once for each; None for any other."""
        graph: GraphProto = view.attr("body")
        trips, going = (view.inputs[k] if k < len(view.inputs) else None for k in (0, 1))
        nodes = list(graph.node)
        most = _UNROLLED // max(len(nodes), 1)
        if not isinstance(trips, Known) or not 0 <= int(np.asarray(trips.array).reshape(())) <= most:
            return None
        # what is the same in every trip is one value
        held: Scope = ChainMap({}, scope)  # type: ignore[arg-type]
        for tensor in graph.initializer:
            held[tensor.name] = Known(to_array(tensor, self.folder))
        self.run([n for n in nodes if n.op_type == "Constant"], held, view.source, opsets)
        nodes = [n for n in nodes if n.op_type != "Constant"]
        number, condition, *carried = [i.name for i in graph.input]
        state: list[Operand | None] = list(view.inputs[2:])
        rows: list[list[Operand]] = [[] for _ in graph.output[1 + len(carried) :]]
        count = len(self.ctx.graph.nodes)
        for trip in range(int(np.asarray(trips.array).reshape(()))):
            if going is not None and not (isinstance(going, Known) and going.array.size == 1):
                self._roll_back(count)
                return None
            if going is not None and not bool(np.asarray(going.array).reshape(())):
                break
            inner: Scope = ChainMap({}, held)  # type: ignore[arg-type]
            inner[number] = Known(np.array(trip, np.int64))
            inner[condition] = going or Known(np.array(True))
            inner.update((name, value) for name, value in zip(carried, state, strict=True) if value is not None)
            self.run(nodes, inner, view.source, opsets)
            going, *made = [inner[o.name] for o in graph.output]
            state = [*made[: len(carried)]]
            for row, value in zip(rows, made[len(carried) :], strict=True):
                row.append(value)
        if any(rows) or not rows:
            self._stamp(view)
            return [*state, *(self._stacked(row) for row in rows)]
        self._roll_back(count)
        return None  # a scan of no trips has a shape that only the declaration tells

    def _stacked(self, row: Sequence[Operand]) -> Operand:
        """Operands one after the other along a new first axis."""
        if all(isinstance(r, Known) for r in row):
            return Known(np.stack([np.asarray(r.array) for r in row if isinstance(r, Known)]))
        values = [self.ctx.reshape(r, (1, *self.ctx.shape_of(r))) for r in row]
        first = next(r for r in row if isinstance(r, Sym))
        return self.ctx.typed(self.ctx.emit(Concat(0), *values), first.type.tensor_type.elem_type)

    def _branch(self, view: NodeView, condition: bool, scope: Scope, opsets: dict[str, int]) -> list[Operand | None]:
        """The chosen branch of an If, in place."""
        graph: GraphProto = view.attr("then_branch" if condition else "else_branch")
        inner: Scope = ChainMap({}, scope)  # type: ignore[arg-type]
        for tensor in graph.initializer:
            inner[tensor.name] = Known(to_array(tensor, self.folder))
        self.run(graph.node, inner, view.source, opsets)
        missing = [o.name for o in graph.output if o.name not in inner]
        if missing:
            raise ModelError(f"branch output {missing[0]!r} is undefined", where=view.where)
        return [inner[o.name] for o in graph.output]

    def _expand(self, view: NodeView, opsets: dict[str, int]) -> list[Operand | None] | None:
        """The results by the op's definition as a function; None if it has none, or if part of it needs the host."""
        body = function_body(view, opsets)
        if body is None:
            return None
        nodes, inputs, outputs, inner_opsets = body
        count, pieces = len(self.ctx.graph.nodes), len(self.host.pieces)
        given = [*view.inputs, *[None] * len(inputs)]
        inner: Scope = {name: operand for name, operand in zip(inputs, given, strict=False) if operand is not None}
        try:
            self.run(nodes, inner, view.source, inner_opsets)
        except BudgetError:
            raise
        except ModelError:
            # the definition may reject what the op's own kernel takes
            self._roll_back(count)
            return None
        if len(self.host.pieces) > pieces:
            self._roll_back(count)
            return None
        return [inner.get(name) for name in outputs[: len(view.outputs)]]

    def _send_to_host(self, view: NodeView, reason: str, scope: Scope, opsets: dict[str, int]) -> list[Operand | None]:
        """The results of the node run off-chip; ModelError if nothing there can run it either."""
        check_counts(view)
        used = {"", view.domain, *_domains(view.proto)}
        needed = {domain: version for domain, version in opsets.items() if domain in used}
        self._stamp(view)
        # ONNX has schemas of ops that nothing implements (training); those of its main domain all run somewhere
        foreign = bool(view.domain) or schema_of(view) is None
        results = self.host.add(view, reason, scope, needed, view.outputs, foreign)
        if results is None:
            name = f"{view.domain}.{view.op_type}" if view.domain else view.op_type
            raise ModelError(
                f"op {name} is not known here and nothing can run it",
                where=view.where,
                todo="replace it by standard ONNX ops, or add its definition as a model-local function",
            )
        return results


class _Undefined(Exception):  # noqa: N818 - becomes a ModelError once it is known what comes later
    def __init__(self, name: str) -> None:
        self.name = name


def _undefined(name: str, node: NodeProto, source: str, rest: Sequence[NodeProto]) -> ModelError:
    if any(name in later.output for later in rest):
        what = f"input {name!r} is made only later: the graph has a cycle or is not in topological order"
    else:
        what = f"input {name!r} is undefined"
    return ModelError(what, where=_where(node, source), todo="export the model again")


def _where(node: NodeProto, source: str) -> str:
    return f"node {source!r} ({node.op_type})"


def _domains(node: NodeProto) -> set[str]:
    """Domains of the ops in the node's subgraphs."""
    found: set[str] = set()
    for graph in subgraphs(node):
        for inner in graph.node:
            found |= {"" if inner.domain == "ai.onnx" else inner.domain, *_domains(inner)}
    return found
