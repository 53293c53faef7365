"""Changes to inputs that know their structure: protocol buffers, JSON, arrays, text in tokens, plain bytes."""

from __future__ import annotations

import copy
import re
from typing import Any

import numpy as np
from draws import REALS, TEXTS, Draw, choice, whole
from google.protobuf.message import Message

OPS = ("Relu", "Add", "MatMul", "Conv", "ConvTranspose", "Reshape", "Softmax", "Resize", "Pad", "Slice", "Gather", "If",
       "Loop", "Cast", "Tile", "Expand", "Range", "NonZero", "TopK", "Einsum", "BatchNormalization", "MaxPool",
       "ConstantOfShape", "OneHot", "LSTM", "DequantizeLinear", "Identity", "Nothing")  # fmt: skip


def message(root: Message, draw: Draw) -> None:
    """Changes one field somewhere in a message, in place."""
    found = list(_fields(root, 0))
    if not found:
        return
    owner, field = choice(draw, found)
    repeated = not isinstance(getattr(owner, field.name), (int, float, str, bytes, Message, bool))
    values = getattr(owner, field.name)
    kind = field.cpp_type
    try:
        if field.name == "op_type":
            owner.op_type = choice(draw, OPS)
        elif repeated and len(values):
            k = draw.number(0, len(values) - 1)
            match draw.number(0, 3):
                case 0:
                    del values[k]
                case 1 if kind == field.CPPTYPE_MESSAGE:
                    values.add().CopyFrom(values[k])
                case 1:
                    values.append(values[k])
                case 2 if kind == field.CPPTYPE_MESSAGE:
                    values[k].CopyFrom(choice(draw, list(values)))
                case _ if kind != field.CPPTYPE_MESSAGE:
                    values[k] = _scalar(field, values[k], draw)
        elif kind == field.CPPTYPE_MESSAGE:
            owner.ClearField(field.name)
        else:
            setattr(owner, field.name, _scalar(field, values, draw))
    except (ValueError, TypeError):  # a number that the field cannot hold
        owner.ClearField(field.name)


def _fields(owner: Message, depth: int):
    for field, value in owner.ListFields():
        yield owner, field
        if field.cpp_type == field.CPPTYPE_MESSAGE and depth < 12:
            for part in [value] if isinstance(value, Message) else value:
                yield from _fields(part, depth + 1)


def _scalar(field: Any, value: Any, draw: Draw) -> Any:
    if isinstance(value, bytes):
        return noise(value, draw)
    if isinstance(value, str):
        return choice(draw, TEXTS).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    if isinstance(value, float):
        return choice(draw, REALS)
    return whole(draw, int(value))


def tree(value: Any, draw: Draw) -> Any:
    """A copy of JSON in which one place is changed."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(places) < 20_000:
        inner = waiting.pop()
        keys = list(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        for key in keys:
            places.append((inner, key))
            waiting.append(inner[key])
    if not places:
        return choice(draw, (None, [], {}, 1, "x"))
    owner, key = choice(draw, places)
    match draw.number(0, 5):
        case 0:
            del owner[key]
        case 1:
            owner[key] = choice(draw, TEXTS)
        case 2:
            owner[key] = choice(draw, (None, True, [], {}, [[]], 0.5, float("nan")))
        case 3 if isinstance(owner, list):
            owner.insert(key, copy.deepcopy(owner[key]))
        case 4:
            deep: Any = []
            for _ in range(draw.number(1, 400)):
                deep = [deep]
            owner[key] = deep
        case _:
            near = owner[key] if isinstance(owner[key], int) else 0
            owner[key] = whole(draw, near)
    return value


def array(values: np.ndarray, draw: Draw) -> np.ndarray:
    """A copy in which an element, the shape or the element type is changed."""
    values = np.array(values)
    match draw.number(0, 4):
        case 0:
            return values.reshape(-1)[: draw.number(0, max(values.size - 1, 0))]
        case 1:
            with np.errstate(all="ignore"):
                return values.astype(choice(draw, ("float32", "int64", "uint8", "int8", "float64", "bool")))
        case 2:
            return values[None]
        case _ if values.size:
            k = draw.number(0, values.size - 1)
            flat = values.reshape(-1)
            if values.dtype.kind == "f":
                with np.errstate(all="ignore"):
                    flat[k] = choice(draw, REALS)
            elif values.dtype.kind in "iu":
                info = np.iinfo(values.dtype)
                flat[k] = min(max(whole(draw, int(flat[k])), info.min), info.max)
    return values


_TOKEN = re.compile(r"\s+|-?\d+(?:\.\d+)?(?:e-?\d+)?|\w+|\"[^\"\n]*\"|.", re.S)


def tokens(text: str, draw: Draw) -> str:
    """A text in which a token or a line is changed, left out, doubled or moved."""
    if draw.number(0, 3) == 0:
        lines = text.split("\n")
        a, b = draw.number(0, len(lines) - 1), draw.number(0, len(lines) - 1)
        match draw.number(0, 2):
            case 0:
                del lines[a]
            case 1:
                lines.insert(a, lines[b])
            case _:
                lines[a], lines[b] = lines[b], lines[a]
        return "\n".join(lines)
    found = _TOKEN.findall(text)
    if not found:
        return text
    k = draw.number(0, len(found) - 1)
    match draw.number(0, 5):
        case 0:
            del found[k]
        case 1:
            found[k] = choice(draw, found)
        case 2:
            found[k] = choice(draw, ("(" * 2000, "[" * 500, "\x00", '"', "nan", "-", "\\u0000", "\ud800", ";", "//"))
        case _:
            numbers = [j for j, t in enumerate(found) if t[-1:].isdigit()]
            if numbers:
                j = choice(draw, numbers)
                found[j] = str(whole(draw, int(found[j]) if found[j].lstrip("-").isdigit() else 0))
    return "".join(found)


def noise(data: bytes, draw: Draw) -> bytes:
    """Bytes in which some are changed, left out or doubled."""
    changed = bytearray(data)
    for _ in range(draw.number(1, 4)):
        k = draw.number(0, max(len(changed) - 1, 0))
        match draw.number(0, 3):
            case 0 if changed:
                changed[k] = draw.number(0, 255)
            case 1:
                del changed[k:]
            case 2:
                changed[k:k] = draw.chunk(draw.number(1, 16))
            case _:
                changed[k:k] = changed[k : k + draw.number(1, 64)]
    return bytes(changed)
