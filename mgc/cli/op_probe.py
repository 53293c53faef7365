"""Makes the support table of `mgc ops`: imports ONNX's own test case of every op and looks where its work went.

    python -m mgc.cli.op_probe > mgc/cli/op_table.py

A test repeats this and compares, so that the table cannot say anything but what the importer does.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from mgc.cli.op_support import PLACES, OpSupport
from mgc.frontend import ModelError, import_model
from mgc.frontend.handlers import HANDLERS
from mgc.ir import ops
from mgc.ir.graph import Graph, Node
from mgc.onnx_backend import with_fixed_inputs

_MOVES = (ops.Concat, ops.Expand, ops.Pad, ops.Reshape, ops.Slice, ops.Transpose)
# Ops whose inputs from 1 on are weights; of any other op, integers and single numbers are (shapes, axes, bounds).
_WEIGHTED = frozenset(
    {
        "BatchNormalization", "CausalConvWithState", "Conv", "ConvTranspose", "Gemm", "GroupNormalization",
        "InstanceNormalization", "LayerNormalization", "MatMul", "PRelu", "RMSNormalization",
    }
)  # fmt: skip
_SHAPES_ONLY = frozenset({"ConstantOfShape", "Range"})  # no input of these is data
_SHOWN_REASONS = 3


def probe() -> list[OpSupport]:
    """The table: one entry for each op that the chip runs, in order of domain and name."""
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for op, model in _cases():
        found.setdefault(op, set()).update(_where(model))
    entries = (_entry(op, found[op]) for op in sorted(found))
    return [entry for entry in entries if entry.runs_on != ("host",)]


def _cases() -> Iterator[tuple[tuple[str, str], ModelProto]]:
    """(domain and op, a model of one such node with its parameters known), for every op that is anywhere."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    seen = set()
    for case in cases:
        if case.model is not None and len(case.model.graph.node) == 1 and case.data_sets:
            node = case.model.graph.node[0]
            seen.add(_op(node))
            yield _op(node), _with_parameters_fixed(case.model, node, case.data_sets[0][0])
    for domain, op_type in sorted(set(HANDLERS) - seen):
        yield (domain, op_type), _one_input(domain, op_type)
    undefined = {(s.domain, s.name) for s in onnx.defs.get_all_schemas()} - seen - set(HANDLERS)
    for op in sorted(undefined):
        yield op, _one_input(*op)


def _op(node: NodeProto) -> tuple[str, str]:
    return node.domain, node.op_type


def _one_input(domain: str, op_type: str) -> ModelProto:
    node = helper.make_node(op_type, ["x"], ["y"], domain=domain)
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 4, 4])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph([node], op_type, [image], [result]))


def _with_parameters_fixed(model: ModelProto, node: NodeProto, values: Iterable[Any]) -> ModelProto:
    """The case with its parameters as constants, as an exported network has them."""
    given = dict(zip((i.name for i in model.graph.input), values, strict=False))
    fixed = {}
    first = 0 if node.op_type in _SHAPES_ONLY else 1
    for name in node.input[first:]:
        value = given.get(name)
        if isinstance(value, np.ndarray | np.generic) and name not in node.input[:first]:
            small = value.ndim == 0 or value.dtype.kind in "iub"
            if node.op_type in _WEIGHTED or small or node.op_type in ("Resize", "Upsample"):
                fixed[name] = np.asarray(value)
    return with_fixed_inputs(model, fixed)


def _where(model: ModelProto) -> set[tuple[str, str]]:
    """(place, reason if it is the host) of each part of the work; "nothing" where none is left."""
    try:
        graph = import_model(model).graph
    except ModelError as error:
        return {("host", f"not alone: {error.what}")}
    return {_place(graph, node) for node in graph.nodes} or {("nothing", "")}


def _place(graph: Graph, node: Node) -> tuple[str, str]:
    match node.op:
        case ops.Host(reason=reason):
            return "host", reason
        case ops.Conv() | ops.ConvTranspose() | ops.MatMul() if any(v in graph.constants for v in node.inputs):
            return "crossbar", ""
        case ops.BatchNorm():
            return "weights", ""
        case op if isinstance(op, _MOVES):
            return "move", ""
    return "vector", ""


def _entry(op: tuple[str, str], found: set[tuple[str, str]]) -> OpSupport:
    """One row. Reasons are told only of an op that has other forms as well, and that are not just its name."""
    domain, name = op
    places = tuple(p for p in PLACES if any(place == p for place, _ in found))
    reasons = sorted(
        {reason.removeprefix(f"{name}: ") for _, reason in found if reason and f" no {name}" not in reason}
    )
    more = [f"and {len(reasons) - _SHOWN_REASONS} other forms"] if len(reasons) > _SHOWN_REASONS else []
    return OpSupport(name, domain, places, (*reasons[:_SHOWN_REASONS], *more))


def source(table: Iterable[OpSupport]) -> str:
    """The text of `op_table.py`."""
    lines = [
        '"""Which ONNX op the chip runs, and where. Generated by `python -m mgc.cli.op_probe`: do not edit."""',
        "# ruff: noqa: E501",
        "# fmt: off",
        "",
        "from __future__ import annotations",
        "",
        "from mgc.cli.op_support import OpSupport",
        "",
        f'ONNX_VERSION = "{onnx.__version__}"',
        "",
        "TABLE = (",
        *(f"    OpSupport{_literal(entry if entry.host_when else entry[:3])}," for entry in table),
        ")",
        '"""In order of domain and name; every other op runs on the host."""',
    ]
    return "\n".join(lines) + "\n"


def _literal(value: str | tuple[Any, ...]) -> str:
    """A string or (nested) tuple of strings as Python writes it, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    inner = ", ".join(map(_literal, value))
    return f"({inner},)" if len(value) == 1 else f"({inner})"


if __name__ == "__main__":
    sys.stdout.write(source(probe()))
