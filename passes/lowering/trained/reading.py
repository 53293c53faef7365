"""Weights on crossbars that are operands of other ops as well (a decay that a loss states): they are read from there.

A kernel is read as any product reads it, by unit vectors: one read for each of its rows or of its columns, whichever
are fewer. So what other ops see is what the cells hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import MatMul, Reshape, Transpose
from mgc.passes.lowering.trained.weights import Survey


def read_operands(surveys: Sequence[Survey]) -> bool:
    """Lets ops that are no products by it read, in place, every weight that is a kernel elsewhere through a product
    with unit vectors. Gives whether there is one; the surveys are then outdated.
    """
    kernels = {
        key
        for survey in surveys
        for key, uses in survey.uses_by_key().items()
        if not all(isinstance(u.node.op, MatMul) for u in uses)
    }
    both = kernels & {key for survey in surveys for key in survey.others}
    for survey in surveys:
        _Reads(survey, both).run()
    return bool(both)


class _Reads:
    def __init__(self, survey: Survey, keys: set[str]) -> None:
        self.survey, self.keys = survey, keys
        self.graph: Graph = survey.graph
        self.producers = self.graph.producers()
        self.read: dict[Value, Value] = {}

    def run(self) -> None:
        for node in list(self.graph.nodes):
            use = self.survey.uses.get(node)
            versions = node.inputs[:1] if self.survey.is_update(node) else ()
            held = {node.inputs[use.weight]} if use is not None else set(versions)
            if isinstance(node.op, Reshape | Transpose):
                continue  # a view; who reads it counts
            inputs = [
                self._read(v, node) if self.survey.key(v) in self.keys and (v not in held) else v for v in node.inputs
            ]
            if tuple(inputs) != node.inputs:
                node.inputs = tuple(inputs)

    def _read(self, value: Value, at: Node) -> Value:
        """A version of a kernel, or a view of one, as a product gives it; computed before the node `at`."""
        if value in self.read:
            return self.read[value]
        version = self.survey.views[value].version
        build = Build(self.graph, sources=at.sources, hint=f"{version.name}.read", at=at)
        if value is version:
            rows, cols = value.shape[0], prod(value.shape[1:])
            matrix = build.reshape(value, (rows, cols))
            if rows <= cols:
                found = build.matmul(self._unit(rows, value), matrix)
            else:
                found = build.transpose(build.matmul(self._unit(cols, value), build.transpose(matrix, (1, 0))), (1, 0))
            self.read[value] = build.reshape(found, value.shape)
        else:
            view = self.producers[value]
            self.read[value] = build.emit(view.op, self._read(view.inputs[0], at))
        return self.read[value]

    def _unit(self, size: int, like: Value) -> Value:
        return self.graph.add_constant(np.eye(size, dtype=like.tensor.dtype.numpy), f"{like.name}.units")
