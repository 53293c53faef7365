"""Energy by component: what the cost model adds up and reports show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import reduce
from operator import add, attrgetter
from typing import Self


@dataclass(frozen=True, slots=True)
class EnergyBreakdown:
    """Energy of some work in joules, by component. Breakdowns add; `work * 3` is the work done three times.

    >>> both = EnergyBreakdown(adc=2e-9) + EnergyBreakdown(adc=1e-9, noc=4e-9)
    >>> round(both.adc * 1e9, 6), round(both.total * 1e9, 6), round((both * 2).noc * 1e9, 6)
    (3.0, 7.0, 8.0)
    """

    adc: float = 0.0
    """Conversions, sample-and-hold included."""
    dac: float = 0.0
    """Rows driven."""
    crossbar: float = 0.0
    """Cells read."""
    shift_add: float = 0.0
    """Codes added into sums."""
    vector: float = 0.0
    """Vector-unit operations."""
    diff: float = 0.0
    """The diff-block's work on scores."""
    edram: float = 0.0
    """On-chip memory: tile memories with their bus, input registers of the macros."""
    noc: float = 0.0
    """Bytes moved between tiles of one chip."""
    link: float = 0.0
    """Bytes moved between chips."""
    dram: float = 0.0
    """Bytes moved to or from off-chip memory."""
    host: float = 0.0
    """Bytes moved to or from the host; what the host itself spends is not known."""
    write: float = 0.0
    """Cells written."""
    static: float = 0.0
    """Leakage over the time of the work."""

    @property
    def total(self) -> float:
        """Sum over the components, J."""
        return sum(self.to_json_dict().values())

    def __add__(self, other: EnergyBreakdown) -> EnergyBreakdown:
        """Energy of both works."""
        return EnergyBreakdown(*map(add, _joules(self), _joules(other)))

    def __mul__(self, times: float) -> EnergyBreakdown:
        """Energy of the same work done `times` times."""
        return EnergyBreakdown(*(joules * times for joules in _joules(self)))

    @classmethod
    def sum(cls, parts: Iterable[Self]) -> EnergyBreakdown:
        """Energy of all parts, added in their order (so equal inputs give equal bits); of none, zero."""
        return reduce(add, parts, EnergyBreakdown())

    def to_json_dict(self) -> dict[str, float]:
        """Joules by component, in the order of the fields."""
        return dict(zip(_COMPONENTS, _joules(self), strict=True))


_COMPONENTS = tuple(field.name for field in fields(EnergyBreakdown))
_joules: Callable[[EnergyBreakdown], tuple[float, ...]] = attrgetter(*_COMPONENTS)
