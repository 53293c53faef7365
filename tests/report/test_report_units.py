import pytest

from mgc.report import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1.0, "1.00 s"),
        (0.00123, "1.23 ms"),
        (99.9999e-9, "100 ns"),
        (12.34e-6, "12.3 µs"),
        (999.7e-9, "1.00 µs"),
        (-2.5e-3, "-2.50 ms"),
        (None, "-"),
        (float("inf"), "-"),
        (3e15, "3,000 Ts"),
        (4e-18, "0.00400 fs"),
    ],
)
def test_si(value, text):
    assert units.si(value, "s") == text


def test_si_without_a_unit_has_no_trailing_blank():
    assert units.si(1500, "") == "1.50 k"
    assert units.si(3, "") == "3.00"


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3,072.0 GiB")],
)
def test_size(nbytes, text):
    assert units.size(nbytes) == text


def test_ids_with_runs_joined():
    assert units.ranges([7, 0, 1, 2, 3, 3]) == "0-3, 7"
    assert units.ranges([]) == ""


def test_names_are_cut_after_the_first_few():
    assert units.names(["a", "b"]) == "a, b"
    assert units.names(["a", "b", "c", "d", "e"], 2) == "a, b (+3)"


def test_shape():
    assert units.shape([1, "N", 3]) == "1×N×3"
    assert units.shape([]) == "scalar"
