"""From a scalar loss to its branches: which terms are functions of single scores, and which have to stay."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mgc.functions.losses import LOSSES, TABULATED
from mgc.ir.graph import Value
from mgc.ir.ops import Reduce
from mgc.passes.losses.arguments import Argument, arguments
from mgc.passes.losses.branch import Branch, RuntimeTarget
from mgc.passes.losses.facts import GraphFacts
from mgc.passes.losses.forms import Form, recognise, with_targets
from mgc.passes.losses.region import Columns, Region
from mgc.passes.losses.scores import DeclinedError, check_scores, ends_network, is_pooled_layer, strip_reshapes
from mgc.passes.losses.tabulate import UntabulatedError, tabulate
from mgc.passes.losses.terms import Term, addends, strip_factors

_MOST_COLUMNS = 4096


@dataclass(frozen=True)
class Rest:
    """A term that stays in the graph, and why."""

    term: Term
    reason: str


@dataclass
class Resolution:
    """What became of a term: branches, terms that stay, a constant."""

    branches: list[Branch] = field(default_factory=list)
    rest: list[Rest] = field(default_factory=list)
    constant: float = 0.0

    @property
    def known(self) -> bool:
        """Whether all of it is of known forms."""
        return not self.rest and all(b.table is None for b in self.branches)

    def __add__(self, other: Resolution) -> Resolution:
        return Resolution(self.branches + other.branches, self.rest + other.rest, self.constant + other.constant)


def resolve(facts: GraphFacts, loss: Value) -> Resolution:
    """All of a scalar loss."""
    return _Resolver(facts).outcome(Term(1.0, loss))


class _Resolver:
    def __init__(self, facts: GraphFacts) -> None:
        self.facts = facts

    def outcome(self, term: Term) -> Resolution:
        facts = self.facts
        term = strip_factors(facts, term)
        data = facts.constant(term.value)
        if data is not None:
            return Resolution(constant=term.scale * float(np.sum(data, dtype=np.float64)))
        node = facts.producers.get(term.value)
        reason = ""
        partial = node is not None and isinstance(node.op, Reduce) and node.op.fn in ("sum", "mean")
        if not partial:
            try:
                return self._known(term)
            except DeclinedError as declined:
                reason = str(declined)
        parts = addends(facts, term)
        inner = Resolution()
        for part in parts:
            inner = inner + self.outcome(part)
        if partial:
            # the last layer of a network may be a mean over positions; the first one of a loss may be, too
            pooled = is_pooled_layer(facts, strip_factors(facts, parts[0]).value)
            return self._plain(term) if pooled else inner
        if parts and inner.known:
            return inner
        try:
            return self._tabulated(term)
        except DeclinedError as declined:
            reason = str(declined) or reason
        return inner if parts else Resolution(rest=[Rest(term, reason)])

    def _plain(self, term: Term) -> Resolution:
        """The value itself as the scores, as in a Wasserstein loss."""
        try:
            check_scores(self.facts, term.value)
        except DeclinedError as declined:
            return Resolution(rest=[Rest(term, str(declined))])
        return Resolution([Branch(Form("wasserstein", 1.0), term.scale, term.mean, term.value)])

    # -- known forms -------------------------------------------------------------------------------------------------

    def _known(self, term: Term) -> Resolution:
        region = Region.of(self.facts, term.value)
        if region.leaves == [term.value] or ends_network(self.facts, term.value):
            outcome = self._plain(term)
            if outcome.rest:
                raise DeclinedError(outcome.rest[0].reason)
            return outcome
        reason = ""
        for argument in arguments(self.facts, region):
            try:
                return self._match(term, argument)
            except DeclinedError as declined:
                reason = reason or str(declined)
        raise DeclinedError(reason or self._many(region))

    def _many(self, region: Region) -> str:
        names = ", ".join(f"%{v.name}" for v in region.leaves[:4])
        if len(region.leaves) == 1:
            return f"it is of no known form in {names}"
        return f"it is no function of one score, but of {len(region.leaves)} tensors ({names})"

    def _match(self, term: Term, argument: Argument) -> Resolution:
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
            raise DeclinedError("")
        if argument.last_layer and not all(LOSSES[form.function].of_probabilities for form in match.forms):
            raise DeclinedError("")
        repeats = term.value.tensor.size / argument.at.tensor.size
        branches: list[Branch] = []
        for form in match.forms:
            array = None
            if isinstance(form.target, np.ndarray):
                if repeats != 1:
                    raise DeclinedError("its targets are broadcast over more elements than there are scores")
                array = form.target[which]
                form = replace(form, target=0.0)
            branches.append(self._branch(term, argument, form, repeats, target=array, guarded=bool(region.guards)))
        constant = term.scale * float(np.sum(match.constant[which]))
        return Resolution(branches, constant=constant * term.value.tensor.size / len(which))

    def _prepared(self, term: Term, argument: Argument) -> tuple[Region, Columns, np.ndarray]:
        """The region above the argument with its constants, after the checks that both kinds of match need."""
        facts = self.facts
        for value in (argument.a, argument.b):
            if value is not None:
                check_scores(facts, value)
        if argument.target is not None and argument.target in facts.into_networks:
            raise DeclinedError(f"%{argument.a.name} is compared with %{argument.target.name}, which is no target")
        region = Region.of(facts, term.value, frozenset((argument.at,)))
        sizes = {argument.at.tensor.size, term.value.tensor.size}
        extra = {} if argument.target is None else {argument.target: np.full((1, 1), 0.5)}
        aligned = region.aligned() and len(sizes) == 1
        if argument.target is not None and not aligned:
            raise DeclinedError("its targets are broadcast over more elements than there are scores")
        uneven = any(
            facts.constant(v) is not None and facts.number(v) is None for node in region.nodes for v in node.inputs
        )
        if uneven and not aligned:
            raise DeclinedError("constants that differ from element to element are broadcast over the scores")
        columns, which = region.columns() if uneven else ({}, np.zeros(1, np.int64))
        if columns and which.max() >= _MOST_COLUMNS:
            raise DeclinedError(f"its constants differ in more than {_MOST_COLUMNS} ways from element to element")
        region.find_guards(argument.at, extra)
        return region, columns, which

    def _with_target(
        self,
        term: Term,
        argument: Argument,
        region: Region,
        found: tuple[Form, float, float] | None,
        value: Value,
    ) -> Resolution:
        if found is None:
            raise DeclinedError(f"it compares %{argument.a.name} with %{value.name} in no known form")
        form, alpha, beta = found
        target = RuntimeTarget(value, alpha, beta)
        form = replace(form, target=0.0)
        return Resolution([self._branch(term, argument, form, 1.0, target=target, guarded=bool(region.guards))])

    def _branch(
        self,
        term: Term,
        argument: Argument,
        form: Form,
        repeats: float,
        *,
        target: np.ndarray | RuntimeTarget | None = None,
        guarded: bool = False,
    ) -> Branch:
        scale = term.scale * repeats * form.weight
        function = form.function
        if scale < 0 and function != TABULATED and LOSSES[function].opposite:
            function, scale = LOSSES[function].opposite, -scale
        form = replace(form, function=function, weight=1.0)
        return Branch(form, scale, term.mean, argument.a, argument.b, argument.pairing, target=target, guarded=guarded)

    # -- tables ------------------------------------------------------------------------------------------------------

    def _tabulated(self, term: Term) -> Resolution:
        whole = Region.of(self.facts, term.value)
        for argument in arguments(self.facts, whole):
            if argument.target is not None or argument.last_layer:
                continue
            region, columns, _ = self._prepared(term, argument)
            if columns:
                raise DeclinedError("it differs from element to element and is of no known form")
            try:
                table = tabulate(region, argument.at, argument.orientation)
            except UntabulatedError as error:
                raise DeclinedError(self._why_not(whole, str(error))) from error
            repeats = term.value.tensor.size / argument.at.tensor.size
            guarded = bool(region.guards)
            branch = self._branch(term, argument, Form(TABULATED, 1.0), repeats, guarded=guarded)
            return Resolution([replace(branch, table=table)])
        raise DeclinedError("")

    def _why_not(self, region: Region, error: str) -> str:
        """The reason in the words of the loss: norms above all."""
        for leaf in region.leaves:
            node = self.facts.producers.get(strip_reshapes(self.facts, leaf))
            if node is not None and isinstance(node.op, Reduce) and node.op.fn == "sum":
                return (
                    "it is not separable: a function of sums over several elements (a norm, as a gradient penalty has)"
                )
        return error
