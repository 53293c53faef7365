"""Published rates, powers and claims, read from baselines.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MARKS = ("measured", "published", "derived", "assumed")
BASELINES = Path(__file__).with_name("baselines.toml")


@dataclass(frozen=True)
class Platform:
    """A machine and the power it is taken to draw, W."""

    name: str
    kind: str
    power_w: float
    power_mark: str
    power_source: str


@dataclass(frozen=True)
class Rate:
    """Training images a second of one workload (`key`) on a platform; `power_of` names whose power it draws."""

    key: str
    platform: str
    title: str
    images_per_s: float
    mark: str
    source: str
    power_of: str = ""

    @property
    def powered_by(self) -> str:
        """The platform whose power it draws."""
        return self.power_of or self.platform


@dataclass(frozen=True)
class Claim:
    """What a paper says of itself: times faster, times less energy than a baseline."""

    work: str
    baseline: str
    speed: float
    energy: float
    mark: str
    source: str


@dataclass(frozen=True)
class Relative:
    """A platform known only beside a GPU."""

    platform: str
    slower_than_gpu: float
    less_energy_than_gpu: float
    mark: str
    source: str


@dataclass(frozen=True)
class Baselines:
    """The whole file."""

    platforms: tuple[Platform, ...]
    rates: tuple[Rate, ...]
    claims: tuple[Claim, ...]
    relatives: tuple[Relative, ...]

    def power(self, rate: Rate) -> Platform:
        """The platform whose power a rate draws."""
        return next(p for p in self.platforms if p.name == rate.powered_by)

    def joules_per_image(self, rate: Rate) -> float:
        """Energy of one training image at the platform's full power, J."""
        return self.power(rate).power_w / rate.images_per_s

    def of(self, key: str) -> tuple[Rate, ...]:
        """The rates of one workload."""
        return tuple(r for r in self.rates if r.key == key)


def load_baselines(path: Path = BASELINES) -> Baselines:
    """The data file. ValueError for a figure without a known mark, or a rate of a platform whose power nobody gives."""
    data: dict[str, list[dict[str, Any]]] = tomllib.loads(path.read_text(encoding="utf-8"))
    found = Baselines(
        tuple(Platform(**row) for row in data["platform"]),
        tuple(Rate(**row) for row in data["rate"]),
        tuple(Claim(**row) for row in data["claim"]),
        tuple(Relative(**row) for row in data["relative"]),
    )
    marks = [p.power_mark for p in found.platforms]
    marks += [row.mark for rows in (found.rates, found.claims, found.relatives) for row in rows]
    if wrong := sorted(set(marks) - set(MARKS)):
        raise ValueError(f"{path.name}: marks are {', '.join(MARKS)}, not {', '.join(wrong)}")
    names = {p.name for p in found.platforms}
    if unknown := [r.platform for r in found.rates if r.powered_by not in names]:
        raise ValueError(f"{path.name}: nobody gives the power of {', '.join(unknown)}")
    return found
