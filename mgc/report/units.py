"""Numbers as people read them: SI prefixes, thousands, bytes, percent, ranges of ids."""

from __future__ import annotations

import math
from collections.abc import Iterable

_YEAR = 365.25 * 24 * 3600
_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def si(value: float | None, unit: str) -> str:
    """Three significant digits and a prefix: si(0.00123, "s") is "1.23 ms"; a dash for None."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return f"0 {unit}".rstrip()
    exponent = min(12, max(-15, 3 * math.floor(math.log10(abs(value)) / 3)))
    scaled = value / 10.0**exponent
    if abs(scaled) >= 999.5 and exponent < 12:  # 999.7 would print as "1e+03"
        exponent, scaled = exponent + 3, scaled / 1000
    digits = f"{scaled:,.0f}" if abs(scaled) >= 1000 else f"{scaled:#.3g}".rstrip(".")
    return f"{digits} {_PREFIXES[exponent]}{unit}".rstrip()


def decibels(value: float | None) -> str:
    """A ratio in dB with one decimal; a dash for None."""
    return "-" if value is None else f"{value:.1f} dB"


def duration(seconds: float) -> str:
    """A long time in years or days, a short one in seconds with a prefix."""
    if seconds >= _YEAR:
        return f"{seconds / _YEAR:,.1f} years"
    return f"{seconds / 86400:,.1f} days" if seconds >= 86400 else si(seconds, "s")


def count(value: float | None) -> str:
    """An integer with thousands separated; a dash for None."""
    return "-" if value is None else f"{value:,.0f}"


def size(nbytes: int) -> str:
    """Bytes with a binary prefix: "512 B", "12.5 KiB"."""
    value = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{int(value)} B" if unit == "B" else f"{value:,.1f} {unit}"


def percent(share: float | None) -> str:
    """A share of 1 as percent; a dash for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def shape(dims: Iterable[object]) -> str:
    """Dimensions as "1×100×4"; "scalar" where there are none."""
    return "×".join(str(d) for d in dims) or "scalar"


def ranges(ids: Iterable[int]) -> str:
    """Sorted ids with runs joined: 0-3, 7."""
    runs: list[list[int]] = []
    for i in sorted(set(ids)):
        if runs and i == runs[-1][1] + 1:
            runs[-1][1] = i
        else:
            runs.append([i, i])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def names(items: Iterable[str], limit: int = 3) -> str:
    """The first few names, and how many more there are."""
    listed = list(items)
    shown = ", ".join(listed[:limit])
    return f"{shown} (+{len(listed) - limit})" if len(listed) > limit else shown
