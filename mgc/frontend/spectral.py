"""Spectral normalisation in a model that is to be trained: W / sigma with sigma = u . (M v), M a matrix made of W.

In evaluation u and v are what they are. In training a forward pass first moves them on by power iteration, and the
exporters write that out, application after application, from the one vector that it starts from; the other is not in
the file. Here all of that becomes the form of evaluation, with both vectors as initializers: how they move is said by a
`Spectrum`, not by the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto
from onnx.helper import get_attribute_value, tensor_dtype_to_np_dtype
from onnx.numpy_helper import from_array

from mgc.frontend.load import to_array
from mgc.ir.training import SMALLEST_NORM, Spectrum

_PASSING = frozenset(("Identity", "Reshape", "Expand", "Squeeze", "Unsqueeze", "Flatten", "CastLike"))
"""What a vector or sigma may go through and stay what it is."""


def hold_vectors(graph: GraphProto, tensors: dict[str, TensorProto]) -> tuple[Spectrum, ...]:
    """Rewrites, in place, every spectral normalisation of one of `tensors` (the graph's initializers, completed where
    a vector is missing), and gives one `Spectrum` for each of the weights.
    """
    return _Spectra(graph, tensors).run()


@dataclass
class _Spectra:
    graph: GraphProto
    tensors: dict[str, TensorProto]
    made: dict[str, NodeProto] = field(init=False)
    found: dict[str, Spectrum] = field(default_factory=dict)

    def run(self) -> tuple[Spectrum, ...]:
        self.made = {o: n for n in self.graph.node for o in n.output if o}
        for node in self.graph.node:
            if node.op_type == "Div" and len(node.input) == 2:
                self._quotient(node)
        return tuple(self.found.values())

    def _source(self, name: str, through: frozenset[str] = _PASSING) -> str:
        """The value that a name is another form of."""
        while name in self.made and self.made[name].op_type in through:
            name = self.made[name].input[0]
        return name

    def _weight(self, name: str) -> str:
        """The weight of which a value is another arrangement; "" if it is none."""
        source = self._source(name, _PASSING | {"Transpose"})
        return source if source in self.tensors and len(self.tensors[source].dims) > 1 else ""

    def _quotient(self, node: NodeProto) -> None:
        weight, dot = self._weight(node.input[0]), self._product(node.input[1])
        if not weight or dot is None:
            return
        for k in (1, 0):
            product = self._product(dot.input[k])
            if product is not None and self._weight(product.input[0]) == weight:
                self._estimate(weight, dot, 1 - k, product)
                return

    def _product(self, name: str) -> NodeProto | None:
        node = self.made.get(self._source(name))
        return node if node is not None and node.op_type == "MatMul" else None

    def _estimate(self, weight: str, dot: NodeProto, left: int, product: NodeProto) -> None:
        """sigma as operand `left` of `dot` times `product`, which is M v."""
        names = (dot.input[left], product.input[1])
        sources = {self._source(name) for name in names}
        still = all(s in self.tensors for s in sources)
        roots = sources if still else set(self._roots(names, weight))
        if weight not in self.found:
            if not roots or (still and len(roots) != 2) or not all(self._is_vector(r) for r in roots):
                return
            iterated = 0 if still else self._iterations(names, weight)
            self.found[weight] = self._spectrum(weight, product.input[0], names, roots, iterated)
        spectrum = self.found[weight]
        dot.input[left], product.input[1] = spectrum.left, spectrum.right

    def _is_vector(self, name: str) -> bool:
        return len(self.tensors[name].dims) == 1 and self.tensors[name].data_location != TensorProto.EXTERNAL

    def _above(self, names: tuple[str, ...]) -> Iterator[str]:
        """All that values are computed from, these included."""
        waiting, seen = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                yield name
                waiting += [i for i in self.made[name].input if i] if name in self.made else []

    def _roots(self, names: tuple[str, ...], weight: str) -> Iterator[str]:
        """The vectors among the initializers that others come from by power iteration; none if there is more to it."""
        held, above = {t.name for t in self.graph.initializer}, list(self._above(names))
        if all(name in self.made or name in held for name in above):
            yield from (n for n in above if n in self.tensors and n != weight and self._is_vector(n))

    def _iterations(self, names: tuple[str, ...], weight: str) -> int:
        """How many products by the weight its first application makes, in pairs."""
        products = {
            name
            for name in self._above(names)
            if name in self.made and self.made[name].op_type == "MatMul" and self._weight(self.made[name].input[0])
        }
        return max(len(products) // 2, 1)

    # -- what moves ------------------------------------------------------------------------------------------------

    def _spectrum(self, weight: str, matrix: str, names: tuple[str, ...], roots: set[str], iterated: int) -> Spectrum:
        """The vectors of a weight under names of its own; one that is not in the file gets its first value."""
        base = weight.removesuffix("_orig").removesuffix("_bar")
        parametrized = weight.endswith(".original")
        if parametrized:
            base = f"{weight.removesuffix('original')}0._"
        left, right = (base + s if parametrized else f"{base}_{s}" for s in "uv")
        if not iterated:
            u, v = (to_array(self.tensors[self._source(name)]) for name in names)
            return self._held(weight, (left, u), (right, v), parametrized, 1)
        (root, *_) = sorted(roots)
        given, array = to_array(self.tensors[root]), self._matrix(matrix)
        is_left = root.endswith("u") if root[-1] in "uv" else given.size == array.shape[0]
        other = given.astype(np.float64) @ (array if is_left else array.T)
        other = (other / max(float(np.linalg.norm(other)), SMALLEST_NORM)).astype(given.dtype)
        u, v = (given, other) if is_left else (other, given)
        return self._held(weight, (left, u), (right, v), not is_left, iterated)

    def _matrix(self, name: str) -> np.ndarray:
        """M, as it is made of the weight by transposes and reshapes to a matrix."""
        node = self.made.get(name)
        if node is None:
            return np.asarray(to_array(self.tensors[name]), np.float64)
        array = self._matrix(node.input[0])
        if node.op_type == "Transpose":
            perm = next((get_attribute_value(a) for a in node.attribute if a.name == "perm"), None)
            return array.transpose(perm)
        return array.reshape(array.shape[0], -1) if node.op_type in ("Reshape", "Flatten") else array

    def _held(
        self, weight: str, left: tuple[str, np.ndarray], right: tuple[str, np.ndarray], right_first: bool, steps: int
    ) -> Spectrum:
        dtype = tensor_dtype_to_np_dtype(self.tensors[weight].data_type)
        for name, array in (left, right):
            if name not in self.tensors:
                self.graph.initializer.append(from_array(array.astype(dtype), name))
                self.tensors[name] = self.graph.initializer[-1]
        return Spectrum(weight, left[0], right[0], right_first, steps)
