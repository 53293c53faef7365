"""Shared by all tests: golden files, refreshed with `pytest --refresh-golden`; lines that a run reports at its end."""

import os
from collections.abc import Callable

import pytest

# One thread of BLAS a process, said before NumPy is loaded: the workers share the cores, and threads that wait for each
# other there take more time than they save.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refresh-golden", action="store_true", help="write golden files instead of comparing with them")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """pytest-xdist 3.8 tells its scheduler the groups (`xdist_group`) by the ids of tests, and writes them where pytest
    before 9.2 kept these: told again, where they are now. Without it tests of a group run wherever there is room.
    """
    for item in items:
        grouped = getattr(item, "_nodeid", item.nodeid)
        if grouped != item.nodeid:
            item._id = item.id.parse(grouped)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` compares text with the file golden/NAME beside the test, or writes it when refreshing."""

    def check(name: str, text: str) -> None:
        path = request.path.parent / "golden" / name
        if request.config.getoption("--refresh-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.is_file(), f"no golden file {path.name}: run pytest --refresh-golden and read what it writes"
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """`tell(line)` shows a line at the end of the run, whichever process the test ran in."""
    return lambda line: record_property("tell", line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    lines = [value for report in reports for key, value in report.user_properties if key == "tell"]
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(str(line))
