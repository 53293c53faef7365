"""The update of a parameter by an optimizer: PyTorch's rules, weight decay 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mgc.ir.op import IRError, NotDifferentiable, Op, register, register_attr
from mgc.ir.ops.check import require, tensors
from mgc.ir.types import DType, ValueType

if TYPE_CHECKING:
    from mgc.ir.build import Build
    from mgc.ir.graph import Value


@dataclass(frozen=True)
class Rule:
    """An optimizer. `lr` is the learning rate; everything is element-wise but for the step number.

    Subclasses give the moments' names, and the change in NumPy (`change`) and as ops (`build_change`): both return
    the amount to subtract from the parameter and the new moments, given its gradient, the moments and the step
    number (1 for the first; None if `counts` is False).
    """

    lr: float

    @property
    def moments(self) -> tuple[str, ...]:
        """Names of the moments, each of the parameter's type and initially zero."""
        return ()

    @property
    def counts(self) -> bool:
        """Whether the step number matters."""
        return False

    def change(
        self, g: np.ndarray, moments: Sequence[np.ndarray], t: float
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """In NumPy, in g's precision."""
        raise TypeError(f"{type(self).__name__} is no rule of its own")

    def build_change(
        self, build: Build, g: Value, moments: Sequence[Value], t: Value | None
    ) -> tuple[Value, tuple[Value, ...]]:
        """As ops."""
        raise TypeError(f"{type(self).__name__} is no rule of its own")


@register_attr
@dataclass(frozen=True)
class Sgd(Rule):
    """torch.optim.SGD: b = momentum b + g, w -= lr b; without momentum w -= lr g."""

    momentum: float = 0.0

    @property
    def moments(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def change(
        self, g: np.ndarray, moments: Sequence[np.ndarray], t: float
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        real = g.dtype.type
        if not moments:
            return real(self.lr) * g, ()
        b = real(self.momentum) * moments[0] + g
        return real(self.lr) * b, (b,)

    def build_change(
        self, build: Build, g: Value, moments: Sequence[Value], t: Value | None
    ) -> tuple[Value, tuple[Value, ...]]:
        if not moments:
            return build.mul(g, self.lr), ()
        b = build.add(build.mul(moments[0], self.momentum), g)
        return build.mul(b, self.lr), (b,)


@register_attr
@dataclass(frozen=True)
class Adam(Rule):
    """torch.optim.Adam: m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
    w -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps). The corrections are computed in float64.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    @property
    def moments(self) -> tuple[str, ...]:
        return ("adam.m", "adam.v")

    @property
    def counts(self) -> bool:
        return True

    def change(
        self, g: np.ndarray, moments: Sequence[np.ndarray], t: float
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        real = g.dtype.type
        m, v = moments
        m = real(self.beta1) * m + real(1 - self.beta1) * g
        v = real(self.beta2) * v + real(1 - self.beta2) * (g * g)
        rate, root = self.lr / (1 - self.beta1**t), (1 - self.beta2**t) ** -0.5
        return real(rate) * (m / (np.sqrt(v) * real(root) + real(self.eps))), (m, v)

    def build_change(
        self, build: Build, g: Value, moments: Sequence[Value], t: Value | None
    ) -> tuple[Value, tuple[Value, ...]]:
        assert t is not None
        m, v = moments
        m = build.add(build.mul(m, self.beta1), build.mul(g, 1 - self.beta1))
        v = build.add(build.mul(v, self.beta2), build.mul(build.mul(g, g), 1 - self.beta2))
        rate = build.mul(build.unary("reciprocal", self._rest(build, self.beta1, t)), self.lr)
        root = build.unary("reciprocal", build.unary("sqrt", self._rest(build, self.beta2, t)))
        rate, root = (build.cast(x, g.tensor.dtype) for x in (rate, root))
        denominator = build.add(build.mul(build.unary("sqrt", v), root), self.eps)
        return build.mul(build.div(m, denominator), rate), (m, v)

    @staticmethod
    def _rest(build: Build, beta: float, t: Value) -> Value:
        """1 - beta^t in float64: in float32 the difference would lose four digits at the first steps."""
        power = build.binary("pow", build.number(beta, DType.F64), build.cast(t, DType.F64))
        return build.sub(build.number(1.0, DType.F64), power)


@register_attr
@dataclass(frozen=True)
class RmsProp(Rule):
    """torch.optim.RMSprop: v = alpha v + (1 - alpha) g^2, d = g / (sqrt(v) + eps), w -= lr d.

    `centered`: a = alpha a + (1 - alpha) g, and v - a^2 takes the place of v under the root. `momentum`: b = momentum
    b + d takes the place of d.
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    @property
    def moments(self) -> tuple[str, ...]:
        return ("rmsprop.v", *(["rmsprop.a"] if self.centered else []), *(["momentum"] if self.momentum else []))

    def change(
        self, g: np.ndarray, moments: Sequence[np.ndarray], t: float
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        real = g.dtype.type
        old = dict(zip(self.moments, moments, strict=True))
        v = real(self.alpha) * old["rmsprop.v"] + real(1 - self.alpha) * (g * g)
        new, inner = [v], v
        if self.centered:
            a = real(self.alpha) * old["rmsprop.a"] + real(1 - self.alpha) * g
            new, inner = [v, a], v - a * a
        d = g / (np.sqrt(inner) + real(self.eps))
        if self.momentum:
            d = real(self.momentum) * old["momentum"] + d
            new.append(d)
        return real(self.lr) * d, tuple(new)

    def build_change(
        self, build: Build, g: Value, moments: Sequence[Value], t: Value | None
    ) -> tuple[Value, tuple[Value, ...]]:
        old = dict(zip(self.moments, moments, strict=True))
        square = build.mul(build.mul(g, g), 1 - self.alpha)
        v = build.add(build.mul(old["rmsprop.v"], self.alpha), square)
        new, inner = [v], v
        if self.centered:
            a = build.add(build.mul(old["rmsprop.a"], self.alpha), build.mul(g, 1 - self.alpha))
            new, inner = [v, a], build.sub(v, build.mul(a, a))
        d = build.div(g, build.add(build.unary("sqrt", inner), self.eps))
        if self.momentum:
            d = build.add(build.mul(old["momentum"], self.momentum), d)
            new.append(d)
        return build.mul(d, self.lr), tuple(new)


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
        count = len(self.rule.moments)
        with np.errstate(all="ignore"):
            step, moments = self.rule.change(g, rest[:count], float(rest[count]) if self.rule.counts else 0.0)
            new = w - step
        if self.clip is not None:
            new = np.clip(new, w.dtype.type(-self.clip), w.dtype.type(self.clip))
        return tuple(np.asarray(a, w.dtype) for a in (new, *moments))

    def decompose(self, build: Build, inputs: Sequence[Value]) -> Sequence[Value]:
        w, g, *rest = inputs
        count = len(self.rule.moments)
        step, moments = self.rule.build_change(build, g, rest[:count], rest[count] if self.rule.counts else None)
        new = build.sub(w, step)
        if self.clip is not None:
            new = build.binary("min", build.binary("max", new, -self.clip), self.clip)
        return (new, *moments)

    def vjp(
        self, build: Build, inputs: Sequence[Value], outputs: Sequence[Value], cotangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        raise NotDifferentiable(self, "an update is not differentiated through")
