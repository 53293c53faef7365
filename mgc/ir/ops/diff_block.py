"""`diff_block`: the scores in, a branch of the loss and the error delta = d loss / d scores out, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mgc.ir.op import NotDifferentiable, Op, register
from mgc.ir.ops.check import require, same_dtype, tensors
from mgc.ir.ops.loss_table import LossTable
from mgc.ir.ops.losses import FUNCTIONS, LossFunction
from mgc.ir.types import DType, ValueType

if TYPE_CHECKING:
    from mgc.ir.build import Build
    from mgc.ir.graph import Value

PAIRINGS = ("single", "pair", "average")
TABULATED = "tabulated"


@register
@dataclass(frozen=True)
class DiffBlock(Op):
    """loss = k sum_i f(u_i), delta = d loss / d scores, with k = weight / count.

    Operands: scores a; for a pairing other than "single" scores b; with `targets` a tensor t of a's shape. All have one
    float type. Results: the loss (a scalar), then a delta for each operand of scores, of its shape.

    pairing: what u is: "single" a; "pair" a - b, element by element, of one shape; "average" a - mean(b), b of any
    shape. function: f, a key of `losses.FUNCTIONS` (which states the formulas), or "tabulated": `table`, which then
    must be given. target: t where no tensor gives it. sign: 1 or -1, for a hinge. count: what the sum is divided by;
    0 stands for the number of scores in a (a mean), 1 gives the sum; another one serves a block that sees a part of the
    batch.

    >>> DiffBlock("cross-entropy", target=1.0)          # the discriminator on real scores, or the generator
    >>> DiffBlock("hinge", target=1.0, sign=-1)         # mean(max(0, 1 - s))
    >>> DiffBlock("cross-entropy", pairing="average", target=1.0, weight=0.5)   # one half of RaSGAN
    """

    function: str
    pairing: str = "single"
    target: float = 0.0
    sign: int = 1
    weight: float = 1.0
    count: int = 0
    targets: bool = False
    table: LossTable | None = None
    name: ClassVar[str] = "diff_block"

    @property
    def kind(self) -> str:
        """The kind of loss that reports show: the pairing's name where there is one, else the function's."""
        return {"pair": "relativistic", "average": "relativistic-average"}.get(self.pairing, self.function)

    @property
    def scores(self) -> int:
        """Number of operands that are scores, which is also the number of deltas."""
        return 1 if self.pairing == "single" else 2

    def scale(self, size: int) -> float:
        """k for `size` scores in a."""
        return self.weight / (self.count or size)

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        names = ["a", "b"][: self.scores] + ["t"] * self.targets
        operands = tensors(self, types, *names)
        a = operands[0]
        same_dtype(self, *zip(names, operands, strict=True))
        require(self, a.dtype.is_float, f"a is {a}: float elements are needed")
        for name, type_ in zip(names, operands, strict=True):
            require(self, type_.size > 0, f"{name} is {type_}, which is empty")
            same = type_.shape == a.shape or (name == "b" and self.pairing == "average")
            require(self, same, f"a is {a} but {name} is {type_}: shapes differ")
        self._check()
        return (a.with_shape(()), *operands[: self.scores])

    def _check(self) -> None:
        known = (*FUNCTIONS, TABULATED)
        require(self, self.function in known, f"no function {self.function!r}; there are {', '.join(known)}")
        require(self, self.pairing in PAIRINGS, f"no pairing {self.pairing!r}; there are {', '.join(PAIRINGS)}")
        require(self, self.sign in (1, -1), f"sign is {self.sign}, 1 or -1 is needed")
        require(self, self.count >= 0, f"count is {self.count}, 0 or more is needed")
        finite = bool(np.isfinite([self.target, self.weight]).all())
        require(self, finite, f"target is {self.target} and weight {self.weight}: finite numbers are needed")
        table = self.function == TABULATED
        require(self, table == (self.table is not None), f"function {self.function!r} with table {self.table}")
        if self.table is not None:
            problem = self.table.problem()
            require(self, not problem, f"the table is unfit: {problem}")
        no_target = table or FUNCTIONS[self.function].mixed is None
        require(self, not (self.targets and no_target), f"function {self.function!r} has no target")

    # -- meaning ---------------------------------------------------------------------------------------------------

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """In float64 whatever the operands, rounded once to their type."""
        dtype = arrays[0].dtype
        with np.errstate(all="ignore"):
            wide = [x.astype(np.float64) for x in arrays]
            k = self.scale(arrays[0].size)
            u = wide[0]
            if self.pairing != "single":
                u = u - (wide[1] if self.pairing == "pair" else np.mean(wide[1]))
            if self.table is not None:
                value, slope = self.table.look_up(u, 1), self.table.look_up(u, 3)
            else:
                f, t = FUNCTIONS[self.function], wide[-1] if self.targets else self.target
                value, slope = f.value(u, t, self.sign), f.slope(u, t, self.sign)
            results = [np.asarray(k * np.sum(value)), k * slope]
            if self.pairing == "pair":
                results.append(-results[1])
            elif self.pairing == "average":
                results.append(np.full(wide[1].shape, -np.sum(results[1]) / wide[1].size))
            return tuple(np.asarray(r).astype(dtype) for r in results)

    def decompose(self, build: Build, inputs: Sequence[Value]) -> Sequence[Value]:
        """The stable formulas in the operands' own precision, a table in float64."""
        k = self.scale(inputs[0].tensor.size)
        u = self._argument(build, inputs)
        if self.table is not None:
            wide = build.cast(u, DType.F64)
            value, slope = (build.cast(self.table.look_up_ops(build, wide, c), u.tensor.dtype) for c in (1, 3))
        else:
            f, t = FUNCTIONS[self.function], inputs[-1] if self.targets else self.target
            value, slope = f.value_ops(build, u, t, self.sign), f.slope_ops(build, u, t, self.sign)
        delta = build.mul(slope, k)
        return build.mul(build.total(value), k), delta, *self._to_second(build, inputs, delta)

    def _argument(self, build: Build, inputs: Sequence[Value]) -> Value:
        if self.pairing == "single":
            return inputs[0]
        b = inputs[1]
        return build.sub(inputs[0], b if self.pairing == "pair" else self._mean(build, b))

    @staticmethod
    def _mean(build: Build, x: Value) -> Value:
        return build.reduce("mean", x, range(x.tensor.rank), keepdims=False)

    def _to_second(self, build: Build, inputs: Sequence[Value], du: Value) -> list[Value]:
        """What a cotangent of u is for b, as a list of one; empty for a single operand."""
        if self.pairing == "single":
            return []
        if self.pairing == "pair":
            return [build.neg(du)]
        b = inputs[1]
        return [build.expand(build.mul(build.total(du), -1 / b.tensor.size), b.shape)]

    # -- gradient --------------------------------------------------------------------------------------------------

    def vjp(
        self, build: Build, inputs: Sequence[Value], outputs: Sequence[Value], cotangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """The loss's cotangent times the deltas; a delta's own cotangent goes by f'', which a table does not have."""
        by_loss, by_delta = cotangents[0], cotangents[1:]
        result: list[Value | None] = [None] * len(inputs)
        if by_loss is not None:
            for i, delta in enumerate(outputs[1:]):
                result[i] = _scaled(build, delta, by_loss)
            if self.targets:
                result[-1] = build.mul(self._by_target(build, inputs), by_loss)
        if any(c is not None for c in by_delta):
            second = self._second_order(build, inputs, by_delta)
            result = [_sum(build, x, y) for x, y in zip(result, second, strict=True)]
        return result

    def _function(self) -> LossFunction:
        if self.function == TABULATED:
            raise NotDifferentiable(self, "a tabulated loss has no second derivative")
        return FUNCTIONS[self.function]

    def _by_target(self, build: Build, inputs: Sequence[Value]) -> Value:
        by_target = self._function().by_target_ops
        assert by_target is not None  # the type rule admits no targets otherwise
        u = self._argument(build, inputs)
        return build.mul(by_target(build, u, inputs[-1], self.sign), self.scale(u.tensor.size))

    def _second_order(
        self, build: Build, inputs: Sequence[Value], by_delta: Sequence[Value | None]
    ) -> list[Value | None]:
        """delta_a = k f'(u), and delta_b its negative or minus its mean share: their cotangents act on f'(u)."""
        f = self._function()
        k = self.scale(inputs[0].tensor.size)
        by_slope = by_delta[0]
        if self.pairing != "single" and by_delta[1] is not None:
            c = by_delta[1]
            share = build.neg(c if self.pairing == "pair" else self._mean(build, c))
            by_slope = build.expand(share, inputs[0].shape) if by_slope is None else build.add(by_slope, share)
        assert by_slope is not None
        by_slope = build.mul(by_slope, k)
        result: list[Value | None] = [None] * len(inputs)
        curvature = f.curvature_ops(build, self._argument(build, inputs))
        if curvature is not None:
            du = build.mul(curvature, by_slope)
            result[: self.scores] = [du, *self._to_second(build, inputs, du)]
        if self.targets and f.mixed:
            result[-1] = build.mul(by_slope, f.mixed)
        return result


def _scaled(build: Build, delta: Value, factor: Value) -> Value:
    """delta * factor; delta itself where the factor is the constant 1, as it is for a loss on its own."""
    known = build.data(factor)
    return delta if known is not None and known.size == 1 and known.item() == 1 else build.mul(delta, factor)


def _sum(build: Build, a: Value | None, b: Value | None) -> Value | None:
    return b if a is None else a if b is None else build.add(a, b)
