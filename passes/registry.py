"""Passes by name, from their text: `fold`, `quantize{method=minmax}`, several with commas between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mgc.passes.manager import Pass
from mgc.passes.state import UnsupportedError

_PASS = re.compile(r"\s*([\w-]+)\s*(?:\{([^{}]*)\})?\s*(?:,|$)")


def by_name(passes: Iterable[type[Pass]]) -> dict[str, type[Pass]]:
    """A registry. ValueError for two passes of one name."""
    found: dict[str, type[Pass]] = {}
    for cls in passes:
        if found.setdefault(cls.name, cls) is not cls:
            raise ValueError(f"two passes are named {cls.name}")
    return found


def parse_passes(text: str, registry: Mapping[str, type[Pass]]) -> tuple[Pass, ...]:
    """The passes that a text names. UnsupportedError: what is wrong, and what there is."""
    found: list[Pass] = []
    at = 0
    while at < len(text):
        match = _PASS.match(text, at)
        if match is None:
            raise UnsupportedError(f"passes {text!r}: NAME or NAME{{OPTION=VALUE,...}} is expected at {text[at:]!r}")
        name, options = match.groups()
        if name not in registry:
            raise UnsupportedError(f"no pass {name!r}: there are {', '.join(registry)}")
        found.append(_made(registry[name], options or ""))
        at = match.end()
    if not found:
        raise UnsupportedError(f"no pass is named; there are {', '.join(registry)}")
    return tuple(found)


def _made(cls: type[Pass], options: str) -> Pass:
    """A pass with options from text, each of its field's type."""
    types = get_type_hints(cls)
    known = {f.name: types[f.name] for f in fields(cls)}
    given: dict[str, Any] = {}
    for option in filter(None, (part.strip() for part in options.split(","))):
        name, equals, word = (part.strip() for part in option.partition("="))
        if not equals or name not in known:
            listed = ", ".join(f"{n}={_kind(t)}" for n, t in known.items()) or "none"
            raise UnsupportedError(f"pass {cls.name}: no option {option!r}; its options are {listed}")
        given[name] = _value(cls.name, name, word, known[name])
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in given]
    if missing:
        raise UnsupportedError(f"pass {cls.name} needs {', '.join(missing)}")
    return cls(**given)


def _kind(type_: Any) -> str:
    return "|".join(map(str, get_args(type_))) if get_origin(type_) is Literal else type_.__name__


def _value(pass_: str, name: str, word: str, type_: Any) -> Any:
    if get_origin(type_) is Literal and word in get_args(type_):
        return word
    if type_ is bool and word in ("true", "false"):
        return word == "true"
    try:
        if type_ in (int, float, str):
            return type_(word)
    except ValueError:
        pass
    raise UnsupportedError(f"pass {pass_}: {name} is {word!r}, {_kind(type_)} is expected")
