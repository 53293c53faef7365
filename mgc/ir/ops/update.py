"""The update of a parameter by an optimizer: PyTorch's rules."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from mgc.functions.optimizers import AVERAGE, MORE, OPTIMIZERS, optimize
from mgc.ir.op import IRError, Op, register, register_attr
from mgc.ir.ops.check import require, tensors
from mgc.ir.types import ValueType


@dataclass(frozen=True)
class Rule:
    """An optimizer of `mgc.functions.optimizers` with its hyper-parameters. `lr` is the learning rate; `MORE`
    names the last five.
    """

    lr: float
    _: KW_ONLY
    weight_decay: float = 0.0
    decay_from: float = 0.0
    decay_until: float = 0.0
    runs: float = 1.0
    average: float = 0.0

    @property
    def optimizer(self) -> str:
        """Its name."""
        raise TypeError(f"{type(self).__name__} is no rule of its own")

    @property
    def hyper(self) -> tuple[float, ...]:
        """Its hyper-parameters, in the optimizer's order."""
        more = MORE if self.weight_decay or self.decay_until or self.average else ()
        return tuple(float(getattr(self, name)) for name in (*OPTIMIZERS[self.optimizer].hyper, *more))

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of its own moments, each of the parameter's type and initially zero."""
        return ()

    @property
    def moments(self) -> tuple[str, ...]:
        """These, and the moving average of the parameter where there is one, which begins as that does."""
        return (*self.kept, *((AVERAGE,) if self.average else ()))

    @property
    def counts(self) -> bool:
        """Whether the step number matters."""
        return OPTIMIZERS[self.optimizer].counts(self.hyper)

    def apply(
        self, w: np.ndarray, g: np.ndarray, rest: list[np.ndarray], clip: float | None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """(the new w within [-clip, clip], the new moments) in w's precision; `rest` are the moments, then the number
        of the step if the rule counts.
        """
        count = len(self.moments)
        step = float(rest[count].item()) if self.counts else 0.0
        bounds = (-math.inf, math.inf) if clip is None else (-clip, clip)
        return optimize(OPTIMIZERS[self.optimizer], self.hyper, w, g, rest[:count], step, bounds)


@register_attr
@dataclass(frozen=True)
class Sgd(Rule):
    """torch.optim.SGD, with or without momentum."""

    momentum: float = 0.0

    @property
    def optimizer(self) -> str:
        return "momentum" if self.momentum else "sgd"

    @property
    def kept(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()


@register_attr
@dataclass(frozen=True)
class Adam(Rule):
    """torch.optim.Adam."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @property
    def optimizer(self) -> str:
        return "adam"

    @property
    def kept(self) -> tuple[str, ...]:
        return ("adam.m", "adam.v")


@register_attr
@dataclass(frozen=True)
class AdamW(Adam):
    """torch.optim.AdamW."""

    @property
    def optimizer(self) -> str:
        return "adamw"


@register_attr
@dataclass(frozen=True)
class RmsProp(Rule):
    """torch.optim.RMSprop, centered or not, with or without momentum."""

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    @property
    def optimizer(self) -> str:
        return "rmsprop"

    @property
    def kept(self) -> tuple[str, ...]:
        return ("rmsprop.v", *(["rmsprop.a"] if self.centered else []), *(["momentum"] if self.momentum else []))


@register
@dataclass(frozen=True)
class Update(Op):
    """One parameter's update by `rule`, then its values limited to [-clip, clip] if `clip` is given.

    Operands: w, its gradient g and the rule's moments, all of one float type; then, if the rule counts, the number t
    of this step (a scalar, 1 for the first). Results: the new w and the new moments.
    """

    rule: Rule
    clip: float | None = None
    name: ClassVar[str] = "update"

    @property
    def not_differentiable(self) -> str:
        return "an update is not differentiated through"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        if not isinstance(self.rule, Rule):
            raise IRError(f"{self.name}: {self.rule!r} is no optimizer")
        names = ("w", "g", *self.rule.moments, *(["t"] if self.rule.counts else []))
        operands = dict(zip(names, tensors(self, types, *names), strict=True))
        w = operands["w"]
        require(self, w.dtype.is_float, f"w is {w}: float elements are needed")
        for operand in ("g", *self.rule.moments):
            require(self, operands[operand] == w, f"w is {w} but {operand} is {operands[operand]}")
        if self.rule.counts:
            require(self, operands["t"].shape == (), f"t is {operands['t']}: a scalar is needed")
        require(self, self.clip is None or self.clip > 0, f"clip is {self.clip}: a positive number is needed")
        return (w, *(w for _ in self.rule.moments))

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        w, g, *rest = arrays
        new, moments = self.rule.apply(w, g, rest, self.clip)
        return tuple(np.asarray(a, w.dtype) for a in (new, *moments))
