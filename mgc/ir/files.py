"""Modules in files: the text in NAME.ir, what is too long for it in NAME.safetensors beside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mgc.ir.module import Module
from mgc.ir.op import IRError
from mgc.ir.text import header_of, parse_module, print_module


def write_module(path: Path, module: Module, *, header: Sequence[str] = ()) -> None:
    """Writes PATH, and the file of data beside it if there is data. `header`: the lines of comment at the top."""
    text, blobs = print_module(module, header=header)
    path.write_text(text, encoding="utf-8")
    if blobs:
        save_file(blobs, path.with_suffix(".safetensors"))
    else:
        path.with_suffix(".safetensors").unlink(missing_ok=True)


def read_module(path: Path) -> tuple[Module, tuple[str, ...]]:
    """The module in a file, and its header. IRError, with file and line, where it or its data is no module's."""
    beside = path.with_suffix(".safetensors")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise IRError(f"{path} is no text: {error}") from error
    blobs: dict[str, np.ndarray] = {}
    if beside.exists():
        try:
            blobs = load_file(beside)
        except SafetensorError as error:
            raise IRError(f"{beside}, the data beside {path}, cannot be read: {error}") from error
    return parse_module(text, blobs, file=str(path)), header_of(text)
