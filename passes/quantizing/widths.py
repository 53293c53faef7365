"""How many bits the codes of each value have: more than the target's `input_bits` where a value is worth it.

Crossbars take codes in digit by digit. A bit more is a read more of each window for every `dac_bits` bits, and leaves a
quarter of the squared error of rounding. Where a layer is small and its operand matters (a generator's noise, the last
convolution before the image), that is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from mgc.targets.description import Crossbar

# Bits are added that take away at least this share of the error of all codes, and at least so many times the share that
# they add to the work: five where little may be added, one where a quarter or more may.
_LEAST, _WORTH, _MUCH = 0.01, (5.0, 1.0), 0.25


@dataclass(frozen=True)
class Read:
    """What reads a value: the multiply-accumulates of its layers. `signed`: its codes are two's complement."""

    macs: int
    signed: bool


def choose_bits(
    reads: Mapping[str, Read], error: Callable[[str, int], float], crossbar: Crossbar, work: int, share: float
) -> list[tuple[str, int]]:
    """Values with more bits than they had, one after the other, from `input_bits` on: first where that takes most error
    away for the reads that it adds, which are at most a `share` of all. `error` tells what a value costs in codes of so
    many bits, `work` how many multiply-accumulates all layers have.
    """

    def digits(name: str, bits: int) -> int:
        return crossbar.digits(signed=reads[name].signed, input_bits=bits)

    def wider(name: str, bits: int) -> int:
        """The most bits for the least more digits."""
        least = digits(name, bits + 1)
        return max(b for b in range(bits + 1, crossbar.widest_input + 1) if digits(name, b) == least)

    def offer(name: str, bits: int) -> None:
        if bits < crossbar.widest_input:
            more = wider(name, bits)
            gain = error(name, bits) - error(name, more)
            cost = reads[name].macs * (digits(name, more) - digits(name, bits))
            if gain > 0:
                heappush(offers, (-gain / max(cost, 0.5), name, more, gain, cost))

    offers: list[tuple[float, str, int, float, int]] = []
    chosen: list[tuple[str, int]] = []
    base = crossbar.input_bits
    whole, total = sum(error(name, base) for name in reads), work * crossbar.digits(signed=False)
    left = share * total
    worth = min(max(_MUCH / max(share, 1e-9), _WORTH[1]), _WORTH[0])
    for name in reads:
        offer(name, base)
    while offers:
        _, name, bits, gain, cost = heappop(offers)
        if gain >= _LEAST * whole and gain * total >= worth * cost * whole and cost <= left:
            chosen.append((name, bits))
            left -= cost
            offer(name, bits)
    return chosen
