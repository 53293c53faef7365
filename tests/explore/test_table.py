"""Tables of sweeps: what stands in the file, whatever happens to it, and what a Pareto front is."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mgc.explore.plot import check_plot, draw, page
from mgc.explore.table import Journal, ResumeError, Table, assembled, columns, pareto
from mgc.passes.state import UnsupportedError

KEYS = ("rows", "adc_bits")
SLOW_DISK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
row = st.fixed_dictionaries(
    {
        "rows": st.sampled_from(["64", "128"]),
        "adc_bits": st.sampled_from(["3", "[1, 2]", 'a "word", and more']),
        "trial": st.integers(0, 3),
    },
    optional={
        "crossbars": st.integers(0, 10**6),
        "energy_j": numbers,
        "psnr_db": st.one_of(numbers, st.just(math.inf)),
        "yield": st.sampled_from([0.0, 1.0]),
        "seconds": numbers,
    },
)


@SLOW_DISK
@given(st.lists(row, max_size=6))
def test_rows_come_back_from_the_file_as_they_went(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "s.csv"
    journal = Journal(path, KEYS, "one")
    assert journal.start(resume=False) == []
    for each in rows:
        journal.add(each)
    assert Journal(path, KEYS, "one").start(resume=True) == rows


@SLOW_DISK
@given(st.lists(row, min_size=1, max_size=4), st.data())
def test_a_row_that_was_being_written_is_left_out(tmp_path_factory, rows, data):
    path = tmp_path_factory.mktemp("table") / "s.csv"
    journal = Journal(path, KEYS, "one")
    journal.start(resume=False)
    ends = [path.stat().st_size]
    for each in rows:
        journal.add(each)
        ends.append(path.stat().st_size)
    size = data.draw(st.integers(ends[0], ends[-1]))
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    assert Journal(path, KEYS, "one").start(resume=True) == rows[: sum(e <= size for e in ends) - 1]


def test_another_sweep_is_not_gone_on_with(tmp_path):
    path = tmp_path / "s.csv"
    Journal(path, KEYS, "one").start(resume=False)
    with pytest.raises(ResumeError, match="of another sweep"):
        Journal(path, KEYS, "two").start(resume=True)
    with pytest.raises(ResumeError, match="its columns differ"):
        Journal(path, ("rows",), "one").start(resume=True)
    Journal(path, KEYS, "one").finish(TABLE)
    with pytest.raises(ResumeError, match="of another sweep"):
        Journal(path, KEYS, "two").start(resume=True)
    path.with_name("s.csv.sweep").unlink()
    with pytest.raises(ResumeError, match="of another sweep"):
        Journal(path, KEYS, "one").start(resume=True)


def test_errors_are_one_line_and_tried_again(tmp_path):
    path = tmp_path / "s.csv"
    journal = Journal(path, KEYS, "one")
    journal.start(resume=False)
    journal.add({"rows": "64", "adc_bits": "3", "trial": 0, "error": "too large:\n  2 problems"})
    assert path.read_text().splitlines()[1].endswith("too large: 2 problems")
    assert Journal(path, KEYS, "one").start(resume=True) == []


def test_the_yield_is_a_points():
    rows = [{"rows": "64", "adc_bits": "3", "trial": k, "yield": float(k > 0)} for k in range(4)]
    assert [r["yield"] for r in assembled(KEYS, rows)] == [0.75] * 4


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=9), st.integers(1, 3))
def test_a_yield_that_is_a_points_stays(passes, times):
    """Rows of a whole table that is gone on with come back to the same bits."""
    rows = [{"rows": "64", "adc_bits": "3", "trial": k, "yield": value} for k, value in enumerate(passes)]
    once = assembled(KEYS, rows)
    again = once
    for _ in range(times):
        again = assembled(KEYS, again.rows)
    assert again == once


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points):
    rows = [{"x": x, "y": y} for x, y in points]
    kept = pareto(rows, ["x", "-y"])
    for (x, y), best in zip(points, kept, strict=True):
        beaten = any(a >= x and b <= y and (a, b) != (x, y) for a, b in points)
        assert best != beaten
    assert any(kept)


def test_rows_without_a_figure_are_on_no_front():
    assert pareto([{"x": None}, {}, {"x": math.nan}, {"x": 1.0}], ["x"]) == [False, False, False, True]


TABLE = assembled(
    KEYS,
    [
        {"rows": "64", "adc_bits": "3", "trial": 0, "energy_j": 1e-6, "psnr_db": 12.0, "yield": 0.0, "crossbars": 5},
        {"rows": "64", "adc_bits": "<8>", "trial": 0, "energy_j": 2e-6, "psnr_db": math.inf, "yield": 1.0},
        {"rows": "128", "adc_bits": "3", "trial": 0, "error": "does not fit </script>"},
    ],
)


def test_a_table_shows_itself():
    assert repr(TABLE) == "<sweep over rows, adc_bits: 3 rows, 1 failed>"
    assert "&lt;8&gt;" in TABLE._repr_html_()
    assert TABLE.columns == columns(KEYS)
    assert TABLE.to_csv().splitlines()[0].startswith("rows,adc_bits,trial,crossbars,area_used_mm2,area_chip_mm2,cycles")


def test_the_page_holds_all_rows_and_nothing_that_runs():
    text = page(TABLE, "a <title>")
    assert "a &lt;title&gt;" in text
    assert text.count("</script>") == 2
    assert "does not fit \\u003c/script>" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")


@pytest.mark.parametrize("suffix", ["png", "svg", "html"])
def test_pictures(tmp_path, suffix):
    path = tmp_path / f"s.{suffix}"
    check_plot(path)
    draw(TABLE, path, "a title")
    first = path.read_bytes()
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml", "html": b"<!DOCTYPE html>"}[suffix])
    draw(Table(KEYS, ()), path, "an empty one")


def test_other_pictures_are_refused_before_the_work(tmp_path):
    with pytest.raises(UnsupportedError, match=r"end its name in \.html, \.png, \.svg"):
        check_plot(tmp_path / "s.jpg")
