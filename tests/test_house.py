"""The house's own rules: which folder may import which, and what a public repository must not contain."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]

# folder -> what of ours it may import (itself always)
MAY_IMPORT = {
    "mgc/functions": set(),
    "mgc/ir": {"mgc.functions", "mgc.lexer"},
    "mgc/isa": {"mgc.functions", "mgc.lexer"},
    "mgc/frontend": {"mgc.functions", "mgc.ir"},
    "mgc/sim": {"mgc.functions", "mgc.isa"},
    "mgc/report": {"mgc.functions.printable", "mgc.isa"},
    "mgc/training": {"mgc.functions", "mgc.images", "mgc.isa", "mgc.sim", "mgc.report"},
    "mgc/evaluation": {
        "mgc.comparison",
        "mgc.frontend.load",
        "mgc.functions",
        "mgc.images",
        "mgc.isa",
        "mgc.sim",
        "mgc.report.png",
        "mgc.training",
    },
    "passes": {"mgc.functions", "mgc.ir", "mgc.targets"},
    "targets": {"mgc.functions.regular_files"},
    "targets/codegen": {"mgc.functions", "mgc.ir", "mgc.isa", "mgc.passes", "mgc.targets"},
}


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(f"{node.module}.{a.name}" for a in node.names)
    assert not {m for m in found if m.split(".")[0] in ("passes", "targets")}, f"{path}: mgc has one import name"
    return {m for m in found if m.split(".")[0] == "mgc"}


def folder_of(path: Path) -> str | None:
    relative = path.relative_to(ROOT).as_posix()
    owners = [f for f in MAY_IMPORT if relative.startswith(f + "/")]
    return max(owners, key=len) if owners else None


SOURCES = sorted(p for top in ("mgc", "passes", "targets") for p in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_data_goes_one_way(path):
    folder = folder_of(path)
    if folder is None:  # mgc/compiler.py, mgc/cli*: they string it together
        return
    own = "mgc." + folder.replace("/", ".").removeprefix("mgc.")
    allowed = MAY_IMPORT[folder] | {own}
    for module in imports(path):
        inside = any(module == a or module.startswith(a + ".") for a in allowed)
        assert inside, f"{path.relative_to(ROOT)} imports {module}; {folder} may import {sorted(allowed)}"
        if folder == "targets":
            assert not module.startswith("mgc.targets.codegen"), f"{path}: the description must not know its codegen"


def test_no_file_grows_past_one_purpose():
    for path in SOURCES:
        lines = len(path.read_text().splitlines())
        assert lines <= 700, f"{path.relative_to(ROOT)} has {lines} lines: split it by purpose"


def test_nothing_private_is_tracked():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    pattern = re.compile(rb"https?://[^\s\"')]*(pypi|pythonhosted|registry\.npm|deb\.debian)|/(home|root|work)/[a-z]")
    for name in filter(None, tracked.decode().split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in (".onnx", ".png", ".npz"):
            continue
        found = pattern.search(path.read_bytes())
        assert found is None or name == "tests/test_house.py", f"{name} contains {found.group()!r}"


def test_a_users_own_modules_do_not_stand_in_the_way(tmp_path):
    for name in ("passes", "targets", "models", "tests"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module was imported')")
    model = ROOT / "models" / "dcgan_fashion" / "dcgan_fashion_D.onnx"
    code = f"import mgc; print(mgc.compile({str(model)!r}, calibrate='minmax').name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "mgc" else ("mgc", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other_in_a_circle():
    """Imports for types and inside functions counted."""
    paths = {module_of(p): p for p in SOURCES}
    graph = nx.DiGraph()
    for module, path in paths.items():
        for name in imports(path):
            while name and name not in paths:
                name = name.rpartition(".")[0]
            if name and name != module:
                graph.add_edge(module, name)
    circles = [sorted(c) for c in nx.strongly_connected_components(graph) if len(c) > 1]
    assert circles == []


@pytest.mark.xdist_group("a group")
def test_groups_of_tests_reach_the_scheduler(request):
    """They stand in the ids of tests, where the scheduler looks for them."""
    grouped = request.config.getoption("loadgroup", default=False)
    assert request.node.nodeid.endswith("@a group") or not grouped
