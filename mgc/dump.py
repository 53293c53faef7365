"""Stages of a compilation as files: the module as text, its big constants beside it, and what `mgc opt` needs to go on.

03-fold.ir              the module; its first lines name the pass that made it and the next one, with options
03-fold.safetensors     constants that the text refers to by number
03-fold.testing.onnx    the graph of each entry, while it is of level 1
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

import mgc
from mgc.ir.module import Module
from mgc.ir.op import register_attr
from mgc.ir.text import parse_module, print_module
from mgc.isa.program import Program
from mgc.passes.state import CompileState, Tools
from mgc.targets.description import Target


@register_attr
@dataclass(frozen=True, eq=False)
class ProgramFile:
    """A program in a dump: the bytes of its `.mgc` file."""

    data: bytes


def dump_to(folder: Path) -> Any:
    """What writes each stage into a folder, which is made if need be; see `mgc.passes.manager.Dump`."""

    def dump(state: CompileState, number: int, name: str, later: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_stage(state, folder / f"{number:02d}-{name}.ir", name, later)

    return dump


def write_stage(state: CompileState, path: Path, name: str, later: str) -> None:
    """Writes a state after the pass `name`; `later` is the next pass as text, "" after the last."""
    header = (f"mgc {mgc.__version__}, after: {name}", f"next: {later}" if later else "the last stage")
    text, constants = print_module(_closed(state), header=header)
    path.write_text(text, encoding="utf-8")
    beside = path.with_suffix(".safetensors")
    if constants:
        save_file({key: np.ascontiguousarray(data) for key, data in constants.items()}, beside)
    else:
        beside.unlink(missing_ok=True)
    for entry in state.module.entries:
        if all(node.op.level == 1 for node in entry.graph.nodes):
            path.with_suffix(f".{_file_name(entry.name)}.onnx").write_bytes(state.tools.export(entry.graph))


def read_stage(path: Path, tools: Tools, target: Target | None = None) -> CompileState:
    """The state that a stage was written of, for another target if one is given. IRError for text that is wrong."""
    beside = path.with_suffix(".safetensors")
    constants: Mapping[str, np.ndarray] = load_file(beside) if beside.is_file() else {}
    module = parse_module(path.read_text(encoding="utf-8"), constants)
    attributes = dict(module.attributes)
    described, seed = attributes.pop("target", None), attributes.pop("seed", 0)
    if isinstance(attributes.get("program"), ProgramFile):
        attributes["program"] = _program(attributes["program"].data)
    chip = target or Target.from_json_dict(described)
    return CompileState(replace(module, attributes=attributes), chip, tools, seed)


def _closed(state: CompileState) -> Module:
    """The module with all else that passes read."""
    attributes = {"target": _tuples(state.target.to_json_dict()), "seed": state.seed, **state.module.attributes}
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
