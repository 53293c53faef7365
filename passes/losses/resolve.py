"""From a scalar loss to its branches: which terms are functions of single scores, and which have to stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from mgc.ir.graph import Value
from mgc.ir.ops import Binary, Expand, Reduce, Reshape, Unary
from passes.losses.branch import Branch, RuntimeTarget
from passes.losses.forms import Form, recognise, with_targets
from passes.losses.region import Region
from passes.losses.tabulate import UntabulatedError, tabulate
from passes.losses.terms import Term, opened, over_batch, peeled
from passes.losses.view import View

# What a network may end in; a loss of these results is one of the network's output, not of what is below.
_LAST_LAYERS = ("sigmoid", "tanh", "hard_sigmoid")
_OPPOSITE = {"cross-entropy": "minimax", "minimax": "cross-entropy"}
_ACTIVATIONS = (*_LAST_LAYERS, "relu", "leaky_relu", "elu", "selu", "celu", "softsign", "gelu", "silu", "mish")


@dataclass(frozen=True)
class Rest:
    """A term that stays in the graph, and why."""

    term: Term
    reason: str


@dataclass
class Outcome:
    """What became of a term: branches, terms that stay, a constant."""

    branches: list[Branch] = field(default_factory=list)
    rest: list[Rest] = field(default_factory=list)
    constant: float = 0.0

    @property
    def known(self) -> bool:
        """Whether all of it is of known forms."""
        return not self.rest and all(b.table is None for b in self.branches)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.branches + other.branches, self.rest + other.rest, self.constant + other.constant)


@dataclass(frozen=True)
class _Argument:
    """A candidate for u: the value `at` of the region is `orientation` * u."""

    at: Value
    a: Value
    b: Value | None = None
    pairing: str = "single"
    orientation: float = 1.0
    target: Value | None = None
    last_layer: bool = False


class _DeclinedError(Exception):
    """This term is no function of scores; the message says why."""


def resolve(view: View, loss: Value) -> Outcome:
    """All of a scalar loss."""
    return _Resolver(view).outcome(Term(1.0, loss))


class _Resolver:
    def __init__(self, view: View) -> None:
        self.view = view

    def outcome(self, term: Term) -> Outcome:
        view = self.view
        term = peeled(view, term)
        data = view.constant(term.value)
        if data is not None:
            return Outcome(constant=term.scale * float(np.sum(data, dtype=np.float64)))
        node = view.producers.get(term.value)
        reason = ""
        partial = node is not None and isinstance(node.op, Reduce) and node.op.fn in ("sum", "mean")
        if not partial:
            try:
                return self._known(term)
            except _DeclinedError as declined:
                reason = str(declined)
        parts = opened(view, term)
        inner = Outcome()
        for part in parts:
            inner = inner + self.outcome(part)
        if partial:
            # the last layer of a network may be a mean over positions; the first one of a loss may be, too
            below = peeled(view, parts[0]).value
            if self._is_layer(below) or inner.rest:
                return self._plain(term)
            return inner
        if parts and inner.known:
            return self._plain(term) if self._joins_paths(term.value) else inner
        try:
            return self._tabulated(term)
        except _DeclinedError as declined:
            reason = str(declined) or reason
        return inner if parts else Outcome(rest=[Rest(term, reason)])

    # -- what may be scores ------------------------------------------------------------------------------------------

    def _is_leaf(self, value: Value) -> bool:
        region = Region.of(self.view, value)
        return region.leaves == [value]

    def _is_layer(self, value: Value) -> bool:
        """Whether it is a network's result as it stands: no element-wise op, or an activation right on one."""
        if self._is_leaf(value):
            return True
        node = self.view.producers[value]
        return isinstance(node.op, Unary) and node.op.fn in _ACTIVATIONS and self._is_leaf(node.inputs[0])

    def _joins_paths(self, value: Value) -> bool:
        """Whether it is a network's last layer with two paths that are added up."""
        node = self.view.producers[value]
        if not isinstance(node.op, Binary) or node.op.fn != "add" or not all(map(self._is_leaf, node.inputs)):
            return False
        try:
            for v in node.inputs:
                self._check_scores(v)
        except _DeclinedError:
            return False
        return True

    def _check_scores(self, value: Value) -> None:
        """_DeclinedError, with the reason, for values that cannot be scores."""
        view = self.view
        if view.is_parameter(value):
            raise _DeclinedError(f"%{value.name} is computed from parameters alone")
        if value in view.into_networks:
            raise _DeclinedError(f"%{value.name} goes into a network: it is no score")
        node = view.producers.get(_bare(view, value))
        if node is None or not isinstance(node.op, Reduce) or not over_batch(node.op, node.inputs[0]):
            return
        if node.inputs[0].tensor.size > node.outputs[0].tensor.size:
            raise _DeclinedError(f"%{value.name} is taken over the whole batch: not a function of single scores")

    def _plain(self, term: Term) -> Outcome:
        """The value itself as the scores, as in a Wasserstein loss."""
        try:
            self._check_scores(term.value)
        except _DeclinedError as declined:
            return Outcome(rest=[Rest(term, str(declined))])
        return Outcome([Branch(Form("wasserstein", 1.0), term.scale, term.mean, term.value)])

    # -- known forms -------------------------------------------------------------------------------------------------

    def _known(self, term: Term) -> Outcome:
        region = Region.of(self.view, term.value)
        if region.leaves == [term.value]:
            outcome = self._plain(term)
            if outcome.rest:
                raise _DeclinedError(outcome.rest[0].reason)
            return outcome
        reason = ""
        for argument in self._arguments(region):
            try:
                return self._match(term, argument)
            except _DeclinedError as declined:
                reason = reason or str(declined)
        raise _DeclinedError(reason or self._many(region))

    def _many(self, region: Region) -> str:
        names = ", ".join(f"%{v.name}" for v in region.leaves[:4])
        if len(region.leaves) == 1:
            return f"it is of no known form in {names}"
        return f"it is no function of one score, but of {len(region.leaves)} tensors ({names})"

    def _arguments(self, region: Region) -> Iterator[_Argument]:
        """Candidates for u, the one nearest to the network's inputs first."""
        view, leaves = self.view, region.leaves
        scores = [v for v in leaves if v in view.trained] or leaves
        data = [v for v in leaves if v not in scores]
        if len(scores) == 2 and scores == leaves and not any(v in view.trained for v in leaves):
            # nothing tells scores from targets but the formula
            yield from (_Argument(s, s, target=t) for s, t in (scores, scores[::-1]))
        if len(data) > 1:
            return
        target = data[0] if data else None
        if len(scores) == 1:
            yield from self._along(region, _Argument(scores[0], scores[0], target=target))
            return
        join = self._join(region, data)
        if join is not None:
            yield replace(self._paired(join), target=target)

    def _along(self, region: Region, argument: _Argument) -> Iterator[_Argument]:
        """A score, then what constant factors and offsets and a network's last activation make of it."""
        yield argument
        for node in region.nodes:
            op, at = node.op, argument.at
            last = isinstance(op, Unary) and op.fn in _LAST_LAYERS
            varying = [v for v in node.inputs if self.view.constant(v) is None]
            affine = isinstance(op, Binary) and op.fn in ("add", "sub", "mul", "div")
            if varying != [at] or not (last or affine or isinstance(op, Reshape)) or node.outputs[0] is region.root:
                continue
            if at in Region.of(self.view, region.root, frozenset(node.outputs)).leaves:
                return
            (value,) = node.outputs
            argument = replace(argument, at=value, a=value, last_layer=argument.last_layer or last)
            yield argument

    def _join(self, region: Region, data: list[Value]) -> Value | None:
        """The first value that all of the region's scores go through; None if that is the root."""
        for node in region.nodes:
            (value,) = node.outputs
            leaves = Region.of(self.view, region.root, frozenset((value,))).leaves
            if value is not region.root and value in leaves and set(leaves) <= {value, *data}:
                return value
        return None

    def _paired(self, join: Value) -> _Argument:
        """Where scores are subtracted from one another: the pairing; else the value itself."""
        node = self.view.producers[join]
        if not isinstance(node.op, Binary) or node.op.fn not in ("add", "sub"):
            return _Argument(join, join)
        (s, x), (r, y) = map(self._signed, node.inputs)
        r = -r if node.op.fn == "sub" else r
        if s == r:
            return _Argument(join, join)
        a, b = (x, y) if s > 0 else (y, x)
        for one, other, orientation in ((a, b, 1.0), (b, a, -1.0)):
            mean = self._mean_of(other)
            if mean is not None and one.tensor.size == join.tensor.size:
                return _Argument(join, one, mean, "average", orientation)
        return _Argument(join, a, b, "pair")

    def _signed(self, value: Value) -> tuple[int, Value]:
        node = self.view.producers.get(value)
        if node is not None and isinstance(node.op, Unary) and node.op.fn == "neg":
            sign, inner = self._signed(node.inputs[0])
            return -sign, inner
        return 1, value

    def _mean_of(self, value: Value) -> Value | None:
        """The tensor that a value is the mean of, over all its elements; None if it is no such mean."""
        term = peeled(self.view, Term(1.0, value))
        if value.tensor.size != 1:
            inner = _bare(self.view, value)
            return self._mean_of(inner) if inner.tensor.size == 1 else None
        size = term.value.tensor.size
        return term.value if size > 1 and abs(term.scale * size - 1) < 1e-6 else None

    def _match(self, term: Term, argument: _Argument) -> Outcome:
        region, columns, which = self._prepared(term, argument)
        target = argument.target

        def f(u: np.ndarray, t: float = 0.0) -> np.ndarray:
            points = {argument.at: argument.orientation * u}
            if target is not None:
                points[target] = np.full((1, 1), t)
            y = region.evaluate(points, columns)[region.root]
            return np.broadcast_to(y, (len(u), max(1, which.max() + 1)))

        if target is not None:
            return self._with_target(term, argument, region, with_targets(f), target)
        match = recognise(f)
        if match is None:
            raise _DeclinedError("")
        if argument.last_layer and any(form.function not in ("least-squares", "hinge") for form in match.forms):
            raise _DeclinedError("")
        repeats = term.value.tensor.size / argument.at.tensor.size
        branches: list[Branch] = []
        for form in match.forms:
            array = None
            if isinstance(form.target, np.ndarray):
                if repeats != 1:
                    raise _DeclinedError("its targets are broadcast over more elements than there are scores")
                array = form.target[which]
                form = replace(form, target=0.0)
            branches.append(self._branch(term, argument, form, repeats, target=array, guarded=bool(region.guards)))
        constant = term.scale * float(np.sum(match.constant[which]))
        return Outcome(branches, constant=constant * term.value.tensor.size / len(which))

    def _prepared(self, term: Term, argument: _Argument) -> tuple[Region, dict, np.ndarray]:
        """The region above the argument with its constants, after the checks that both kinds of match need."""
        view = self.view
        for value in (argument.a, argument.b):
            if value is not None:
                self._check_scores(value)
        if argument.target is not None and argument.target in view.into_networks:
            raise _DeclinedError(f"%{argument.a.name} is compared with %{argument.target.name}, which is no target")
        region = Region.of(view, term.value, frozenset((argument.at,)))
        sizes = {argument.at.tensor.size, term.value.tensor.size}
        extra = {} if argument.target is None else {argument.target: np.full((1, 1), 0.5)}
        aligned = region.aligned() and len(sizes) == 1
        if argument.target is not None and not aligned:
            raise _DeclinedError("its targets are broadcast over more elements than there are scores")
        uneven = any(
            view.constant(v) is not None and view.number(v) is None for node in region.nodes for v in node.inputs
        )
        if uneven and not aligned:
            raise _DeclinedError("constants that differ from element to element are broadcast over the scores")
        columns, which = region.columns() if uneven else ({}, np.zeros(1, np.int64))
        if columns and which.max() >= _MOST_COLUMNS:
            raise _DeclinedError(f"its constants differ in more than {_MOST_COLUMNS} ways from element to element")
        region.find_guards(argument.at, extra)
        return region, columns, which

    def _with_target(
        self,
        term: Term,
        argument: _Argument,
        region: Region,
        found: tuple[Form, float, float] | None,
        value: Value,
    ) -> Outcome:
        if found is None:
            raise _DeclinedError(f"it compares %{argument.a.name} with %{value.name} in no known form")
        form, alpha, beta = found
        target = RuntimeTarget(value, alpha, beta)
        form = replace(form, target=0.0)
        return Outcome([self._branch(term, argument, form, 1.0, target=target, guarded=bool(region.guards))])

    def _branch(
        self,
        term: Term,
        argument: _Argument,
        form: Form,
        repeats: float,
        *,
        target: np.ndarray | RuntimeTarget | None = None,
        guarded: bool = False,
    ) -> Branch:
        scale = term.scale * repeats * form.weight
        function = form.function
        if scale < 0 and function in _OPPOSITE:
            function, scale = _OPPOSITE[function], -scale
        form = replace(form, function=function, weight=1.0)
        return Branch(form, scale, term.mean, argument.a, argument.b, argument.pairing, target=target, guarded=guarded)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _tabulated(self, term: Term) -> Outcome:
        whole = Region.of(self.view, term.value)
        reason = ""
        for argument in self._arguments(whole):
            if argument.target is not None or argument.last_layer:
                reason = reason or self._many(whole)
                continue
            region, columns, _ = self._prepared(term, argument)
            if columns:
                raise _DeclinedError("it differs from element to element and is of no known form")
            try:
                table = tabulate(region, argument.at, argument.orientation)
            except UntabulatedError as error:
                raise _DeclinedError(self._why_not(whole, str(error))) from error
            repeats = term.value.tensor.size / argument.at.tensor.size
            branch = self._branch(term, argument, Form("tabulated", 1.0), repeats)
            return Outcome([replace(branch, table=table)])
        raise _DeclinedError(reason or self._many(whole))

    def _why_not(self, region: Region, error: str) -> str:
        """The reason in the words of the loss: norms above all."""
        for leaf in region.leaves:
            node = self.view.producers.get(_bare(self.view, leaf))
            if node is not None and isinstance(node.op, Reduce) and node.op.fn == "sum":
                return (
                    "it is not separable: a function of sums over several elements (a norm, as a gradient penalty has)"
                )
        return error


_MOST_COLUMNS = 4096


def _bare(view: View, value: Value) -> Value:
    """The value under reshapes and expansions."""
    node = view.producers.get(value)
    while node is not None and isinstance(node.op, Reshape | Expand):
        value = node.inputs[0]
        node = view.producers.get(value)
    return value
