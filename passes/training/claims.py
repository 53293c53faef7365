"""What a script makes each phase of an iteration depend on, told from the forward half, not from what is made of it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import (
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Detach,
    Expand,
    MatMul,
    Pad,
    Random,
    Reduce,
    Reshape,
    Slice,
    Transpose,
    Unary,
)
from mgc.ir.training import Claim, Forward, Phase, State
from mgc.ir.types import TensorType

VIEWS = (Reshape, Transpose, Slice)


class _Bits(dict[Hashable, int]):
    """Sets of things as the bits of a number."""

    def of(self, thing: Hashable) -> int:
        return 1 << self.setdefault(thing, len(self))

    def told(self, bits: int) -> Iterator[Hashable]:
        return (thing for thing, bit in self.items() if bits >> bit & 1)


@dataclass(frozen=True)
class _Product:
    """A product with the parameter `weight`, whose operands are a view of that, `held`, and `x`."""

    weight: Value
    held: Value
    x: Value


@dataclass
class _Row:
    """A claim whose draws are still nodes of the step."""

    phase: str
    changes: tuple[str, ...]
    depends: int
    slopes: Mapping[str, int] = field(default_factory=dict)


class Claims:
    """The claims of an entry, row after row as its phases are unrolled. Nothing is taken from the step but which random
    op of it is which of the forward half, and which parameters have a new version.
    """

    def __init__(self, source: Graph, forward: Forward, states: Sequence[State], old_versions: bool) -> None:
        self.source, self.forward, self.old_versions = source, forward, old_versions
        self.outputs = dict(source.outputs)
        self.parameters = {s.name: s for s in states if s.kind == "parameter"}
        self.carried = [c.input for c in forward.carries]
        self.versions = dict.fromkeys((*self.parameters, *self.carried), 0)
        self.leaves, self.weights = _Bits(), _Bits()
        self.kept: dict[Value, int] = {}
        self.left: dict[Value, int] = {}
        self.limited: set[str] = set()
        self.made = self._made_of()
        self.told: list[_Row] = []

    # -- what values are made of -----------------------------------------------------------------------------------

    def _made_of(self) -> dict[Value, int]:
        """For each value of the forward half, the parameters of the products that it is made of at once."""
        weights = {p.weight.name for n in self.source.nodes for p in [self._product(n)] if p is not None}
        weights |= {name for name, s in self.parameters.items() if s.initial.ndim > 1}
        made = {v: self.weights.of(v.name) if v.name in weights else 0 for v in self.source.inputs}
        reads = {name: e for e in self.forward.estimates for name in e.read}
        later = [v for v in self.source.inputs if v.name in reads]
        for _ in range(2 if later else 1):  # what estimates give is made of what moves them
            for node in self.source.nodes:
                product = self._product(node)
                operands = node.inputs if product is None else (product.weight, *node.inputs[2:])
                made.update(dict.fromkeys(node.outputs, _all(made, operands)))
            for v in later:
                made[v] = _all(made, [self.outputs[name] for name in reads[v.name].moved])
        return made

    def _product(self, node: Node) -> _Product | None:
        """What a node is if it is a product whose weight is a parameter and nothing else."""
        if not isinstance(node.op, Conv | ConvTranspose | MatMul):
            return None
        x, w = node.inputs[:2]
        found = [(w, x), (x, w)] if isinstance(node.op, MatMul) else [(w, x)]
        products = [_Product(p, held, other) for held, other in found for p in [self._seen(held)] if p is not None]
        return products[0] if len(products) == 1 else None

    def _seen(self, value: Value) -> Value | None:
        """The parameter that a value is a view of."""
        node = self.source.producer(value)
        while node is not None and isinstance(node.op, VIEWS):
            value = node.inputs[0]
            node = self.source.producer(value)
        return value if node is None and value.name in self.parameters else None

    # -- phases ----------------------------------------------------------------------------------------------------

    def phase(self, phase: Phase, changed: Collection[str], image: Mapping[Value, Value], step: Graph) -> None:
        """The row of a phase. `image` maps values of the forward half to those of the step."""
        loss = self.outputs[phase.loss]
        left = [self.outputs[each.output] for each in self.forward.left if phase.loss in each.losses]
        own = {n: s for n, s in self.parameters.items() if phase.name in s.phases}
        found = self._depends([loss, *left], self._read(), image, step)
        slopes, reached = self._slopes(loss, own)
        if phase.clipnorm is not None:  # the norm is of all of them
            together = reduce(or_, (slopes[name] for name in reached), 0)
            slopes |= {name: slopes[name] | together for name in reached}
        still = {name for of, name in self.forward.still if of == phase.loss}
        changes = tuple(n for n in own if n in changed and (n in reached or n in still or phase.clip is not None))
        depends = found[loss] | reduce(or_, (self._version(n, self.versions[n]) for n in changes), 0)
        self.told.append(_Row(phase.name, changes, depends, slopes))
        self.left |= {value: found[value] for value in left}
        self._keep(found)
        self.limited.update(n for n in changes if n not in reached)
        for name in changes:
            self.versions[name] += 1

    def end(self, wanted: Sequence[Value], image: Mapping[Value, Value], step: Graph) -> None:
        """The row of what is computed and handed on after the phases."""
        found = self._depends(wanted, self.versions, image, step, self.left)
        self.told.append(_Row("", tuple(self.carried), _all(found, wanted)))

    def rows(self, step: Graph) -> tuple[Claim, ...]:
        """The claims, once the random ops of the step have their numbers."""
        numbers = {n: n.op.number for n in step.nodes if isinstance(n.op, Random)}
        rows: list[Claim] = []
        for row in self.told:
            leaves = list(self.leaves.told(row.depends))
            draws = (numbers[n] for n in leaves if isinstance(n, Node) and n in numbers)
            slopes = {name: tuple(sorted(map(str, self.weights.told(bits)))) for name, bits in row.slopes.items()}
            reads = sorted(leaf for leaf in leaves if isinstance(leaf, tuple))
            rows.append(Claim(row.phase, row.changes, tuple(reads), tuple(sorted(draws)), tuple(slopes.items())))
        return tuple(rows)

    def _read(self) -> dict[str, int]:
        return dict.fromkeys(self.versions, 0) if self.old_versions else self.versions

    def _keep(self, found: Mapping[Value, int]) -> None:
        for name in self.forward.once:
            value = self.outputs[name]
            if value in found:
                self.kept.setdefault(value, found[value])

    def _nodes(self, wanted: Sequence[Value], known: Collection[Value]) -> list[Node]:
        """Those that the values need, beyond what is known."""
        needed = {v for v in wanted if v not in known}
        nodes: list[Node] = []
        for node in reversed(self.source.nodes):
            if any(v in needed for v in node.outputs):
                nodes.append(node)
                needed.update(v for v in node.inputs if v not in known)
        return nodes[::-1]

    def _depends(
        self,
        wanted: Sequence[Value],
        read: Mapping[str, int],
        image: Mapping[Value, Value],
        step: Graph,
        known: Mapping[Value, int] | None = None,
    ) -> dict[Value, int]:
        """What each value that is needed depends on."""
        known = {**self.kept, **(known or {})}
        found = {v: self._version(v.name, read[v.name]) for v in self.source.inputs if v.name in read}
        found |= self._estimated(read) | known
        nodes = self._nodes(wanted, known)
        makers = step.producers() if any(isinstance(n.op, Random) for n in nodes) else {}
        for node in nodes:
            bits = _all(found, node.inputs)
            if isinstance(node.op, Random) and node.outputs[0] in image:
                bits |= self.leaves.of(makers[image[node.outputs[0]]])
            found.update(dict.fromkeys(node.outputs, bits))
        return found

    def _version(self, name: str, version: int) -> int:
        """What depends on a version of a state depends on: that, and where no update made it, also on those before."""
        first = 0 if name in self.limited else version
        return reduce(or_, (self.leaves.of((name, v)) for v in range(first, version + 1)), 0)

    def _estimated(self, read: Mapping[str, int]) -> dict[Value, int]:
        """What the inputs that estimates give depend on: every version of the weight up to now."""
        inputs, found = {v.name: v for v in self.source.inputs}, dict[Value, int]()
        for estimate in self.forward.estimates:
            names = {v.name for n in self._nodes([self.outputs[m] for m in estimate.moved], ()) for v in n.inputs}
            bits = 0
            for name in names & set(self.parameters):
                for version in range(read[name] + 1):
                    bits |= self.leaves.of((name, version))
            found |= dict.fromkeys((inputs[name] for name in estimate.read), bits)
        return found

    # -- errors ----------------------------------------------------------------------------------------------------

    def _slopes(self, loss: Value, own: Collection[str]) -> tuple[dict[str, int], set[str]]:
        """What gradients are made of at once, of the parameters that errors reach and of every weight of a product; the
        names of the former.
        """
        nodes = self._nodes([loss], self.kept)
        active = {v for v in self.source.inputs if v.name in own}
        for node in nodes:
            if not isinstance(node.op, Detach) and any(v in active for v in node.inputs):
                made = (v for v in node.outputs if not isinstance(v.type, TensorType) or v.type.dtype.is_float)
                active.update(v for v in made if v not in self.kept)
        errors, weights = {loss: 0}, dict[str, int]()
        for node in self.source.nodes:  # those too that made what is kept
            product = self._product(node)
            if product is not None:
                weights[product.weight.name] = weights.get(product.weight.name, 0) | _all(self.made, [product.x])
        for node in reversed(nodes):
            given = [v for v in node.outputs if v in errors]
            if not given or isinstance(node.op, Detach) or not any(v in active for v in node.inputs):
                continue
            above, product = _all(errors, given), self._product(node)
            if product is None:
                terms = {v: above | _all(self.made, _met(node, v)) for v in node.inputs}
            else:
                weights[product.weight.name] |= above
                terms = dict.fromkeys(node.inputs[2:], above)
                terms |= {product.held: above | _all(self.made, [product.x]), product.x: self.made[product.weight]}
            for value, bits in terms.items():
                if value in active:
                    errors[value] = errors.get(value, 0) | bits
        reached = {v.name: errors[v] for v in self.source.inputs if v.name in own and v in errors}
        return {name: reached.get(name, 0) | weights.get(name, 0) for name in {**weights, **reached}}, set(reached)


def _met(node: Node, operand: Value) -> Sequence[Value]:
    """The values that the derivative by an operand may take in."""
    match node.op:
        case Binary("add" | "sub") | Reduce("sum" | "mean") | Unary("neg"):
            return ()
        case Concat() | Expand() | Pad() | Reshape() | Slice() | Transpose():
            return ()
        case Binary("mul"):
            return [v for v in node.inputs if v is not operand] or node.inputs
    return (*node.inputs, *node.outputs)


def _all(bits: Mapping[Value, int], values: Iterable[Value]) -> int:
    """All that some values have; constants have nothing."""
    return reduce(or_, (bits.get(v, 0) for v in values), 0)
