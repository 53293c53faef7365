"""docs/extending.md is true: the places that it lists are there, are few, and are all that name the sample."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
MOST = {
    "A function of one operand": 2,
    "A loss": 2,
    "An instruction": 9,
    "A device error": 3,
    "A key of a target": 2,
    "An output format": 2,
}
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
PLACE = re.compile(r"^- `([\w/.]+)`(?: \(`(\w+)`\))?:", re.M)
SOURCES = [p for top in ("mgc", "passes", "targets") for p in (ROOT / top).rglob("*.py")]


def names(path: Path, word: str) -> bool:
    """Whether a source names a word; "Diff-block" is no Diff."""
    return re.search(rf"\b{word}\b(?!-)", path.read_text(encoding="utf-8")) is not None


def test_every_extension_is_described():
    assert list(SECTIONS) == list(MOST)


@pytest.mark.parametrize("title", MOST)
def test_the_places_are_few_and_name_the_sample(title):
    text = SECTIONS[title]
    sample = re.search(r"Sample: `(\w+)`", text)
    assert sample is not None
    assert f"At most {MOST[title]} places" in text
    places = PLACE.findall(text)
    assert 1 <= len(places) <= MOST[title]
    for file, word in places:
        assert names(ROOT / file, word or sample[1]), f"{file} does not name {word or sample[1]}"


@pytest.mark.parametrize("title", MOST)
def test_no_other_source_names_the_sample(title):
    text = SECTIONS[title]
    (sample,) = re.findall(r"Sample: `(\w+)`", text)
    found = {p.relative_to(ROOT).as_posix() for p in SOURCES if names(p, sample)}
    known = set(re.findall(r"`([\w/]+\.py)`", text))
    assert found <= known, f"{sorted(found - known)}: docs/extending.md does not list them"
