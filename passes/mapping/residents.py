"""What lives on the chip from run to run, and how the states of a training step map to it."""

from __future__ import annotations

from dataclasses import dataclass, field

from mgc.ir.module import Module
from mgc.ir.op import register_attr
from mgc.passes.mapping.plan import Resident


@register_attr
@dataclass(frozen=True, eq=False)
class Residents:
    """All that lives from run to run, groups first. `weights` names the residents of each weight on crossbars (and of
    its moments), copy after copy, in part order.
    """

    all: tuple[Resident, ...] = ()
    weights: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of all, in order."""
        return [r.name for r in self.all]

    @property
    def by_name(self) -> dict[str, Resident]:
        """Under their names."""
        return {r.name: r for r in self.all}

    @property
    def groups(self) -> tuple[Resident, ...]:
        """The crossbar groups, in order."""
        return tuple(r for r in self.all if r.is_group)

    @property
    def buffers(self) -> tuple[Resident, ...]:
        """The persistent buffers, in order."""
        return tuple(r for r in self.all if not r.is_group)


def residents_in(module: Module) -> Residents:
    """The residents of a module; before `lower-linear`, or `partition` where nothing is trained, there are none."""
    found: Residents = module.attributes.get("residents", Residents())
    return found
