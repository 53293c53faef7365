"""The verifier: what must hold of any graph, and of a graph at one level."""

from __future__ import annotations

from mgc.ir.graph import Graph, Value
from mgc.ir.op import IRError
from mgc.ir.types import tensor_type_of


def verify(graph: Graph, *, levels: tuple[int, ...] = (1,)) -> None:
    """Checks SSA form, topological order, unique names, type rules, constants' data, and that all ops are of `levels`.

    Raises IRError that names the value, or the node with its ONNX origin and its line in the text it was parsed from.
    """
    defined: set[Value] = set()
    names: set[str] = set()

    def define(value: Value, what: str) -> None:
        if value in defined:
            raise IRError(f"%{value.name} is defined twice ({what})")
        if value.name in names:
            raise IRError(f"two values are named %{value.name} ({what})")
        defined.add(value)
        names.add(value.name)

    for value in graph.inputs:
        define(value, "graph input")
    for value, constant in graph.constants.items():
        define(value, "constant")
        if constant.value is not value or tensor_type_of(constant.data) != value.type:
            raise IRError(f"constant %{value.name}: type {value.type} but data {tensor_type_of(constant.data)}")
    for node in graph.nodes:
        if node.op.level not in levels:
            raise node.error(f"an op of level {node.op.level} in a graph of levels {levels}")
        for value in node.inputs:
            if value not in defined:
                raise node.error(f"operand %{value.name} is used before it is defined")
        try:
            types = node.op.infer(*(v.type for v in node.inputs))
        except IRError as error:
            raise node.error(str(error)) from error
        have = tuple(v.type for v in node.outputs)
        if types != have:
            raise node.error(f"results are {', '.join(map(str, have))}, its rule gives {', '.join(map(str, types))}")
        for value in node.outputs:
            define(value, f"{node.op.name}{', ' + node.location if node.location else ''}")
    for name, value in graph.outputs:
        if value not in defined:
            raise IRError(f"output {name!r}: %{value.name} is not defined")
