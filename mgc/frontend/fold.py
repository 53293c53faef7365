"""Computing at import the nodes whose operands are all known."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto
from onnx.helper import make_opsetid

from mgc.frontend.budget import Budget, BudgetError
from mgc.frontend.context import Context, NodeView, Operand
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.handlers.registry import HANDLERS
from mgc.frontend.load import to_array
from mgc.frontend.onnx_graph import free_names, subgraphs
from mgc.frontend.operand import Known, type_of_known
from mgc.functions.onnx_limits import LimitError, Limits, ModelRunError, check_sizes, evaluate
from mgc.functions.onnx_model import OnnxModel
from mgc.ir.graph import Graph, Value
from mgc.ir.graph import evaluate as evaluate_graph
from mgc.ir.op import IRError
from mgc.ir.ops import MatMul
from mgc.ir.types import DType

# Element types in which the handlers' own arithmetic is ONNX's, to the bit for the integers that make up shapes.
_NATIVE = {np.dtype(t) for t in (np.float32, np.int64, np.int32, np.bool_)}
# Those of operands that are only moved, or become float32 before anything is computed.
_NARROW = {np.dtype(t) for t in (np.int8, np.uint8, np.int16, np.uint16)}
_TAKE_NARROW = ("DequantizeLinear", "QuantizeLinear", "Reshape", "Transpose", "Expand", "Concat", "Slice", "Tile")


def fold(
    view: NodeView, scope: Mapping[str, Operand], opsets: dict[str, int], folder: Path | None, budget: Budget
) -> list[Operand | None] | None:
    """The results of a node with known operands; None if nothing here can compute it. BudgetError if they are too
    large, or if it takes too long.
    """
    if view.op_type == "Constant" and not view.proto.domain:
        return [_constant(view, folder)]
    return _by_handler(view, budget) or _by_evaluator(view, scope, opsets, budget)


def _constant(view: NodeView, folder: Path | None) -> Known:
    ((name, value),) = [(k, v) for k, v in view.attributes.items()] or [("value", None)]
    if name == "value" and isinstance(value, onnx.TensorProto):
        return Known(to_array(value, folder))
    kinds: dict[str, Any] = {
        "value_int": np.int64,
        "value_ints": np.int64,
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_string": object,
        "value_strings": object,
    }
    if name in kinds:
        return Known(np.array(value, kinds[name]))
    raise ModelError(f"a Constant with {name!r} is not supported", where=view.where, todo="store it dense")


def _by_handler(view: NodeView, budget: Budget) -> list[Operand | None] | None:
    """By the handler for run-time values, on a graph of its own; only where all data is of a native type."""
    handler = HANDLERS.get((view.domain, view.op_type))
    arrays = [i.array for i in view.inputs if isinstance(i, Known)]
    native = _NATIVE | (_NARROW if view.op_type in _TAKE_NARROW else set())
    if handler is None or not all(isinstance(a, np.ndarray) and a.dtype in native for a in arrays):
        return None
    if view.op_type in ("Cast", "CastLike", "Conv", "ConvTranspose"):
        return None
    ctx = Context(Graph(), budget=budget, hint="folded")
    try:
        given = handler(ctx, view)
        results = list(given) if isinstance(given, (list, tuple)) else [given]
        for i, result in enumerate(results):
            if isinstance(result, Value):
                ctx.graph.outputs.append((str(i), result))
        for node in ctx.graph.nodes:
            budget.make(((v.shape, v.tensor.dtype.numpy.itemsize) for v in node.outputs), view.where)
            if isinstance(node.op, MatMul):
                budget.multiply(node.outputs[0].tensor.size * (node.inputs[0].shape or (1,))[-1], view.where)
        values = evaluate_graph(ctx.graph, {})
    except ModelError:
        raise
    except (Unsupported, IRError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError):
        return None  # the evaluator does it, or the handler says what is wrong when it is called for good
    folded: list[Operand | None] = []
    for i, result in enumerate(results):
        if isinstance(result, Value):
            if DType.of(values[str(i)].dtype) is not result.tensor.dtype:
                return None
            folded.append(Known(values[str(i)]))
        else:
            folded.append(result)  # type: ignore[arg-type]
    return folded


def _by_evaluator(
    view: NodeView, scope: Mapping[str, Operand], opsets: dict[str, int], budget: Budget
) -> list[Operand | None] | None:
    """By ONNX's reference evaluator; what only running it tells the cost of by ONNX Runtime, if it can."""
    captured = free_names(view.proto)
    if any(not isinstance(scope.get(name), Known) for name in captured):
        return None
    node = NodeProto()
    node.CopyFrom(view.proto)
    feeds: dict[str, Any] = {}
    for i, operand in enumerate(view.inputs):
        if isinstance(operand, Known):
            node.input[i] = f"in{i}"
            feeds[f"in{i}"] = operand.array
    for name in captured:
        operand = scope[name]
        assert isinstance(operand, Known)
        feeds[name] = operand.array
    wanted = [name for name in view.outputs if name]
    graph = onnx.GraphProto(name="fold", node=[node])
    for name, array in feeds.items():
        info = graph.input.add(name=name)
        kind = type_of_known(array)
        if kind is not None:
            info.type.CopyFrom(kind)
    for name in wanted:
        graph.output.add(name=name)
    model = onnx.helper.make_model(graph, opset_imports=[make_opsetid(d, v) for d, v in opsets.items()])
    try:
        found = dict(zip(wanted, _run(model, wanted, feeds, budget, view.where), strict=True))
    except BudgetError:
        raise
    except _EVALUATOR_ERRORS:
        return None
    budget.make(((v.shape, v.itemsize) for v in found.values() if isinstance(v, np.ndarray)), view.where)
    if any(isinstance(v, np.ndarray) and v.dtype == object and not all(isinstance(e, str) for e in v.flat)
           for v in found.values()):  # fmt: skip
        return None
    results: list[Operand | None] = []
    for name in view.outputs:
        value = found.get(name) if name else None
        results.append(Known(np.asarray(value) if isinstance(value, np.generic) else value) if name else None)
    return results


_EVALUATOR_ERRORS = (RuntimeError, NotImplementedError, TypeError, ValueError, LookupError, AttributeError,
                     AssertionError, ArithmeticError)  # fmt: skip
"""What the reference evaluator's code raises for a node that it cannot compute."""


_ENOUGH_S = 30.0


def _run(
    model: onnx.ModelProto, wanted: list[str], feeds: Mapping[str, Any], budget: Budget, where: str
) -> Sequence[Any]:
    """The outputs of a node as a model, within what is left of the budget."""
    (node,) = model.graph.node
    loops = any(True for _ in subgraphs(node)) or node.op_type == "RegexFullMatch"
    # what ends by itself gets so much time that a busy machine does not decide what is folded
    limits = Limits(max(budget.seconds, 0.01) if loops else _ENOUGH_S, 8 * budget.constant)
    begin = time.monotonic()
    try:
        check_sizes(model, feeds, budget.constant)
        if loops:
            return OnnxModel(model.SerializeToString(), limits=limits).run(feeds)
        return evaluate(model, wanted, feeds, limits)
    except LimitError as error:
        raise BudgetError(f"computed at import, {error}", where=where, todo="export the model without it") from error
    except ModelRunError as error:
        raise NotImplementedError from error
    finally:
        if loops:
            budget.seconds -= time.monotonic() - begin
