"""The kinds of input from elsewhere: good ones, how they are changed, and the door that each goes through.

A door raises nothing but the errors that a user may see: anything else is a defect of mgc.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import mutations
import numpy as np
import onnx
from draws import Draw, Seeded, choice

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests" / "sim"), str(ROOT / "tests" / "cli")]

import tiny  # noqa: E402
from programs import random_program  # noqa: E402

from mgc.cli.errors import known_errors  # noqa: E402
from mgc.isa import container  # noqa: E402
from mgc.isa.asm import assemble, disassemble  # noqa: E402
from mgc.isa.program import Program  # noqa: E402

SHOWN = (OSError, MemoryError)
"""Beside the errors of mgc's own: what the command line tells as a full disk, a missing file, no memory."""


@dataclass(frozen=True)
class Kind:
    """make: an input after some changes. enter: what mgc does with it."""

    make: Callable[[Draw], bytes]
    enter: Callable[[bytes, Path], None]


def attempt(name: str, data: bytes) -> str:
    """Takes an input through its door: "" if all went well, else the class of the error that a user would see.

    Raises whatever else comes.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            KINDS[name].enter(data, Path(folder))
        except (*known_errors(), *SHOWN) as error:
            return type(error).__name__
    return ""


# -- models ------------------------------------------------------------------------------------------------------------


@cache
def _models() -> tuple[bytes, ...]:
    return tuple(m.SerializeToString() for m in (tiny.generator(), tiny.scorer(), tiny.batch_mixer()))


def _model(draw: Draw) -> bytes:
    model = onnx.ModelProto.FromString(choice(draw, _models()))
    for _ in range(draw.number(1, 4)):
        mutations.message(model, draw)
    data = model.SerializeToString()
    return mutations.noise(data, draw) if draw.number(0, 7) == 0 else data


def _compile(data: bytes, folder: Path) -> None:
    import mgc
    from mgc.sim import draw_inputs

    program = mgc.compile(data, calibrate="minmax")
    program.save(folder / "p.mgc")
    simulator = mgc.Simulator(Program.load(folder / "p.mgc"))
    simulator.run(draw_inputs(program, 1, 0))


# -- programs ----------------------------------------------------------------------------------------------------------


@cache
def _programs() -> tuple[Program, ...]:
    import random

    import mgc

    drawn = [random_program(random.Random(k)) for k in range(6)]
    return (*drawn, *(mgc.compile(m, calibrate="minmax") for m in _models()[:2]))


@cache
def _parts(k: int) -> tuple[dict[str, np.ndarray], str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.mgc"
        _programs()[k].save(path)
        tensors, metadata = container.read(path)
        return {name: np.array(a) for name, a in tensors.items()}, metadata


def _sealed(draw: Draw, tensors: dict[str, np.ndarray], metadata: str) -> bytes:
    """A container with changes inside, its seal right."""
    tensors = dict(tensors)
    for _ in range(draw.number(1, 3)):
        if draw.number(0, 1) and tensors:
            name = choice(draw, sorted(tensors))
            tensors[name] = mutations.array(tensors[name], draw)
        else:
            metadata = json.dumps(mutations.tree(json.loads(metadata), draw))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        container.write(path, tensors, metadata)
        data = path.read_bytes()
    return mutations.noise(data, draw) if draw.number(0, 9) == 0 else data


def _program(draw: Draw) -> bytes:
    return _sealed(draw, *_parts(draw.number(0, len(_programs()) - 1)))


def _load(data: bytes, folder: Path) -> None:
    from mgc.report import report
    from mgc.sim import Simulator, draw_inputs

    path = folder / "p.mgc"
    path.write_bytes(data)
    program = Program.load(path)
    disassemble(program)
    for view in ("summary", "schedule", "memory"):
        report(program, view)
    if max((b.slots for b in program.buffers), default=0) < 1 << 16:
        Simulator(program).run(draw_inputs(program, 1, 0))


# -- texts -------------------------------------------------------------------------------------------------------------


def _text(texts: Callable[[], tuple[str, ...]], draw: Draw) -> bytes:
    text = choice(draw, texts())
    for _ in range(choice(draw, (1, 1, 1, 2, 3))):
        text = mutations.tokens(text, draw)
    return text.encode("utf-8", "surrogatepass")


@cache
def _listings() -> tuple[str, ...]:
    return tuple(disassemble(p, f"{k}.mgc") for k, p in enumerate(_programs()))


def _assemble(data: bytes, folder: Path) -> None:
    from mgc.isa.error import ProgramError

    def resolve(name: str):
        number = name.removesuffix(".mgc")
        if number.isdecimal() and int(number) < len(_programs()):
            return _programs()[int(number)].tensors
        raise ProgramError(f"tensor file {name} is not there")

    try:
        text = data.decode()
    except UnicodeDecodeError:
        return  # the command says so
    program = assemble(text, resolve=resolve)
    again = disassemble(program)
    assert disassemble(assemble(again, resolve=lambda name: program.tensors)) == again


@cache
def _stages() -> tuple[str, ...]:
    files = sorted((ROOT / "tests" / "passes" / "ir").glob("*.ir"))
    texts = (p.read_text() for p in files if not p.name.startswith("error"))
    return tuple(part for text in texts for part in text.split("// -----\n") if part.startswith("module "))


def _opt(data: bytes, folder: Path) -> None:
    from mgc.compiler import compile_tools, pass_registry
    from mgc.dump import later_passes, read_stage
    from mgc.passes.manager import PassManager

    path = folder / "s.ir"
    path.write_bytes(data)
    state, header = read_stage(path, compile_tools())
    PassManager(later_passes(header, (), pass_registry())[:2]).run(state)


@cache
def _targets() -> tuple[str, ...]:
    return tuple(p.read_text() for p in sorted((ROOT / "targets").glob("*.toml")))


def _target(data: bytes, folder: Path) -> None:
    from mgc.targets.loader import load_target

    path = folder / "t.toml"
    path.write_bytes(data)
    load_target(path)


# -- checkpoints and data ----------------------------------------------------------------------------------------------


@cache
def _saved() -> tuple[dict[str, np.ndarray], str]:
    from mgc.training.checkpoint import Checkpoint, write_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        state = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3)}
        saved = Checkpoint(3, 1, {"program": "x", "numerics": "quantized"}, {"x": "y"}, state, {"loss": [1.0, 2.0]})
        tensors, metadata = container.read(write_checkpoint(Path(folder), saved))
        return {name: np.array(a) for name, a in tensors.items()}, metadata


def _restore(data: bytes, folder: Path) -> None:
    from mgc.training.checkpoint import check_identity, newest_checkpoint

    (folder / "step-00000003.safetensors").write_bytes(data)
    found = newest_checkpoint(folder, lambda text: None)
    if found is not None:
        check_identity(*found, {"program": "x", "numerics": "quantized"})
        [float(v) for values in found[1].history.values() for v in values]


@cache
def _files() -> tuple[bytes, ...]:
    from PIL import Image

    files = []
    for save in (np.save, np.savez, np.savez_compressed):
        stream = io.BytesIO()
        save(stream, np.arange(24, dtype=np.float32).reshape(2, 3, 4))
        files.append(stream.getvalue())
    files.append(b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 3, 4)) + bytes(24))
    for kind in ("PNG", "JPEG", "BMP"):
        stream = io.BytesIO()
        Image.new("RGB", (8, 8)).save(stream, kind)
        files.append(stream.getvalue())
    files.append(b"%!PS-Adobe-3.0\nshowpage\n")
    return tuple(files)


def _read(data: bytes, folder: Path) -> None:
    from contextlib import suppress

    from mgc.evaluation.given import load_array
    from mgc.training.data.files import read_arrays
    from mgc.training.data.images import read_images

    (folder / "a.png").write_bytes(data)
    for read in (load_array, read_arrays):
        with suppress(*known_errors(), *SHOWN):
            read(folder / "a.png")
    read_images(folder, 8, 8, 3)


KINDS = {
    "onnx": Kind(_model, _compile),
    "program": Kind(_program, _load),
    "asm": Kind(lambda draw: _text(_listings, draw), _assemble),
    "ir": Kind(lambda draw: _text(_stages, draw), _opt),
    "target": Kind(lambda draw: _text(_targets, draw), _target),
    "checkpoint": Kind(lambda draw: _sealed(draw, *_saved()), _restore),
    "data": Kind(lambda draw: mutations.noise(choice(draw, _files()), draw), _read),
}
"""By name."""

__all__ = ["KINDS", "Seeded", "attempt"]
