"""What is wrong with a target: the error class, and pydantic's findings in words a user can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class TargetError(ValueError):
    """A target cannot be had.

    `origin` is its name or file, `problems` one line for each thing that is wrong, `advice` what to do about it.
    """

    def __init__(self, origin: str, problems: Iterable[str], advice: str = "") -> None:
        self.origin = origin
        self.problems = tuple(problems)
        self.advice = advice
        if len(self.problems) == 1:
            text = f"target {origin}: {self.problems[0]}"
        else:
            text = "\n  ".join((f"target {origin}: {len(self.problems)} problems", *self.problems))
        super().__init__(f"{text}\n{advice}" if advice else text)


def explain(error: ValidationError, root: type[BaseModel], text: str = "") -> list[str]:
    """Pydantic's findings as `key (line n): what is wrong`; `root` is the model, `text` the TOML behind it."""
    tables = _tables(root, ())
    return [_explain_one(detail, tables, text) for detail in error.errors(include_url=False)]


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name nearest to `name`, or nothing."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


_Tables = dict[tuple[str, ...], type[BaseModel]]


def _tables(model: type[BaseModel], path: tuple[str, ...]) -> _Tables:
    """Every table of a description: its path and its model."""
    found: _Tables = {path: model}
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found.update(_tables(field.annotation, (*path, key)))
    return found


def _explain_one(detail: ErrorDetails, tables: _Tables, text: str) -> str:
    keys = tuple(key for key in detail["loc"] if isinstance(key, str))
    where = ".".join(keys) + "".join(f"[{index}]" for index in detail["loc"] if isinstance(index, int))
    if line := _line_of(text, keys):
        where += f" (line {line})"
    context = detail.get("ctx", {})
    found = _short(detail["input"])
    match detail["type"]:
        case "missing":
            return f"{where}: missing: {_meaning(keys, tables)}"
        case "extra_forbidden":
            return f"{where}: unknown key{_suggestion(keys, tables)}"
        case "model_type" | "model_attributes_type":
            return f"{where}: must be a table, not {found}"
        case "value_error":
            return f"{where}: {context['error']}"
        case "too_short":
            return f"{where}: must not be empty"
        case "literal_error":
            return f"{where}: must be {context['expected']}, not {found}"
        case _:
            # pydantic says "Input should be ..." of a value, "Tuple should have ..." of a length
            wanted = "must " + detail["msg"].partition(" should ")[2]
            return f"{where}: {wanted}, not {found} ({_meaning(keys, tables)})"


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _meaning(keys: tuple[str, ...], tables: _Tables) -> str:
    model = tables.get(keys[:-1])
    field = model.model_fields.get(keys[-1]) if model and keys else None
    return (field.description or "") if field else ""


def _suggestion(keys: tuple[str, ...], tables: _Tables) -> str:
    """What an unknown key was probably meant to be: a near name in its table, or its name in another table."""
    here = tables.get(keys[:-1])
    known = list(here.model_fields) if here else []
    owners = [".".join(path) for path, model in tables.items() if path and keys[-1] in model.model_fields]
    if owners:
        return f"; it belongs in {' or '.join(f'[{owner}]' for owner in owners)}"
    return nearest(keys[-1], known) or f"; known here: {', '.join(known)}"


def _line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """Line of a key, or of its table, or None. tomllib keeps no positions, so a plain scan finds them."""
    table: tuple[str, ...] = ()
    table_line = None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([\w.\-\s]+?)\s*\]", line):
            table = tuple(part.strip() for part in header[1].split("."))
            if table == keys:
                return number
            if table == keys[:-1]:
                table_line = number
        elif (pair := re.match(r"\s*([\w\-]+)\s*=", line)) and (*table, pair[1]) == keys:
            return number
    return table_line
