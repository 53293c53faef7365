from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mgc.report.text import Heading, folded, pairs, section, stack, table, to_text


def test_numbers_stand_right_and_names_left():
    shown = to_text(table(["name", ">n"], [("a", "1"), ("bcd", "1,000")]))
    assert shown == "name      n\na         1\nbcd   1,000\n"


def test_headings_span_the_columns():
    shown = to_text(table(["a", "b"], [Heading("all of these"), ("1", "2")]))
    assert shown == "a  b\nall of these\n1  2\n"


def test_only_columns_that_may_fold_are_narrowed():
    columns = ["fixed", "~name", ">n"]
    shown = to_text(table(columns, [("abcdef", "layers/one/two/three/four", "12")]), width=30)
    assert shown == ("fixed   name                 n\nabcdef  layers/one/two/     12\n        three/four\n")


def test_pairs_and_sections():
    shown = to_text(stack(pairs([("a", "1"), ("long name", "2")]), section("Title", pairs([("b", "3")]))))
    assert shown == "a          1\nlong name  2\n\nTitle\n  b  3\n"


def test_folding_prefers_blanks_then_separators():
    assert folded("one two three", 9) == ["one two", "three"]
    assert folded("0.123456 rest", 9) == ["0.123456", "rest"]
    assert folded("aaa/bbb/ccc", 8) == ["aaa/bbb/", "ccc"]
    assert folded("aaaaaaaaaa", 4) == ["aaaa", "aaaa", "aa"]
    assert folded("  aaaa/bbbb", 8) == ["  aaaa/", "  bbbb"]
    assert folded("", 4) == [""]


@given(st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp", "Mn", "Cf", "Me"])), st.integers(4, 40))
def test_folded_lines_fit_and_lose_nothing_but_blanks(text, width):
    lines = folded(text.strip(" "), width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


@given(st.integers(20, 100), st.lists(st.tuples(st.text("abc/._", max_size=60), st.text("xyz ", max_size=60))))
def test_tables_fit_whatever_the_width(width, rows):
    shown = to_text(table(["~a", "~b"], rows), width=width)
    assert max(map(len, shown.splitlines())) <= width
