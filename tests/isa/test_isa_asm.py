"""Text and back to the same bytes; errors with line and column."""

import dataclasses
import random
import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from programs import random_program

from mgc.isa.asm import assemble, disassemble
from mgc.isa.error import ProgramError
from mgc.isa.program import Program


def saved(program, path) -> bytes:
    program.save(path)
    return path.read_bytes()


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_round_trip_to_the_byte(tmp_path_factory, rng):
    folder = tmp_path_factory.mktemp("asm")
    program = random_program(rng)
    good = saved(program, folder / "a.mgc")
    text = disassemble(Program.load(folder / "a.mgc"))
    again = assemble(text)
    assert saved(again, folder / "b.mgc") == good
    assert disassemble(again, str(folder / "a.mgc")) == text


@pytest.fixture(scope="module")
def program() -> Program:
    return random_program(random.Random(8))


@pytest.fixture(scope="module")
def text(program) -> str:
    return disassemble(program, "p.mgc")


def resolve(program):
    return lambda name: program.tensors


def test_names_and_texts_may_hold_anything(program, tmp_path):
    odd = 'a "b"\\c\n; é \u2028'
    changed = dataclasses.replace(
        program,
        name=odd,
        sources=((odd, ""), *program.sources[1:]),
        absorbed={odd: odd, "z": ""},
        meta={"k": [1, 2.5, None, True, odd], "e": {}},
        buffers=(dataclasses.replace(program.buffers[0], name=odd), *program.buffers[1:]),
        inputs=tuple(dataclasses.replace(p, name=odd, dims=(odd,)) for p in program.inputs),
    )
    back = assemble(disassemble(changed, odd), resolve=resolve(program))
    assert saved(back, tmp_path / "a.mgc") == saved(changed, tmp_path / "b.mgc")


def test_the_text_is_readable(program, text):
    assert text.startswith(f"; hand-made: {len(program.instructions)} instructions")
    assert re.search(r"^\d+ mvm ; node\d+$", text, re.M)
    assert re.search(r"relu\(b\d+\)\{alpha=0, beta=0\} ; r0", text)
    assert re.search(r"quant\(\w+\)\{scale=[\d.e-]+, lo=-?\d+, hi=\d+, dtype=\d+, zero=\d+\}", text)
    assert max(map(len, text.splitlines())) < 400


def test_tensor_files_are_found(program, text, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    program.save(tmp_path / "there" / "p.mgc")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProgramError, match=r"4:10: tensor file p\.mgc is not there .* put it beside"):
        assemble(text)
    assert assemble(text, tmp_path / "there").name == program.name
    assert assemble(text.replace('"p.mgc"', '"gone/p.mgc"'), tmp_path / "there").name == program.name
    assert assemble(text.replace('"p.mgc"', '"there/p.mgc"')).name == program.name
    (tmp_path / "p.mgc").write_bytes(b"nonsense")
    with pytest.raises(ProgramError, match=r"tensor file p\.mgc: it is no \.mgc program"):
        assemble(text)


def test_tensors_must_be_those_of_the_text(program, text):
    other = {k: v + np.ones((), v.dtype) if k == "const.0" else v for k, v in program.tensors.items()}
    with pytest.raises(ProgramError, match=r"10:9: tensor const\.0 has other data"):
        assemble(text, resolve=lambda name: other)
    other["const.0"] = np.zeros(7)
    with pytest.raises(ProgramError, match=r"const\.0 is float64\[7\] in the file"):
        assemble(text, resolve=lambda name: other)
    del other["const.0"]
    with pytest.raises(ProgramError, match=r"has no tensor const\.0"):
        assemble(text, resolve=lambda name: other)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"\.mgc 4", ".mgc 7", "format version 7 is not known; this mgc reads 4"),
        (r"\.name", ".nome", r"directive \.nome is unknown"),
        (r'\.name "hand-made"', ".name hand", "expected a name in quotes, found hand"),
        (r"\.target \{", ".target {{", "this is no JSON"),
        (r"\.target \{.*", ".target 3", "a JSON object is expected"),
        (r"micro_batch=1", "micro_batch=1.5", "expected micro_batch, a whole number, found 1.5"),
        (r"batched=true", "batched=yes", "expected batched, true or false, found yes"),
        (r"\.buffer 1 ", ".buffer 2 ", "buffer 1 is expected here, not 2"),
        (r"slots=1", "slot=1", "expected slots=, found slot"),
        (r"offset=0", "offset=99999999999999999999", "does not fit into 64 bits"),
        (r"adc_mode=\w+", "adc_mode=[1]", r"expected adc_mode, clip or scale, found \["),
        (r"\.stream 0", ".stream 99", "unit 99 is not there"),
        (r"(?m)^(\d+) mvm", r"\1 mvn", "instruction 'mvn' is unknown; there are program, mvm"),
        (r"relu\(", "rely(", "function 'rely' is unknown"),
        (r"relu\(b0\)", "relu(x0)", "an operand like b0"),
        (r"relu\(b0\)", "relu(b)", "an operand like b0"),
        (r"\{scale=", "{scala=", "expected attribute scale of quant, found scala"),
        (r"signed=true|signed=false", "signed=1", "true or false"),
        (r"group=", "grope=", "expected group=, found grope"),
        (r"\bdst=(\d+)", r"dst=[\1]", r"a whole number, found \["),
        (r"\.unit 0", ".unit ?", r"unexpected character '\?'"),
        (r'\.absorbed "Identity_0" "identity"', '.absorbed "Identity', "unexpected character"),
        (r"\.stream 1 ", "99 ", r"expected a mnemonic, found \d+"),
    ],
)
def test_errors_say_where(program, text, pattern, replacement, message):
    found = re.search(pattern, text)
    assert found, pattern
    broken = text[: found.start()] + re.sub(pattern, replacement, found.group(), count=1) + text[found.end() :]
    with pytest.raises(ProgramError, match=message) as error:
        assemble(broken, resolve=resolve(program))
    line, column = map(int, re.match(r"(\d+):(\d+): ", str(error.value)).groups())
    assert abs(line - line_of(text, found.start())) <= 1
    assert column >= 1


def test_what_is_missing_is_named(program, text):
    cut = text[: text.index(".clock_ns")] + text[text.index("; tensors:") :]
    with pytest.raises(ProgramError, match=r"directive \.clock_ns is missing"):
        assemble(cut, resolve=resolve(program))
    with pytest.raises(ProgramError, match="is there twice"):
        assemble(text.replace(".name", '.name "x"\n.name', 1), resolve=resolve(program))
    with pytest.raises(ProgramError, match=r"starts, .* are expected"):
        assemble(re.sub(r"starts=\[0, ", "starts=[", text, count=1), resolve=resolve(program))
    with pytest.raises(ProgramError, match="end of text"):
        assemble(text[: text.rindex("starts=") + 7], resolve=resolve(program))


def test_the_assembled_program_is_verified(program, text):
    with pytest.raises(ProgramError, match="group 77 does not exist"):
        assemble(re.sub(r"\bgroup=0", "group=77", text, count=1), resolve=resolve(program))


def test_a_program_made_in_memory_names_a_file(program):
    assert f'.tensors "{program.name}.mgc"' in disassemble(program)
