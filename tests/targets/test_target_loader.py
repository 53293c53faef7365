"""Users' files: inheritance, and every problem of a bad file in one message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.targets import Target, TargetError, load_target, parse_target, target_toml


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(TargetError) as caught:
        parse_target(text)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems


def test_base_keeps_what_the_file_does_not_give(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "liu2018"\n[crossbar]\nadc_bits = 4\n[vector.energy_pj]\ntable = 1\n')
    mine, base = load_target(path), load_target("liu2018")
    assert mine.crossbar.adc_bits == 4
    assert mine.vector.energy_pj.table == 1.0
    assert mine.name == "mine"
    crossbar = base.crossbar.model_copy(update={"adc_bits": 4})
    energy = base.vector.energy_pj.model_copy(update={"table": 1.0})
    vector = base.vector.model_copy(update={"energy_pj": energy})
    assert mine == base.model_copy(update={"name": "mine", "crossbar": crossbar, "vector": vector})
    assert load_target(str(path)) == mine


def test_base_may_itself_have_a_base():
    assert parse_target('base = "puma"\nname = "x"').cell == load_target("puma").cell


def test_a_complete_file_needs_no_base(tmp_path: Path):
    path = tmp_path / "copy.toml"
    path.write_text(target_toml("liu2018").replace("adc_bits = 8", "adc_bits = 4"))
    assert load_target(path).crossbar.adc_bits == 4
    assert load_target(path).name == "liu2018"


def test_all_errors_at_once():
    problems = problems_of(
        """
        base = "liu2018"
        adc_bits = 4
        [crossbar]
        rows = 0
        cols = true
        cell_bit = 3
        input_bits = 2
        dac_bits = 4
        adc_mode = "round"
        [structure]
        chips = 1.0
        [cell]
        read_ns = nan
        row_write_ns = -1
        [adc]
        resolutions = [8, 9]
        [vector]
        op_ns = 3
        """
    )
    expected = [
        "crossbar.rows (line 5): must be greater than or equal to 1, not 0",
        "crossbar.cols (line 6): must be a valid integer, not True",
        "crossbar.cell_bit (line 7): unknown key; did you mean cell_bits?",
        "crossbar.dac_bits (line 9): must not exceed input_bits (2), not 4",
        "crossbar.adc_mode (line 10): must be 'clip' or 'scale', not 'round'",
        "structure.chips (line 12): must be a valid integer, not 1.0",
        "cell.read_ns (line 14): must be a finite number, not nan",
        "cell.row_write_ns (line 15): must be greater than 0, not -1",
        "adc.sample_ns (line 16): must have one value for each of the 2 resolutions, not 7",
        "adc.energy_pj (line 16): must have one value for each of the 2 resolutions, not 7",
        "adc.area_um2 (line 16): must have one value for each of the 2 resolutions, not 7",
        "vector.op_ns (line 19): must be a table, not 3",
        "adc_bits (line 3): unknown key; it belongs in [crossbar]",
    ]
    assert len(problems) == len(expected)
    for start in expected:
        assert any(problem.startswith(start) for problem in problems), start


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rows", "0"),
        ("rows", "4097"),
        ("cols", "0"),
        ("cols", "4097"),
        ("cell_bits", "0"),
        ("cell_bits", "9"),
        ("weight_bits", "1"),
        ("weight_bits", "17"),
        ("input_bits", "0"),
        ("input_bits", "17"),
        ("register_bits", "7"),
        ("register_bits", "17"),
        ("dac_bits", "0"),
        ("dac_bits", "9"),
        ("adc_bits", "0"),
        ("adc_bits", "17"),
        ("adc_bits", '"8"'),
        ("adc_bits", "8.0"),
        ("adc_mode", '"Clip"'),
        ("encoding", '"unary"'),
        ("rows", str(10**30)),
    ],
)
def test_each_crossbar_key_is_checked(key: str, value: str):
    problems = problems_of(f'base = "liu2018"\n[crossbar]\n{key} = {value}\n')
    assert any(problem.startswith(f"crossbar.{key} (line 3): must ") for problem in problems)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[structure]\nchips = 0", "structure.chips (line 3)"),
        ("clock_ns = 0.0", "clock_ns (line 2)"),
        ("clock_ns = inf", "clock_ns (line 2)"),
        ("[adc]\nsample_ns = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]", "adc.sample_ns[3] (line 3)"),
        ("[adc]\nresolutions = []", "adc.resolutions (line 3): must not be empty"),
        ("[dac]\nresolutions = [2, 1]\nenergy_pj = [1, 1]\narea_um2 = [1, 1]", "dac.resolutions (line 3)"),
        ("[vector.op_ns]\ntable = 0", "vector.op_ns (line 2): must be greater than 0: table"),
        ("[training]\ntransposed_read = 1", "training.transposed_read (line 3)"),
        ("[edram]\nbytes_per_ns = 0", "edram.bytes_per_ns (line 3)"),
        ('description = ""', "description (line 2)"),
        ("[device]\noff_us = 500.0", "device.off_us (line 3): must be below on_us (500.0), not 500.0"),
        ("[device]\nwrite_sigma = [0.01, -0.02]", "device.write_sigma (line 3): must not be negative"),
        ("[device]\nwrite_sigma = []", "device.write_sigma (line 3): must not be empty"),
        ("[device]\nwrite_sigma = 0.01", "device.write_sigma (line 3)"),
        ("[device]\nstuck_on = 0.6\nstuck_off = 0.6", "device.stuck_off (line 4): with stuck_on (0.6)"),
        ("[device]\nstuck_on = 1.5", "device.stuck_on (line 3)"),
        ("[device]\nread_noise_levels = nan", "device.read_noise_levels (line 3)"),
        ("[device]\ndrift_s = 0.5", "device.drift_s (line 3)"),
        ('[device]\nupdate = "pulse"', "device.update (line 3)"),
        ("[device]\npulse_levels = 0", "device.pulse_levels (line 3)"),
        ("[device]\npulse_asymmetry = 1.0", "device.pulse_asymmetry (line 3)"),
        ("[device]\npulse_noize = 1.0", "device.pulse_noize (line 3)"),
    ],
)
def test_other_tables_are_checked(text: str, start: str):
    assert any(problem.startswith(start) for problem in problems_of(f'base = "liu2018"\n{text}\n'))


def test_a_wrong_base_does_not_hide_other_errors():
    problems = problems_of('base = "liu2019"\n[crossbar]\nrows = 0\n')
    assert problems[0].startswith("base: no target named 'liu2019'; did you mean liu2018?")
    assert problems[1].startswith("crossbar.rows (line 3)")


@pytest.mark.parametrize("base", ['"./other.toml"', "3", "[1]", "{}"])
def test_a_base_is_a_shipped_name(base: str):
    assert problems_of(f"base = {base}\n")[0].startswith("base: no target named")


def test_missing_keys_are_listed_with_their_meaning_and_the_way_out():
    with pytest.raises(TargetError) as caught:
        parse_target('name = "x"\n[crossbar]\nrows = 128\n')
    assert "crossbar.cols (line 2): missing: bit lines of one crossbar" in caught.value.problems
    assert "structure: missing: how many of what" in caught.value.problems
    assert 'add base = "liu2018"' in caught.value.advice


def test_syntax_error_names_the_place(tmp_path: Path):
    path = tmp_path / "bad.toml"
    path.write_text("name = \n")
    with pytest.raises(TargetError, match=r"bad\.toml: not valid TOML: Invalid value \(at line 1, column 8\)"):
        load_target(path)


@pytest.mark.parametrize("text", ["x = " + "[" * 5000, "x = " + "9" * 5000, "a = 1\na = 2", "\0"])
def test_hostile_text_is_a_target_error(text: str):
    assert len(problems_of(text)) == 1


def test_unreadable_files(tmp_path: Path):
    with pytest.raises(TargetError, match="cannot read the file: No such file or directory"):
        load_target(tmp_path / "none.toml")
    with pytest.raises(TargetError, match="directory"):
        load_target(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\x80\x81")
    with pytest.raises(TargetError, match="byte 0 is not UTF-8"):
        load_target(binary)


def test_windows_text_is_read(tmp_path: Path):
    path = tmp_path / "dos.toml"
    path.write_bytes(b'\xef\xbb\xbfbase = "isaac"\r\nname = "dos"\r\n')
    assert load_target(path).name == "dos"


def test_names_and_paths_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("isaac").write_text('base = "puma"\nname = "other"')
    Path("mine.toml").write_text('base = "puma"')
    assert load_target("isaac").name == "isaac"
    assert load_target(Path("isaac")).name == "other"
    assert load_target("./isaac").name == "other"
    assert load_target("mine.toml").name == "mine"
    with pytest.raises(TargetError, match=r"must end in \.toml"):
        load_target("mine")


def test_damaged_manifest_lists_all():
    data = load_target("liu2018").to_json_dict()
    data["crossbar"]["rows"] = "128"
    del data["cell"]
    data["extra"] = None
    with pytest.raises(TargetError) as caught:
        Target.from_json_dict(data)
    assert len(caught.value.problems) == 3
    with pytest.raises(TargetError):
        Target.from_json_dict(None)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "rows": st.integers(1, 4096),
            "cols": st.integers(1, 4096),
            "cell_bits": st.integers(1, 8),
            "weight_bits": st.integers(2, 16),
            "adc_bits": st.integers(1, 16),
            "adc_mode": st.sampled_from(["clip", "scale"]),
            "encoding": st.sampled_from(["differential", "offset"]),
            "register_bits": st.sampled_from([0, 16]),
        },
    ),
    st.integers(1, 16).flatmap(lambda bits: st.tuples(st.just(bits), st.integers(1, min(bits, 8)))),
)
def test_any_values_in_range_are_taken(keys: dict[str, object], bits: tuple[int, int]):
    keys = {**keys, "input_bits": bits[0], "dac_bits": bits[1]}
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
    target = parse_target(f'base = "liu2018"\n[crossbar]\n{lines}\n')
    assert {key: getattr(target.crossbar, key) for key in keys} == keys
    assert Target.from_json_dict(json.loads(json.dumps(target.to_json_dict()))) == target


def test_description_is_the_same_in_every_process():
    code = (
        "import json; from targets import load_target, target_names; "
        "print(json.dumps([load_target(name).to_json_dict() for name in target_names()]))"
    )
    root = str(Path(__file__).parents[2])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(outputs) == 1


def test_import_is_light():
    """A command that only reads a target must not wait for the large packages."""
    code = (
        "import sys, targets; targets.load_target('liu2018'); "
        "print({'numpy', 'onnx', 'onnxruntime', 'ortools', 'networkx'} & set(sys.modules))"
    )
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        check=True,
        text=True,
    )
    assert run.stdout.strip() == "set()"
