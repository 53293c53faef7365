"""What formulas are written in, so that one formula serves arrays, ops added to a graph, and enclosures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Algebra(Protocol):
    """Operations on values of one kind: arrays (`mgc.functions.unary.ARRAYS`), values of a graph (`mgc.ir.build`),
    enclosures (`mgc.passes.losses.smooth`). A plain number as second operand has the type of the first.
    """

    def unary(self, fn: str, x: Any, alpha: float = 0.0, beta: float = 0.0, /) -> Any:
        """A function of `mgc.functions.unary`."""
        ...

    def binary(self, fn: str, a: Any, b: Any, /) -> Any:
        """A function of `mgc.functions.binary`."""
        ...

    def where(self, condition: Any, a: Any, b: Any, /) -> Any:
        """a where the condition holds, else b."""
        ...

    def number(self, number: float, like: Any, /) -> Any:
        """A number of the type of `like`."""
        ...

    def full(self, number: float, like: Any, /) -> Any:
        """The number in the shape of `like`."""
        ...

    def log1p(self, x: Any, /) -> Any:
        """ln(1 + x), right to full relative accuracy for small x."""
        ...

    def neg(self, x: Any, /) -> Any:
        """-x."""
        ...

    def add(self, a: Any, b: Any, /) -> Any:
        """a + b."""
        ...

    def sub(self, a: Any, b: Any, /) -> Any:
        """a - b."""
        ...

    def mul(self, a: Any, b: Any, /) -> Any:
        """a * b."""
        ...

    def div(self, a: Any, b: Any, /) -> Any:
        """a / b."""
        ...


Formula = Callable[[Algebra, Any, float, float], Any]
"""(algebra, x, alpha, beta) -> f(x)."""
