"""Whatever names a model has: no control character but newline is shown or written, and text goes both ways."""

import dataclasses
import json
import random
import re
import subprocess
import sys
import xml.dom.minidom
from pathlib import Path

import onnx
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.functions.printable import printable
from mgc.isa.asm import assemble, disassemble

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "sim"))
from programs import random_program  # noqa: E402

UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
NAMES = [
    "\x1b[31mred\x1b[0m",
    "a\rb",
    "\x9b31m",
    "x\x07\x08",
    "\u202eevil",
    "]]>&<'\"",
    "a\nb ; c",
    "\x7f\x00",
    "tab\t",
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.text())
def test_printable_text_is_safe_and_tells_what_was_there(text):
    shown = printable(text)
    assert not UNSAFE.search(shown)
    assert printable(shown) == shown
    assert json.loads(printable(json.dumps(text, ensure_ascii=False))) == text


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 50), st.lists(TEXTS | st.sampled_from(NAMES), min_size=8, max_size=8))
def test_assembler_text_of_any_names_gives_the_program_back(seed, names):
    program = random_program(random.Random(seed))
    sources = tuple((n, names[k % 8]) for k, n in enumerate(names)) if program.sources else ()
    program = dataclasses.replace(
        program,
        name=names[0],
        sources=(*sources, *program.sources)[: max(len(program.sources), 1)],
        absorbed={names[1]: names[2]},
        meta={names[3]: names[4]},
        buffers=tuple(dataclasses.replace(b, name=names[b.id % 8]) for b in program.buffers),
        units=tuple(dataclasses.replace(u, name=names[u.id % 8]) for u in program.units),
        entries=(dataclasses.replace(program.entries[0], name=names[5]),),
    )
    text = disassemble(program)
    assert not UNSAFE.search(text)
    back = assemble(text, resolve=lambda name: program.tensors)
    assert disassemble(back) == text
    assert (back.name, back.sources, back.buffers, back.units) == (
        program.name,
        program.sources,
        program.buffers,
        program.units,
    )


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A model whose every name is an attack, compiled."""
    from typer.testing import CliRunner

    from mgc.cli.app import app

    folder = tmp_path_factory.mktemp("hostile")
    model = tiny.generator()
    renamed = {}

    def rename(name):
        return renamed.setdefault(name, f"{NAMES[len(renamed) % len(NAMES)]}{len(renamed)}") if name else name

    graph = model.graph
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name = rename(item.name)
    for node in graph.node:
        node.name = rename(node.name or node.op_type)
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = rename(name)
    graph.name = NAMES[0]
    del graph.value_info[:]
    onnx.save(model, folder / "H.onnx")
    result = CliRunner().invoke(app, ["compile", str(folder / "H.onnx"), "-o", str(folder / "H.mgc")])
    assert result.exit_code == 0, result.stderr
    assert not UNSAFE.search(result.stdout + result.stderr)
    return folder / "H.mgc"


@pytest.mark.parametrize("view", ["summary", "schedule", "mapping", "layers", "memory", "instructions", "cost"])
@pytest.mark.parametrize("format", ["text", "json", "svg", "perfetto", "html"])
def test_no_report_holds_a_control_character(hostile, view, format, mgc, tmp_path):
    if format in ("svg", "perfetto") and view != "schedule":
        return
    out = tmp_path / "out"
    outcome = mgc("inspect", hostile, view, "--format", format, "-o", out)
    assert outcome.code == 0, outcome.err
    text = out.read_bytes().decode()
    assert not UNSAFE.search(text + outcome.out + outcome.err)
    if format == "svg":
        xml.dom.minidom.parseString(text)
    if format in ("json", "perfetto"):
        json.loads(text)


def test_a_terminal_is_sent_no_name_as_it_is(hostile, monkeypatch, capsys):
    from mgc.cli import console
    from mgc.isa.program import Program
    from mgc.report import renderable

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    console.emit(renderable(Program.load(hostile), "layers"))
    shown = capsys.readouterr().out
    assert re.search(r"u001b|u009b|u202e", shown)
    assert not UNSAFE.search(re.sub(r"\x1b\[[0-9;]*m", "", shown).replace("\r", ""))


def test_runs_and_listings_too(hostile, mgc, tmp_path):
    for command in (["run", hostile, "-n", 2], ["disasm", hostile], ["run", hostile, "--input", "\x1b[31m=x"]):
        outcome = mgc(*command)
        assert not UNSAFE.search(outcome.out + outcome.err), command


# -- errors as JSON ----------------------------------------------------------------------------------------------------


def test_an_error_is_one_json_object_too(mgc, tmp_path):
    for command in (["compile", tmp_path / "no.onnx"], ["run", tmp_path / "no.mgc"], ["targets", "nope"]):
        outcome = mgc(*command, "--json")
        assert outcome.code == 2
        assert outcome.json["error"]["exit_code"] == 2
        assert outcome.json["error"]["message"] in outcome.err


def test_wrong_words_are_one_json_object_too():
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-m", "mgc", "compile", "--json", "--\x1b[31m"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert not UNSAFE.search(done.stdout + done.stderr)


def test_no_message_is_longer_than_anyone_reads(mgc, tmp_path):
    outcome = mgc("compile", tmp_path / ("x" * 200), "--dim", "n" * 100_000, "--json")
    assert outcome.code == 2
    assert len(outcome.err) < 5000
    assert len(outcome.out) < 5000
