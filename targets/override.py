"""A description with some keys changed: `--set adc_bits=6` of a compilation, the points of a sweep."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mgc.targets.problems import TargetError, explain, nearest

_NAME_LENGTH = 64

Description = TypeVar("Description", bound=BaseModel)


def override(target: Description, changes: Mapping[str, Any]) -> Description:
    """The description with keys changed: "crossbar.adc_bits", or "adc_bits" where no other table has such a key.

    A text is read as TOML has it (6, 0.5, true, [1, 2], "fast"; quotes may be left out). The name says what was
    changed. TargetError lists all that is wrong.
    """
    if not changes:
        return target
    data, name = target.model_dump(mode="json"), str(getattr(target, "name", ""))
    problems: list[str] = []
    for key, value in changes.items():
        try:
            *tables, last = full_key(type(target), key).split(".")
        except TargetError as error:
            problems += error.problems
            continue
        table = data
        for each in tables:
            table = table[each]
        table[last] = _value(value) if isinstance(value, str) else value
    named = f"{name} {', '.join(f'{k}={v}' for k, v in changes.items())}"
    data["name"] = named if len(named) <= _NAME_LENGTH else f"{named[: _NAME_LENGTH - 1]}…"
    advice = f"`mgc targets {name}` prints the keys with their meaning."
    try:
        changed = type(target).model_validate(data)
    except ValidationError as error:
        raise TargetError(data["name"], [*problems, *explain(error, type(target))], advice) from error
    if problems:
        raise TargetError(data["name"], problems, advice)
    return changed


def full_key(description: type[BaseModel], key: str) -> str:
    """The key with its table. TargetError where there is none of that name, or several."""
    known = list(_keys(description))
    if key in known:
        return key
    found = [k for k in known if k.endswith(f".{key}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise TargetError(key, [f"{key}: several tables have this key: write {' or '.join(found)}"])
    raise TargetError(key, [f"{key}: no such key{nearest(key, [*known, *(k.rpartition('.')[2] for k in known)])}"])


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def _value(text: str) -> Any:
    """As TOML reads it; a bare word is a text."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
