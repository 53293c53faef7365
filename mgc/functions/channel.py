"""The off-chip channel: what a task moves, what of it that takes, and when it gets that. Planner, verifier and replay
share this.
"""

from __future__ import annotations

from fractions import Fraction
from heapq import heappop, heappush

WHOLE = 1 << 20
"""Shares in which the channel is dealt out; a task takes whole ones."""


def bytes_of_task(size: int, parts: int, by_parts: bool) -> int:
    """Bytes that each of `parts` tasks moves of `size`: its share, rounded up, of what comes and goes part by part, or
    is made, which is kept where it adds up (`by_parts`); all of anything else.

    >>> bytes_of_task(10, 4, True), bytes_of_task(10, 4, False)
    (3, 10)
    """
    return -(-size // parts) if by_parts else size


def shares_of(size: int, duration: int, bytes_per_cycle: float) -> int:
    """Shares of a task that moves `size` bytes at an even rate over `duration` cycles (at least 1), rounded up; more
    than `WHOLE` if the channel cannot do that.

    >>> shares_of(640, 20, 64.0) * 2 == WHOLE
    True
    """
    rate = Fraction(bytes_per_cycle) * duration
    return -(-size * WHOLE * rate.denominator // rate.numerator)


class Channel:
    """Deals out shares in the order in which they are asked for: nobody gets them before who asked earlier."""

    def __init__(self) -> None:
        self._used = 0
        self._running: list[tuple[int, int]] = []  # (end, shares)
        self._last: int | None = None

    def earliest(self, ready: int, shares: int) -> int:
        """When the next one to ask can start: not before `ready`, nor before the one that asked last, and so that all
        that are at work then take no more than the whole. ValueError for more shares than there are.
        """
        if shares > WHOLE:
            raise ValueError(f"{shares} of {WHOLE} shares are asked for")
        at = ready if self._last is None else max(ready, self._last)
        while self._running and (self._running[0][0] <= at or self._used + shares > WHOLE):
            end, freed = heappop(self._running)
            at = max(at, end)
            self._used -= freed
        return at

    def take(self, start: int, duration: int, shares: int) -> None:
        """Gives the next one its shares from `start` on."""
        heappush(self._running, (start + duration, shares))
        self._used += shares
        self._last = start

    def grant(self, ready: int, duration: int, shares: int) -> int:
        """Gives the next one its shares as early as can be; says when."""
        start = self.earliest(ready, shares)
        self.take(start, duration, shares)
        return start
