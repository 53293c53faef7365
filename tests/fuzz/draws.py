"""Choices that mutations are made of: from a seeded generator, or from the bytes of a coverage-guided fuzzer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")

NUMBERS = (0, 1, -1, 2, 3, 7, 8, 255, 256, 1000, 65536, 1 << 24, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 63) - 1,
           -(1 << 63), 1 << 63, 1 << 70)  # fmt: skip
REALS = (0.0, -0.0, 1.0, 1e-45, 3.4e38, 1e300, float("inf"), float("-inf"), float("nan"), 0.5)
TEXTS = ("", "x", "\x00", "\x1b[31m", "\u202e", "\ud800", "../../etc/passwd", "/dev/zero", "a" * 300, "é", '"', "]]>")


class Draw(Protocol):
    """Where choices come from."""

    def number(self, low: int, high: int) -> int:
        """A whole number in low..high."""
        ...

    def chunk(self, count: int) -> bytes:
        """Up to `count` bytes."""
        ...


class Seeded:
    """Choices of Python's generator."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def number(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def chunk(self, count: int) -> bytes:
        return self._random.randbytes(count)


def choice(draw: Draw, items: Sequence[T]) -> T:
    """One of some items."""
    return items[draw.number(0, len(items) - 1)]


def whole(draw: Draw, near: int = 0) -> int:
    """A number of which something may go wrong, or one near a given one."""
    return choice(draw, NUMBERS) if draw.number(0, 2) else near + draw.number(-3, 3)
