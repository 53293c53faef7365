"""Stages of a compilation as files: the module as text, its big constants beside it, and what `mgc opt` needs to go on.

03-fold.ir              the module; its first lines name the pass that made it and the next one, with options
03-fold.safetensors     constants that the text refers to by number
03-fold.testing.onnx    the graph of each entry, while it is of level 1
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mgc.functions.regular_files import DAMAGED, open_regular, read_regular
from mgc.ir.module import Module, verify_module
from mgc.ir.op import IRError, register_attr
from mgc.ir.text import header_of, parse_module, print_module
from mgc.isa.program import Program
from mgc.passes.manager import Dump, Pass
from mgc.passes.registry import parse_passes
from mgc.passes.state import CompileState, Tools
from mgc.targets.description import Target
from mgc.targets.loader import load_target
from mgc.version import VERSION

DEFAULT_TARGET = "liu2018"


@register_attr
@dataclass(frozen=True, eq=False)
class ProgramFile:
    """A program in a dump: the bytes of its `.mgc` file."""

    data: bytes


def dump_to(folder: Path) -> Dump:
    """What writes each stage into a folder, which is made if need be."""

    def dump(state: CompileState, number: int, name: str, later: Sequence[Pass]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_stage(state, folder / f"{number:02d}-{name}.ir", name, later)

    return dump


def write_stage(state: CompileState, path: Path, name: str, later: Sequence[Pass]) -> None:
    """Writes a state after the pass `name`, before the passes `later`."""
    write_module(path, closed_module(state), header=stage_header(name, later))
    for entry in state.module.entries:
        if all(node.op.level == 1 for node in entry.graph.nodes):
            path.with_suffix(f".{_file_name(entry.name)}.onnx").write_bytes(state.tools.export(entry.graph))


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
        text = read_regular(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise IRError(f"{path} is no text: {error}") from error
    blobs: dict[str, np.ndarray] = {}
    if beside.exists():
        try:
            open_regular(beside).close()
            blobs = load_file(beside)
        except (SafetensorError, OSError, *DAMAGED) as error:
            raise IRError(f"{beside}, the data beside {path}, cannot be read: {error}") from error
    return parse_module(text, blobs, file=str(path)), header_of(text)


def stage_header(name: str, later: Sequence[Pass]) -> tuple[str, ...]:
    """The first lines of a stage: the pass that made it, the next one, and those after that."""
    first = f"mgc {VERSION}, after: {name}"
    if not later:
        return first, "the last stage"
    then = (f"then: {','.join(map(str, later[1:]))}",) if len(later) > 1 else ()
    return first, f"next: {later[0]}", *then


def later_passes(header: Sequence[str], ran: Sequence[Pass], registry: Mapping[str, type[Pass]]) -> tuple[Pass, ...]:
    """What follows passes that `ran` on a stage with this header: what was to come after the last of them."""
    named = [line.partition(": ")[2] for line in header if line.startswith(("next: ", "then: "))]
    planned = parse_passes(",".join(named), registry) if named else ()
    for pass_ in ran:
        names = [p.name for p in planned]
        planned = planned[names.index(pass_.name) + 1 :] if pass_.name in names else planned
    return planned


def read_stage(path: Path, tools: Tools, target: Target | None = None) -> tuple[CompileState, tuple[str, ...]]:
    """The state that a stage was written of, for another target if one is given, and its header.

    A text that names no target is for the default one. IRError, with file and line, for a text that is wrong.
    """
    module, header = read_module(path)
    verify_module(module, levels=(1, 2))
    attributes = dict(module.attributes)
    described, seed = attributes.pop("target", None), attributes.pop("seed", 0)
    warnings = list(attributes.pop("warnings", ()))
    if isinstance(attributes.get("program"), ProgramFile):
        attributes["program"] = _program(attributes["program"].data)
    chip = target or (load_target(DEFAULT_TARGET) if described is None else Target.from_json_dict(described))
    return CompileState(replace(module, attributes=attributes), chip, tools, seed, warnings), header


def closed_module(state: CompileState) -> Module:
    """The module with all else that passes read."""
    beside: dict[str, Any] = {"target": _tuples(state.target.to_json_dict()), "seed": state.seed}
    if state.warnings:
        beside["warnings"] = tuple(dict.fromkeys(state.warnings))
    attributes = {**beside, **state.module.attributes}
    if "program" in attributes:
        attributes["program"] = ProgramFile(_bytes(attributes["program"]))
    return replace(state.module, attributes=attributes)


def _tuples(value: Any) -> Any:
    """JSON values with tuples for lists: what the text form has."""
    if isinstance(value, Mapping):
        return {key: _tuples(v) for key, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _bytes(program: Program) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.mgc"
        program.save(path)
        return path.read_bytes()


def _program(data: bytes) -> Program:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "program.mgc"
        path.write_bytes(data)
        program = Program.load(path)
        tensors = {name: np.array(tensor) for name, tensor in program.tensors.items()}
        return replace(program, tensors=tensors, origin="")


def _file_name(entry: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in entry)
