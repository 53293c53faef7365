"""Phases and parameter groups: which parameters each phase trains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from mgc.ir.training import Phase
from mgc.passes.manager import UnsupportedError

COMPOSED = {"discriminator": "loss_d", "generator": "loss_g"}
"""The phases of a step composed of G, D and a loss's name, in order: the groups that they train, their losses."""


def parse_phase(text: str) -> Phase:
    """A phase from "NAME=LOSS[,steps=K][,from=STEP][,lr=X][,wd=W][,clip=C][,clipnorm=X]". UnsupportedError: why not."""
    name, equals, rest = text.partition("=")
    loss, *options = rest.split(",")
    if not equals or not name.strip() or not loss.strip():
        raise UnsupportedError(f"phase {text!r}: NAME=LOSS is needed, such as discriminator=loss_d")
    found: dict[str, float] = {}
    for option in options:
        key, equals, number = (part.strip() for part in option.partition("="))
        if key not in ("steps", "from", "lr", "wd", "clip", "clipnorm") or not equals:
            known = "steps=K, from=STEP, lr=X, wd=W, clip=C, clipnorm=X"
            raise UnsupportedError(f"phase {text!r}: option {option!r} is not one of {known}")
        if key in found:
            raise UnsupportedError(f"phase {text!r}: {key} is given twice")
        try:
            found[key] = int(number) if key in ("steps", "from") else float(number)
        except ValueError as error:
            raise UnsupportedError(f"phase {text!r}: {key} is {number!r}, a number is needed") from error
    steps, since = int(found.get("steps", 1)), int(found.get("from", 0))
    numbers = {key: found.get(key) for key in ("lr", "wd", "clip", "clipnorm")}
    phase = Phase(name.strip(), loss.strip(), steps, since=since, **numbers)
    _check_phase(phase, [phase.loss])
    return phase


def check_phases(phases: Sequence[Phase], losses: Iterable[str]) -> None:
    """UnsupportedError unless the phases have names of their own (or begin at steps of their own), losses that exist
    and sensible numbers, and one trains from the first step on.
    """
    known = list(losses)
    if not phases:
        raise UnsupportedError("no phase: give at least one, such as discriminator=loss_d")
    for phase in phases:
        if [(p.name, p.since) for p in phases].count((phase.name, phase.since)) > 1:
            raise UnsupportedError(
                f"phase {phase.name} is given twice: name each phase after the group it trains; another loss of the "
                f"same phase takes over where it says from=STEP"
            )
        _check_phase(phase, known)
    first = min(phases, key=lambda p: p.since)
    if first.since:
        raise UnsupportedError(f"phase {first.name}: from={first.since}, but no phase trains before step {first.since}")


def _check_phase(phase: Phase, losses: Sequence[str]) -> None:
    if phase.loss not in losses:
        raise UnsupportedError(
            f"phase {phase.name}: the model has no output {phase.loss!r}; its outputs are {', '.join(losses)}"
        )
    if phase.steps < 1:
        raise UnsupportedError(f"phase {phase.name}: steps is {phase.steps}, at least 1 is needed")
    if phase.since < 0:
        raise UnsupportedError(f"phase {phase.name}: from is {phase.since}: the number of a step, from 0 on, is needed")
    for what, number in (("lr", phase.lr), ("clip", phase.clip), ("clipnorm", phase.clipnorm)):
        if number is not None and not (number > 0 and math.isfinite(number)):
            raise UnsupportedError(f"phase {phase.name}: {what} is {number}, a positive number is needed")
    if phase.wd is not None and not (phase.wd >= 0 and math.isfinite(phase.wd)):
        raise UnsupportedError(f"phase {phase.name}: wd is {phase.wd}, a number >= 0 is needed")


