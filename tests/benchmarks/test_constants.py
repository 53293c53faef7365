"""Constants of targets are what public models of the same parts state."""

from pathlib import Path

import pytest

from benchmarks.constants import CONSTANTS, Constant, document

PAGE = Path(__file__).parents[2] / "docs" / "constants.md"


@pytest.mark.parametrize("constant", CONSTANTS, ids=lambda c: f"{c.target}.{c.key}.{c.at}")
def test_constants_follow_from_their_sources(constant):
    assert abs(constant.off) < 0.01


def test_a_constant_that_is_none_of_the_source_shows():
    wrong = Constant("liu2018", "adc.energy_pj", "somewhere", "8 bits: 2 pJ", 2.0, 8)
    assert wrong.off == pytest.approx(1.667 / 2 - 1)
    assert "| 16.6 % | somewhere |" in document([wrong])


def test_the_page_is_current():
    assert PAGE.read_text() == document(), "run `python -m benchmarks.constants > docs/constants.md`"
