"""Spectral normalisation in training: every application moves the vectors of the estimate on, then reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Expand, MatMul, Reshape, Transpose
from mgc.ir.training import SMALLEST_NORM, Estimate, Spectrum

_VIEWS = (Reshape, Transpose, Expand)


def estimates(graph: Graph, spectra: Sequence[Spectrum], names: Mapping[str, str]) -> tuple[Estimate, ...]:
    """Lets every reader of a weight over sigma, in place, have a sigma of its own, made of vectors that are new inputs;
    how each moves them is said by what is given, in the order of the readers. `names` has the inputs that are states by
    their initializers; spectra of others are left alone.
    """
    inputs = {v.name: v for v in graph.inputs}
    found: list[tuple[Node, Estimate]] = []
    for spectrum in spectra:
        states = [names.get(n) for n in (spectrum.weight, spectrum.left, spectrum.right)]
        if None not in states:
            weight, left, right = (inputs[str(name)] for name in states)
            found += _Layer(graph, spectrum, weight, left, right).run()
    order = {node: k for k, node in enumerate(graph.nodes)}
    graph.prune()
    return tuple(estimate for _, estimate in sorted(found, key=lambda pair: order[pair[0]]))


class _Layer:
    """One weight with its vectors, inputs of the graph."""

    def __init__(self, graph: Graph, spectrum: Spectrum, weight: Value, left: Value, right: Value) -> None:
        self.graph, self.spectrum, self.weight = graph, spectrum, weight
        self.left, self.right = left, right

    def run(self) -> list[tuple[Node, Estimate]]:
        quotients = self._quotients()
        if not quotients:
            return []
        moved = self._moved(quotients[0][1])
        found: list[tuple[Node, Estimate]] = []
        for quotient, matrix in quotients:
            for node, views in self._readers(quotient.outputs[0]):
                read = tuple(
                    self.graph.add_input(f"{v.name}.application{len(found)}", v.type) for v in (self.left, self.right)
                )
                self._reread(node, views, quotient, matrix, read)
                names = tuple(v.name for v in read)
                estimate = Estimate((self.left.name, self.right.name), moved, (names[0], names[1]))
                found.append((node, estimate))
        return found

    def _quotients(self) -> list[tuple[Node, Value]]:
        """The weight's divisions by sigma, each with the matrix that sigma was made with."""
        found: list[tuple[Node, Value]] = []
        for node in self._terminal(self.left):
            other = next((v for v in node.inputs if self._root(v) is not self.left), None)
            product = None if other is None else self.graph.producer(self._root(other))
            if not isinstance(node.op, MatMul) or product is None or not isinstance(product.op, MatMul):
                continue
            matrix, vector = product.inputs
            if self._root(vector) is self.right and self._root(matrix) is self.weight:
                found += [
                    (q, matrix) for q in self._terminal(node.outputs[0]) if self._root(q.inputs[0]) is self.weight
                ]
        return list(dict.fromkeys(found))

    def _root(self, value: Value) -> Value:
        node = self.graph.producer(value)
        while node is not None and isinstance(node.op, _VIEWS):
            value = node.inputs[0]
            node = self.graph.producer(value)
        return value

    def _terminal(self, value: Value) -> list[Node]:
        return [node for node, _ in self._readers(value)]

    def _readers(self, value: Value, views: tuple[Node, ...] = ()) -> list[tuple[Node, tuple[Node, ...]]]:
        """The nodes that read a value, with the changes of shape on the way to each."""
        found: list[tuple[Node, tuple[Node, ...]]] = []
        for node in self.graph.uses(value):
            if isinstance(node.op, _VIEWS):
                found += self._readers(node.outputs[0], (*views, node))
            else:
                found.append((node, views))
        return found

    def _reread(
        self, node: Node, views: Sequence[Node], quotient: Node, matrix: Value, read: tuple[Value, ...]
    ) -> None:
        """Lets a node read the weight over a sigma made of the vectors `read`."""
        left, right = read
        build = Build(self.graph, sources=quotient.sources, hint=f"{self.weight.name}.sigma", at=node)
        turned = build.transpose(self._again(build, matrix), (1, 0))
        image = build.matmul(build.reshape(right, (1, right.tensor.size)), turned)
        sigma = build.total(build.mul(build.reshape(left, image.shape), image))
        build.hint = quotient.outputs[0].name
        value = build.div(self._again(build, quotient.inputs[0]), sigma)
        old = views[-1].outputs[0] if views else quotient.outputs[0]
        for view in views:
            value = build.emit(view.op, value)
        node.inputs = tuple(value if v is old else v for v in node.inputs)

    def _again(self, build: Build, value: Value) -> Value:
        """An arrangement of the weight, where it may not be there yet."""
        node = self.graph.producer(value)
        return value if node is None else build.emit(node.op, self._again(build, node.inputs[0]))

    def _moved(self, matrix: Value) -> tuple[str, str]:
        """The outputs that give what an application makes of the vectors."""
        build = Build(self.graph, hint=f"{self.weight.name}.power")
        matrix = self._again(build, matrix)
        left, right = (build.reshape(v, (1, v.tensor.size)) for v in (self.left, self.right))
        turned = build.transpose(matrix, (1, 0))
        for _ in range(self.spectrum.steps):
            if self.spectrum.left_first:
                left = _unit(build, build.matmul(right, turned))
                right = _unit(build, build.matmul(left, matrix))
            else:
                right = _unit(build, build.matmul(left, matrix))
                left = _unit(build, build.matmul(right, turned))
        names = (f"{self.left.name}.moved", f"{self.right.name}.moved")
        for name, value, like in zip(names, (left, right), (self.left, self.right), strict=True):
            self.graph.outputs.append((name, build.reshape(value, like.shape)))
        return names


def _unit(build: Build, x: Value) -> Value:
    norm = build.unary("sqrt", build.reduce("sum", build.mul(x, x), (1,)))
    return build.div(x, build.binary("max", norm, SMALLEST_NORM))
