"""`diff_block`: the scores in, a branch of the loss and the error delta = d loss / d scores out, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.functions.losses import LOSSES, PAIRINGS, TABULATED, branch, exact_segment
from mgc.ir.flow import Axis, broadcast
from mgc.ir.op import Op, register
from mgc.ir.ops.check import require, same_dtype, tensors
from mgc.ir.ops.loss_table import LossTable
from mgc.ir.types import TensorType, ValueType


@register
@dataclass(frozen=True)
class DiffBlock(Op):
    """loss = k sum_i f(u_i), delta = d loss / d scores, with k = weight / count.

    Operands: scores a; for a pairing other than "single" scores b; with `targets` a tensor t of a's shape. All have one
    float type. Results: the loss (a scalar), then a delta for each operand of scores, of its shape.

    pairing: what u is: "single" a; "pair" a - b, element by element, of one shape; "average" a - mean(b), b of any
    shape. function: f, a key of `mgc.functions.losses.LOSSES` (which states the formulas), or "tabulated": `table`,
    which then must be given. target: t where no tensor gives it. sign: 1 or -1, for a function that has a side. count:
    what the sum is divided by; 0 stands for the number of scores in a (a mean), 1 gives the sum; another one serves a
    block that sees a part of the batch.

    >>> DiffBlock("cross-entropy", target=1.0)          # the discriminator on real scores, or the generator
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
        known = (*LOSSES, TABULATED)
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
        no_target = table or LOSSES[self.function].mixed is None
        require(self, not (self.targets and no_target), f"function {self.function!r} has no target")

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        """The loss is a sum over the scores; deltas go score by score, unless they are of a mean of the batch."""
        axis = broadcast([t.shape for t in types], axes, types[0].shape, split)
        return None if self.pairing == "average" or axis is None else (None, *(axis,) * self.scores)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        """In float64 whatever the operands, rounded once to their type."""
        a, *rest = arrays
        b = rest[0] if self.scores == 2 else None
        t = arrays[-1].astype(np.float64).reshape(-1) if self.targets else self.target
        with np.errstate(all="ignore"):
            results = branch(
                lambda u: self._function(u, t), self.pairing, self.scale(a.size), a, b, np.dtype(np.float64)
            )
        return tuple(np.asarray(r).astype(a.dtype) for r in results[: 1 + self.scores])

    def _function(self, u: np.ndarray, t: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        if self.table is not None:
            return exact_segment(self.table.segments, u)
        return LOSSES[self.function].on_arrays(u, t, self.sign)
