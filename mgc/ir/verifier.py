"""The verifier: what must hold of any graph, and of a graph at one level."""

from __future__ import annotations

from mgc.ir.graph import Graph, Value
from mgc.ir.op import IRError, Op
from mgc.ir.types import ValueType, tensor_type_of

Inferred = dict[int, tuple[Op, tuple[ValueType, ...], tuple[ValueType, ...]]]
"""By the id of an op, which it keeps alive: the op, types of operands and the types of results that its rule gave."""


def verify(graph: Graph, *, levels: tuple[int, ...] = (1,), inferred: Inferred | None = None) -> None:
    """Checks SSA form, topological order, unique names, type rules, constants' data, and that all ops are of `levels`.

    inferred: what rules gave in earlier graphs; those that share ops, which never change, need not ask them again.
    Raises IRError that names the value, or the node with its ONNX origin and its line in the text it was parsed from.
    """
    inferred = {} if inferred is None else inferred
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
        operands = tuple(v.type for v in node.inputs)
        _, of, types = inferred.get(id(node.op), (None, None, ()))
        if of != operands:
            try:
                types = node.op.infer(*operands)
            except IRError as error:
                raise node.error(str(error)) from error
            inferred[id(node.op)] = node.op, operands, types
        have = tuple(v.type for v in node.outputs)
        if types != have:
            raise node.error(f"results are {', '.join(map(str, have))}, its rule gives {', '.join(map(str, types))}")
        for value in node.outputs:
            define(value, f"{node.op.name}{', ' + node.location if node.location else ''}")
    for name, value in graph.outputs:
        if value not in defined:
            raise IRError(f"output {name!r}: %{value.name} is not defined")