def stages_of(phases: Sequence[Phase]) -> list[tuple[int, int, tuple[Phase, ...]]]:
    """(first iteration, the one after the last or 0, its phases in order), for each run of iterations that are alike.

    Of several phases of one name the one that began last is there.
    """
    begins = sorted({p.since for p in phases})
    stages: list[tuple[int, int, tuple[Phase, ...]]] = []
    for begin, end in zip(begins, [*begins[1:], 0], strict=True):
        latest = {p.name: p for p in sorted(phases, key=lambda p: p.since) if p.since <= begin}
        stages.append((begin, end, tuple(p for p in phases if latest.get(p.name) is p)))
    return stages


def composed_phases(given: Sequence[Phase] = (), order: Sequence[str] = ()) -> tuple[Phase, ...]:
    """The phases of a composed step in order, each as given, or plain. UnsupportedError for one that it has not."""
    if order and sorted(order) != sorted(COMPOSED):
        raise UnsupportedError(f"--order {','.join(order)}: write generator,discriminator or discriminator,generator")
    for phase in given:
        if COMPOSED.get(phase.name) != phase.loss:
            raise UnsupportedError(f"phase {phase.name}={phase.loss}: the phases of G and D are {_listed(COMPOSED)}")
    later = next((p for p in given if p.since), None)
    if later is not None:
        raise UnsupportedError(f"phase {later.name}: from={later.since} is for a model whose outputs are losses")
    if given:
        check_phases(given, [p.loss for p in given])
    own = {phase.name: phase for phase in given}
    return tuple(own.get(name) or Phase(name, COMPOSED[name]) for name in order or COMPOSED)


def _listed(phases: Mapping[str, str]) -> str:
    return " and ".join(f"{name}={loss}" for name, loss in phases.items())


def in_group(name: str, phase: str, patterns: Sequence[str] | None) -> bool:
    """Whether a name is of a phase's group: NAME.*, or one of the patterns where there are any."""
    if patterns:
        return any(fnmatchcase(name, p) for p in patterns)
    return name.startswith(f"{phase}.")


def find_groups(
    names: Mapping[str, str], phases: Sequence[Phase], globs: Mapping[str, Sequence[str]] | None = None
) -> dict[str, tuple[str, ...]]:
    """The phases that train each parameter that is trained: first the one of the smallest group (the first of equal
    ones), whose name the parameter's group has, then the others in order.

    `names` maps each float initializer to the name that counts (its module path). Phase NAME trains those named
    `NAME.*`, or those that match one of the patterns that `globs` gives for NAME. UnsupportedError if a phase trains
    nothing (listing the prefixes that there are).
    """
    given = dict(globs or {})
    strange = sorted(set(given) - {p.name for p in phases})
    if strange:
        raise UnsupportedError(
            f"group {', '.join(strange)}: there is no such phase; phases are {', '.join(p.name for p in phases)}"
        )
    groups: dict[str, list[str]] = {}
    for phase in {p.name: p for p in phases}.values():
        patterns = given.get(phase.name)
        found = [
            initializer
            for initializer, name in names.items()
            if in_group(name, phase.name, patterns) or in_group(initializer, phase.name, patterns)
        ]
        if not found:
            raise UnsupportedError(_nothing(phase, patterns, names.values()))
        for initializer in found:
            groups.setdefault(initializer, []).append(phase.name)
    sizes = Counter(name for found in groups.values() for name in found)
    homes = {n: min(found, key=sizes.__getitem__) for n, found in groups.items()}
    return {n: (homes[n], *(p for p in found if p != homes[n])) for n, found in groups.items()}


def _nothing(phase: Phase, patterns: Sequence[str] | None, names: Iterable[str]) -> str:
    prefixes = sorted({name.partition(".")[0] for name in names})
    what = f"matches {' or '.join(patterns)}" if patterns else f"is named {phase.name}.*"
    listed = ", ".join(prefixes) if prefixes else "none: the model has no float initializers"
    return (
        f"phase {phase.name} trains nothing: no float initializer {what}. Prefixes found: {listed}. "
        f"Name the parameters with --group {phase.name}=GLOB"
    )
