"""What a sweep goes over: how values are written, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.explore.space import SpaceError, as_axes, parse_axes, points


@given(st.integers(-50, 50), st.integers(0, 30))
def test_a_range_holds_both_ends(first, more):
    axes = parse_axes([f"adc_bits={first}..{first + more}"])
    assert axes == as_axes({"adc_bits": range(first, first + more + 1)})
    assert len(points(axes)) == more + 1


def test_values_ranges_and_arrays_mix():
    axes = parse_axes(["rows=64,128", "adc_bits=3,5..6", "device.cell=[0.1, 0.2],[0.3]", "training.copies=fast"])
    assert axes["adc_bits"] == ("3", "5", "6")
    assert axes["device.cell"] == ("[0.1, 0.2]", "[0.3]")
    found = points(axes)
    assert len(found) == 12
    assert found[:2] == [
        {"rows": "64", "adc_bits": "3", "device.cell": "[0.1, 0.2]", "training.copies": "fast"},
        {"rows": "64", "adc_bits": "3", "device.cell": "[0.3]", "training.copies": "fast"},
    ]


def test_python_values_are_written_as_toml_has_them():
    assert as_axes({"a": [True, 1.5, [1, 2]], "b": "fast", "c": 3}) == {
        "a": ("true", "1.5", "[1, 2]"),
        "b": ("fast",),
        "c": ("3",),
    }


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["rows"], "--over rows: write KEY=V,V,..."),
        (["rows="], "--over rows=: write KEY=V,V,..."),
        (["=3"], "--over =3: write KEY=V,V,..."),
        (["rows=64,,128"], "a value is missing between commas"),
        (["rows=8..3"], "8..3 is no range from a smaller to a larger number"),
        (["rows=1..999999"], "of 10,000 at most"),
        (["rows=64", "rows=128"], "--over rows is given twice"),
        (["rows=64,64"], "rows has the value 64 twice"),
    ],
)
def test_what_is_refused(texts, words):
    with pytest.raises(SpaceError) as caught:
        parse_axes(texts)
    assert words in str(caught.value)
