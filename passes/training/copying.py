"""Copying (parts of) one graph into another."""

from __future__ import annotations

from collections.abc import Iterable

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import Op
from mgc.ir.ops import BatchNorm

Made = dict[tuple[Op, tuple[Value, ...]], tuple[Value, ...]]


class Copier:
    """Copies nodes into `target`; equal ops on equal operands are copied once, except normalisations in training form,
    each of which moves running statistics. Constants are copied when first read.

    `made` and `constants` remember what is in the target; share a Copier to share work between copies. With `apart`
    what is computed twice in the source is in the target, too.
    """

    def __init__(self, target: Graph, *, apart: bool = False) -> None:
        self.target, self.apart = target, apart
        self.made: Made = {}
        self.constants: dict[Value, Value] = {}

    def copy(self, source: Graph, image: dict[Value, Value], wanted: Iterable[Value]) -> None:
        """Copies what the values `wanted` need. `image` maps values of `source` to values of the target: given for the
        inputs that are needed, completed with everything that was copied.
        """
        needed = {v for v in wanted if v not in image}
        nodes: list[Node] = []
        for node in reversed(source.nodes):
            if any(v in needed for v in node.outputs):
                nodes.append(node)
                needed.update(v for v in node.inputs if v not in image)
        for value, held in source.constants.items():
            if value in needed:
                if value not in self.constants:
                    self.constants[value] = self.target.add_constant(
                        held.data, value.name, group=held.group, onnx_name=held.onnx_name
                    )
                image[value] = self.constants[value]
        for node in reversed(nodes):
            operands = tuple(image[v] for v in node.inputs)
            key = (node.op, operands)
            if self.apart or key not in self.made or (isinstance(node.op, BatchNorm) and node.op.training):
                names = [v.name for v in node.outputs]
                self.made[key] = self.target.add_multi(node.op, *operands, names=names, sources=node.sources)
            image.update(zip(node.outputs, self.made[key], strict=True))
