"""Passes on IR text: every file of ir/ says which passes to run, on what, and what comes out of it.

    // RUN: fold,lower-linear
    // TARGET: liu2018              (the default, may be left out)
    // What the file shows.
    the module or graph
    // -----
    the module after the passes, or the error; warnings first, as comments

`pytest --refresh-golden` writes what comes out into the files: read the difference.
"""

from pathlib import Path

import pytest

from mgc.compiler import compile_tools, pass_registry
from mgc.ir.module import verify_module
from mgc.ir.text import header_of, parse_module, print_module
from mgc.passes.manager import PassManager
from mgc.passes.registry import parse_passes
from mgc.passes.state import CompileState
from mgc.targets.loader import load_target

FOLDER = Path(__file__).parent / "ir"
FILES = sorted(FOLDER.glob("*.ir"))
CUT = "// -----\n"


def outcome(name, text):
    labels = dict(line.split(": ", 1) for line in header_of(text) if line.startswith(("RUN: ", "TARGET: ")))
    try:
        passes = parse_passes(labels["RUN"], pass_registry())
        module = parse_module(text, file=name)
        verify_module(module, levels=(1, 2))
        state = CompileState(module, load_target(labels.get("TARGET", "liu2018")), compile_tools())
        state = PassManager(passes).run(state)
    except ValueError as error:
        return f"// error: {error}\n"
    warnings = "".join(f"// warning: {w}\n" for w in state.warnings)
    return warnings + print_module(state.module, elide=True)[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_passes_do_to_text_what_the_file_says(path, request):
    given, _, expected = path.read_text(encoding="utf-8").partition(CUT)
    found = outcome(path.name, given)
    if request.config.getoption("--refresh-golden"):
        path.write_text(given + CUT + found, encoding="utf-8")
    else:
        assert found == expected


def test_there_are_many():
    assert len(FILES) >= 60
