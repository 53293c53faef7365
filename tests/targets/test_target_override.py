"""Targets with some keys changed: what is read, what is refused, and that nothing else moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.targets import Target, TargetError, load_target, target_names

LIU = load_target("liu2018")


def test_keys_by_their_name_or_with_their_table():
    changed = LIU.replace({"crossbar.adc_bits": 6, "training.copies": "fast"}, rows="64")
    assert (changed.crossbar.adc_bits, changed.crossbar.rows, changed.training.copies) == (6, 64, "fast")
    assert changed.name == "liu2018 crossbar.adc_bits=6, training.copies=fast, rows=64"
    assert LIU.replace() is LIU


@given(
    st.sampled_from(target_names()),
    st.integers(3, 8),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([64, 128, 256]),
    st.booleans(),
)
def test_only_what_is_asked_for_changes(name, adc_bits, cell_bits, rows, as_text):
    target = load_target(name)
    keys = {"adc_bits": adc_bits, "cell_bits": cell_bits, "rows": rows}
    changed = target.replace({k: str(v) if as_text else v for k, v in keys.items()})
    before, after = target.to_json_dict(), changed.to_json_dict()
    assert after["crossbar"] == {**before["crossbar"], **keys}
    assert {k: v for k, v in after.items() if k not in ("crossbar", "name")} == {
        k: v for k, v in before.items() if k not in ("crossbar", "name")
    }
    assert Target.from_json_dict(after) == changed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adc_bit": 6}, "adc_bit: no such key; did you mean adc_bits?"),
        ({"adc_bits": 99}, "crossbar.adc_bits: must be less than or equal to 16, not 99"),
        ({"adc_bits": "six"}, "crossbar.adc_bits: must be a valid integer, not 'six'"),
        ({"bytes_per_ns": 1.0}, "several tables have this key: write "),
        ({"adc_bits": 99, "rows": 0}, "2 problems"),
        ({"crossbar": 3}, "crossbar: no such key"),
    ],
)
def test_what_is_refused(changes, words):
    with pytest.raises(TargetError) as caught:
        LIU.replace(changes)
    assert words in str(caught.value)
    assert "`mgc targets liu2018` prints the keys" in str(caught.value)
