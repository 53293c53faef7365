"""Reads target files. Everything wrong with a file is reported at once, in one readable message."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mgc.functions.regular_files import read_regular
from mgc.targets.description import Target
from mgc.targets.problems import TargetError, explain, nearest

_FOLDER = Path(__file__).parent
# Named here, not found by scanning: the list is the public interface, in the order shown to users, default first.
_NAMES = ("liu2018", "isaac", "isaac_transposed", "prime", "pipelayer", "puma")

_MOST_BYTES = 1 << 20

DEFAULT_TARGET = _NAMES[0]
"""The target that is used when none is named."""


def target_names() -> list[str]:
    """Names of the targets that come with mgc, the default first."""
    return list(_NAMES)


def target_toml(name: str) -> str:
    """The text of a shipped target's file, comments and sources included. TargetError if there is no such name."""
    if name not in _NAMES:
        advice = f"Targets that come with mgc: {', '.join(_NAMES)}. A target file of your own must end in .toml."
        raise TargetError(repr(name), [f"no such target{nearest(name, _NAMES)}"], advice)
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def load_target(name_or_path: str | Path) -> Target:
    """Load a shipped target by name, or a user's file by path.

    A `Path`, or a string that ends in `.toml` or has a folder in it, is a file; any other string is a name. A file may
    say `base = "liu2018"` (a shipped name) and then give only what differs. TargetError lists all that is wrong.
    """
    if isinstance(name_or_path, str) and not _looks_like_path(name_or_path):
        return _shipped(name_or_path)
    path = Path(name_or_path)
    return _parse(_read(path), str(path), path.stem)


@functools.cache
def _shipped(name: str) -> Target:
    return _parse(target_toml(name), name, name)


def parse_target(text: str, origin: str = "text") -> Target:
    """Load a target from TOML text; `origin` names it in errors, and names the target if the text does not."""
    return _parse(text, origin, origin)


def _looks_like_path(text: str) -> bool:
    return text.endswith(".toml") or "/" in text or "\\" in text


def _read(path: Path) -> str:
    try:
        return read_regular(path, _MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"not a text file: byte {error.start} is not UTF-8"
        raise TargetError(str(path), [problem], "Give a TOML file such as `mgc targets NAME` prints.") from error
    except OSError as error:
        advice = f"Give a readable TOML file, or one of these names: {', '.join(_NAMES)}."
        raise TargetError(str(path), [f"cannot read the file: {error.strerror or error}"], advice) from error


def _parse(text: str, origin: str, name: str) -> Target:
    """`name` is the target's name if it has a base and gives none itself (the base's would mislead)."""
    data, problems = _with_base(_toml(text, origin), name)
    try:
        target = Target.model_validate(data)
    except ValidationError as error:
        problems += explain(error, Target, text)
    else:
        if not problems:
            return target
    if re.search(r"(?m)^\s*base\s*=", text):
        advice = f"`mgc targets {DEFAULT_TARGET}` prints a complete file to compare with."
    else:
        advice = f'Start from `mgc targets NAME`, or add base = "{DEFAULT_TARGET}" at the top and only what differs.'
    raise TargetError(origin, problems, advice)


def _toml(text: str, origin: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or an integer of more digits than Python reads
        raise TargetError(origin, [f"not valid TOML: {error}"], "Correct the place named.") from error
    except RecursionError as error:
        raise TargetError(origin, ["not usable TOML: nested too deeply"], "A target file nests two tables.") from error


def _with_base(data: dict[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """Lay a file's keys over its base's; also the problems with the base itself.

    A wrong base is a problem like any other: the default stands in for it, so that the other keys are checked as well.
    """
    problems: list[str] = []
    if "base" not in data:
        return data, problems
    own = {"name": name[:64], **data}
    base = own.pop("base")
    if base not in _NAMES:
        problems.append(f"base: no target named {base!r}{nearest(str(base), _NAMES)} (known: {', '.join(_NAMES)})")
        base = DEFAULT_TARGET
    below, _ = _with_base(_toml(target_toml(base), base), base)
    return _overlay(below, own), problems


def _overlay(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the keys of `over` laid over it, table by table; arrays and values are replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _overlay(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
