"""The weights around a node: how layers are told apart where a model's nodes do not say what they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from onnx import GraphProto, TensorProto

from mgc.frontend.modules import role_of
from mgc.frontend.onnx_graph import NodeGraph

Anchors = frozenset[tuple[str, int]]


class Neighbours:
    """The nearest weight matrices before and after each node, each with its distance in nodes.

    Two applications of a layer have the same weights before them, or (if the layer is the first of its network) after
    them; two layers have neither in common.
    """

    def __init__(self, graph: GraphProto, tensors: Mapping[str, TensorProto]) -> None:
        import networkx as nx

        self.tensors = tensors
        self.nodes = list(graph.node)
        self.flow = NodeGraph(self.nodes).flow
        # behind a weight, search ends
        outwards = [(i, j) for i, j in self.flow.edges if not self._weights(i)]
        inwards = [(j, i) for i, j in self.flow.edges if not self._weights(j)]
        self.open = {True: nx.DiGraph(outwards), False: nx.DiGraph(inwards)}
        self.before = cache(self._before)
        self.after = cache(self._after)

    def _weights(self, i: int) -> list[str]:
        """The weight matrices that a node multiplies with."""
        node = self.nodes[i]
        return [
            name
            for k, name in enumerate(node.input)
            if role_of(node, k) == "weight" and name in self.tensors and len(self.tensors[name].dims) >= 2
        ]

    def _search(self, start: int, *, forward: bool) -> Anchors:
        import networkx as nx

        near = set((self.flow.successors if forward else self.flow.predecessors)(start))
        flow = self.open[forward]
        flow.add_nodes_from(near)
        distances = nx.multi_source_dijkstra_path_length(flow, near) if near else {}
        return frozenset((w, int(distance) + 1) for j, distance in distances.items() for w in self._weights(j))

    def _before(self, i: int) -> Anchors:
        own = self._weights(i)
        return frozenset((w, 0) for w in own) if own else self._search(i, forward=False)

    def _after(self, i: int) -> Anchors:
        return self._search(i, forward=True)

    def same_layer(self, i: int, j: int) -> bool:
        """Whether two nodes (by their numbers) have the same weights before them, or the same after them."""
        if self.before(i) and self.before(i) == self.before(j):
            return True
        return bool(self.after(i)) and self.after(i) == self.after(j)

    def leads_to_weights(self, i: int) -> bool:
        """Whether there are weights after a node: it is part of a network, not of a loss."""
        return bool(self.after(i))

    def layer(self, i: int) -> str:
        """A name for a node's layer after the nearest weight before it (else after it)."""
        anchors = self.before(i) or self.after(i)
        weight = min(anchors, key=lambda a: (a[1], a[0]))[0] if anchors else self.nodes[i].output[0]
        module = weight.removesuffix(".weight")
        return module if self._weights(i) else f"{module}.norm"
