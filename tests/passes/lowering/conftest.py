"""Makes tests/checker.py and what tests of training share importable from here."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1]), str(HERE.parent / "training")]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one program run in one process, one after the other: it is compiled once (see `compiled`)."""
    for item in items:
        if isinstance(item, pytest.Function) and HERE in item.path.parents:
            case = getattr(item, "callspec", None) and item.callspec.params.get("case")
            shared = {"critic", "dcgan", "gan"} & set(item.fixturenames)
            if case or shared:
                item.add_marker(pytest.mark.xdist_group(" ".join(map(str, case[:4])) if case else " ".join(shared)))
