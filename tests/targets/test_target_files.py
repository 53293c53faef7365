"""The shipped target files: they load, say where each number is from, and survive textual edits."""

from __future__ import annotations

import json
import re

import pytest

from mgc import targets
from mgc.targets import (
    DEFAULT_TARGET,
    Target,
    TargetError,
    chip_area_mm2,
    load_target,
    parse_target,
    target_names,
    target_toml,
)

NINE_KEYS = (
    "rows",
    "cols",
    "cell_bits",
    "weight_bits",
    "input_bits",
    "dac_bits",
    "adc_bits",
    "adc_mode",
    "encoding",
)


def test_names_start_with_the_default():
    assert target_names() == ["liu2018", "isaac", "isaac_transposed", "prime", "pipelayer", "puma"]
    assert DEFAULT_TARGET == "liu2018"


@pytest.mark.parametrize("name", target_names())
def test_each_file_loads_under_its_name(name: str):
    target = load_target(name)
    assert target.name == name
    assert target.title
    assert target.description


@pytest.mark.parametrize("name", target_names())
def test_json_round_trip_is_exact_and_canonical(name: str):
    target = load_target(name)
    text = json.dumps(target.to_json_dict())
    again = Target.from_json_dict(json.loads(text))
    assert again == target
    assert hash(again) == hash(target)
    assert json.dumps(again.to_json_dict()) == text
    assert json.dumps(load_target(name).to_json_dict()) == text


@pytest.mark.parametrize("name", target_names())
@pytest.mark.parametrize("key", NINE_KEYS)
def test_each_crossbar_key_is_written_once_so_that_scripts_can_replace_it(name: str, key: str):
    text = target_toml(name)
    assert len(re.findall(rf"{key}\s*=", text)) == 1
    assert re.search(rf"(?m)^{key} = \S+", text)


@pytest.mark.parametrize("name", target_names())
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("adc_bits", "4", 4),
        ("adc_bits", "12", 12),
        ("cell_bits", "1", 1),
        ("cell_bits", "8", 8),
        ("dac_bits", "2", 2),
        ("weight_bits", "4", 4),
        ("input_bits", "16", 16),
        ("rows", "32", 32),
        ("cols", "4096", 4096),
        ("adc_mode", '"scale"', "scale"),
        ("encoding", '"offset"', "offset"),
    ],
)
def test_a_printed_file_is_accepted_back_with_a_key_replaced(name: str, key: str, value: str, expected: object):
    text = re.sub(rf"(?m)^{key} = \S+", f"{key} = {value}", target_toml(name))
    assert getattr(parse_target(text).crossbar, key) == expected


@pytest.mark.parametrize("name", target_names())
def test_every_number_has_a_source(name: str):
    """A number's own comment says where it is from, else the comment lines above, else its table's header line."""
    text = target_toml(name)
    verified_by_default = "[V] unless said otherwise" in re.sub(r"\n# ", " ", text)
    header = above = ""
    for number, line in enumerate(text.splitlines(), start=1):
        own = line.partition("#")[2]
        if line.startswith("["):
            header, above = own, ""
        elif line.startswith("#"):
            above += own
        elif re.match(r"(?!resolutions)\w+ = [\[\d]", line):
            said = own or above or header
            marked = re.search(r"\[[VDM]\]|assumed|left out|same", said)
            assert marked or (verified_by_default and own), f"{name}.toml:{number}: {line}"


@pytest.mark.parametrize("name", target_names())
def test_files_are_plain_and_narrow(name: str):
    text = target_toml(name)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 120


def test_isaac_differs_from_the_default_only_where_it_says():
    default, isaac = load_target("liu2018").to_json_dict(), load_target("isaac").to_json_dict()
    differing = {key for key in default if default[key] != isaac[key]}
    assert differing == {"name", "title", "description", "crossbar", "training"}


def test_the_variant_of_isaac_reads_both_ways_and_pays_for_it_in_area():
    isaac, both = load_target("isaac"), load_target("isaac_transposed")
    data, other = isaac.to_json_dict(), both.to_json_dict()
    assert {key for key in data if data[key] != other[key]} == {"name", "title", "description", "training"}
    assert {k for k, v in data["training"].items() if v != other["training"][k]} == {"transposed_read"}
    before, after = chip_area_mm2(isaac), chip_area_mm2(both)
    assert after["dac"] == 2 * before["dac"]
    held = isaac.crossbars * isaac.crossbar.rows * isaac.periphery.sample_hold_area_um2 * 1e-6
    assert after["adc"] - before["adc"] == pytest.approx(held)
    assert 0.4 < sum(after.values()) - sum(before.values()) < 0.5


def test_public_names_exist():
    for name in targets.__all__:
        assert hasattr(targets, name)


@pytest.mark.parametrize(
    ("name", "crossbars", "slices", "signs", "unsigned", "signed", "full_scale"),
    [
        ("liu2018", 16_128, 4, 2, 8, 8, 384),
        ("isaac", 16_128, 8, 1, 16, 16, 384),
        ("prime", 16_384, 2, 2, 2, 3, 26_880),
        ("pipelayer", 16_128, 4, 2, 16, 16, 1_920),
        ("puma", 21_504, 8, 1, 16, 16, 384),
    ],
)
def test_derived_numbers(
    name: str, crossbars: int, slices: int, signs: int, unsigned: int, signed: int, full_scale: int
):
    target = load_target(name)
    assert target.crossbars == crossbars
    assert target.crossbar.slices() == slices
    assert target.crossbar.signs == signs
    assert target.crossbar.digits(signed=False) == unsigned
    assert target.crossbar.digits(signed=True) == signed
    assert target.crossbar.full_scale == full_scale


def test_training_width_takes_its_own_slices():
    target = load_target("liu2018")
    assert target.training.master_bits == 16
    assert target.crossbar.slices(target.training.master_bits) == 8


def test_pipelayer_counters_never_clip():
    crossbar = load_target("pipelayer").crossbar
    assert crossbar.full_scale <= crossbar.max_code


def test_one_bit_inputs_cannot_be_signed():
    target = parse_target('base = "liu2018"\n[crossbar]\ninput_bits = 1\n')
    assert target.crossbar.digits(signed=False) == 1
    with pytest.raises(ValueError, match="one bit is the sign"):
        target.crossbar.digits(signed=True)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(TargetError, match=r"no such target; did you mean isaac\?\nTargets that come with mgc: liu2018"):
        load_target("Isac")
