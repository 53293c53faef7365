"""A program as one `.mgc` file: its tensors and streams in safetensors, its tables as JSON in the metadata."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from mgc.isa import container
from mgc.isa.codec import RECORD, Streams, decode, encode, narrow
from mgc.isa.error import ProgramError
from mgc.isa.manifest import canonical, from_manifest, to_manifest
from mgc.isa.tables import FORMAT_VERSION, Tables
from mgc.isa.verify import verify

PREFIX = "isa."
"""Tensors of the file itself; a program's own must have other names."""

STREAMS, WORDS, REALS, STARTS = "isa.streams", "isa.words", "isa.reals", "isa.starts"


def save(program: Tables, path: Path) -> None:
    """Verifies a program and writes it: whole or not at all, the same bytes for the same program.

    Raises ProgramError for a program that breaks a rule or cannot be written, OSError for a place that cannot.
    """
    reserved = [name for name in program.tensors if name.startswith(PREFIX) or name == "__metadata__"]
    if reserved:
        raise ProgramError(f"tensor {reserved[0]!r}: names that begin with {PREFIX!r} are the file's own")
    verify(program)
    streams = encode(program.instructions, len(program.units))
    manifest = {
        "format": "mgc",
        "version": FORMAT_VERSION,
        "streams": streams.counts,
        **to_manifest(program),
    }
    tensors = {
        **program.tensors,
        STREAMS: streams.records.view(np.uint8).reshape(-1, RECORD.itemsize),
        WORDS: streams.words,
        REALS: streams.reals,
        **{f"{STARTS}.{e.id}": narrow(e.schedule.starts) for e in program.entries},
    }
    container.write(path, tensors, canonical(manifest))


def load(path: Path) -> Tables:
    """Reads and verifies a program; its tensors stay in the file until they are touched.

    Raises ProgramError, naming the file, for anything wrong: a foreign or damaged file, another format version, a rule
    broken.
    """
    try:
        return _load(path)
    except ProgramError as error:
        raise ProgramError(f"{path}: {error}") from error
    except (AttributeError, TypeError, LookupError, ValueError, ArithmeticError, RecursionError) as error:
        # its description of a chip and its notes are JSON of any form: rules read them as this mgc writes them
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ProgramError(f"{path}: its target or tables are not as this mgc writes them ({reason})") from error


def _load(path: Path) -> Tables:
    tensors, metadata = container.read(path)
    try:
        manifest = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"its manifest is no JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != "mgc":
        raise ProgramError("it is a safetensors file, but no .mgc program: its manifest is another")
    if manifest.get("version") != FORMAT_VERSION:
        raise ProgramError(
            f"its format version is {manifest.get('version')}, this mgc reads {FORMAT_VERSION}: compile it again"
        )
    tables = from_manifest(manifest)
    planned = [f"{STARTS}.{e.id}" for e in tables["entries"]]
    own = {name: _own(tensors, name) for name in (STREAMS, WORDS, REALS, *planned)}
    streams = own[STREAMS]
    counts = manifest.get("streams")
    if streams.dtype != np.uint8 or streams.ndim != 2 or streams.shape[1] != RECORD.itemsize:
        raise ProgramError(f"its streams are {streams.dtype}{list(streams.shape)}, [n, {RECORD.itemsize}] is expected")
    if not isinstance(counts, list) or len(counts) != len(tables["units"]) or any(type(n) is not int for n in counts):
        raise ProgramError("its streams do not go with its units")
    for name, kind, rank in ((WORDS, "i", 1), (REALS, "f", 1), *((name, "i", 2) for name in planned)):
        if own[name].dtype.kind != kind or own[name].ndim != rank:
            raise ProgramError(f"tensor {name} is {own[name].dtype}{list(own[name].shape)}, another is expected")
    records = np.ascontiguousarray(streams).view(RECORD).reshape(-1)
    tables["entries"] = tuple(
        replace(e, schedule=replace(e.schedule, starts=own[name].astype(np.int64)))
        for e, name in zip(tables["entries"], planned, strict=True)
    )
    program = Tables(
        instructions=decode(Streams(records, tuple(counts), own[WORDS], own[REALS])),
        tensors={name: array for name, array in tensors.items() if not name.startswith(PREFIX)},
        origin=str(path),
        **tables,
    )
    verify(program)
    return program


def _own(tensors: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name not in tensors:
        raise ProgramError(f"its tensor {name} is missing")
    return tensors[name]
