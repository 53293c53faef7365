"""The space of a sweep: keys of the target, and the values that each takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

Point = dict[str, str]
"""One target of a sweep: the text of each key's value, as it is given and as the table shows it."""

TARGET = "target"
"""The key that names a whole target rather than a key of one."""

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_COMMA = re.compile(r",(?![^\[]*\])")  # not those of an array


class SpaceError(ValueError):
    """What is swept cannot be read; the message says how to write it."""


def parse_axes(texts: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """KEY=V,V,... texts as the values of each key; A..B stands for all whole numbers from A to B. Raises SpaceError."""
    axes: dict[str, tuple[str, ...]] = {}
    for text in texts:
        key, mark, values = text.partition("=")
        if not key or not mark or not values:
            raise SpaceError(f"--over {text}: write KEY=V,V,... such as adc_bits=4,6,8 or adc_bits=3..8")
        if key in axes:
            raise SpaceError(f"--over {key} is given twice: give all its values at once")
        axes[key] = tuple(v for part in _COMMA.split(values) for v in _expanded(part.strip(), text))
        if "" in axes[key]:
            raise SpaceError(f"--over {text}: a value is missing between commas")
    return _distinct(axes)


def as_axes(over: Mapping[str, Sequence[Any] | Any]) -> dict[str, tuple[str, ...]]:
    """The same from Python's values: {"adc_bits": range(3, 9), "training.copies": ["least", "fast"]}."""
    axes = {}
    for key, values in over.items():
        several = not isinstance(values, str) and isinstance(values, Iterable)
        axes[key] = tuple(_text(v) for v in (values if several else (values,)))
    return _distinct(axes)


def points(axes: Mapping[str, Sequence[str]]) -> list[Point]:
    """Every combination, the last key's values changing first."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def _distinct(axes: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    for key, values in axes.items():
        if not values:
            raise SpaceError(f"{key} has no values to sweep over")
        twice = next((v for v in values if values.count(v) > 1), None)
        if twice is not None:
            raise SpaceError(f"{key} has the value {twice} twice")
    return axes


def _expanded(value: str, text: str) -> list[str]:
    bounds = _RANGE.fullmatch(value)
    if bounds is None:
        return [value]
    first, last = int(bounds[1]), int(bounds[2])
    if last < first or last - first >= 10_000:
        raise SpaceError(f"--over {text}: {value} is no range from a smaller to a larger number, of 10,000 at most")
    return [str(n) for n in range(first, last + 1)]


def _text(value: Any) -> str:
    """As TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, list | tuple) else str(value)
