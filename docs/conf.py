"""The documentation site: the texts of docs/, references that are made from the code, notebooks that are run.

make site      (sphinx-build -W docs site)
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent

project = "mgc"
author = "the mgc authors"
release = import_module("mgc.version").VERSION
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["images", "conf.py"]
root_doc = "index"
html_theme = "furo"
html_title = f"mgc {release}"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
smartquotes = False
highlight_language = "none"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
autodoc_typehints = "none"
autodoc_member_order = "bysource"
# notebooks are run each time; what fails in one fails the site
nb_execution_mode = "force"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

COPIES = {
    "README.md": "index",
    "CHANGELOG.md": "reference/changes",
    "CONTRIBUTING.md": "reference/contributing",
    "SECURITY.md": "reference/security",
    "benchmarks/README.md": "reference/benchmarks",
    "models/README.md": "reference/models",
}
"""Texts of the repository that are pages of the site."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#|<)([^)\s#]+)(#[^)\s]*)?\)")


def adapted(text: str, source: str, page: str) -> str:
    """A text with links that lead from its page to others; what is no page is named, not linked."""

    def link(match: re.Match[str]) -> str:
        image, words, target, anchor = match[1], match[2], match[3], match[4] or ""
        path = os.path.normpath(Path(source).parent / target)
        found = COPIES.get(path)
        suffix = Path(path).suffix
        if found is None and path.startswith("docs/") and suffix in (".md", ".ipynb"):
            found = path.removeprefix("docs/").removesuffix(suffix)
        folder = Path(page).parent
        if found is not None:
            return f"{image}[{words}]({os.path.relpath(found, folder)}{suffix}{anchor})"
        if image or path.endswith((".svg", ".png")):
            return f"{image}[{words}]({os.path.relpath(ROOT / path, HERE / folder)})"
        return words if words.startswith("`") else f"`{words.strip('`')}`"

    return _LINK.sub(link, text)


def _commands() -> str:
    from typer.main import get_command

    from mgc.cli.app import app

    parts = ["# Commands", "All take `-h`; messages go to stderr, results to stdout."]
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        context: Any = __import__("click").Context(command, info_name=f"mgc {name}")
        command.get_help(context)  # texts with names that are looked up only now
        parts += [f"## `mgc {name}`", command.help or "", f"```text\n{command.get_usage(context)}\n```"]
        rows = [record for p in command.get_params(context) if (record := p.get_help_record(context))]
        parts.append(_table(("option", ""), [(f"`{a.replace('|', chr(92) + '|')}`", _cell(b)) for a, b in rows]))
    return "\n\n".join(parts)


def _keys() -> str:
    from pydantic import BaseModel

    from mgc.targets.description import Target

    parts = [
        "# Keys of a target",
        "A TOML file with these keys is a chip for `--target`; `mgc targets NAME` prints what ships, with sources.",
        "`--set KEY=VALUE` changes one, `mgc sweep --over KEY=V,V,..` goes over several; a key that two tables have is "
        "given with its table.",
    ]

    def rows(model: type[BaseModel]) -> list[tuple[str, str, str]]:
        found = []
        for name, field in model.model_fields.items():
            bounds = ", ".join(filter(None, map(_bound, field.metadata)))
            kind = getattr(field.annotation, "__name__", str(field.annotation)).replace("typing.", "")
            found.append((f"`{name}`", _cell(f"{kind} {bounds}".strip()), _cell(field.description or "")))
        return found

    top = []
    for name, field in Target.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            words = _cell(" ".join((inner.__doc__ or "").split("\n\n")[0].split()))
            parts += [f"## `[{name}]`", words, _table(("key", "type and bounds", "meaning"), rows(inner))]
        else:
            top.append(name)
    first = [row for row in rows(Target) if row[0].strip("`") in top]
    parts.insert(3, _table(("key", "type and bounds", "meaning"), first))
    return "\n\n".join(parts)


def _bound(constraint: Any) -> str:
    signs = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    found = {words: getattr(constraint, name) for name, words in signs.items() if hasattr(constraint, name)}
    return ", ".join(f"{words} {limit:g}" for words, limit in found.items())


def _ops() -> str:
    from mgc.cli.commands.ops import all_ops
    from mgc.cli.op_support import PLACES
    from mgc.cli.op_table import ONNX_VERSION

    rows = [(f"`{r.domain}.{r.op}`" if r.domain else f"`{r.op}`", ", ".join(r.runs_on), _cell("; ".join(r.host_when)))
            for r in all_ops()]  # fmt: skip
    places = _table(("place", ""), [(k, _cell(v)) for k, v in PLACES.items()])
    return "\n\n".join([f"# Ops of ONNX {ONNX_VERSION}", places, _table(("op", "runs on", "on the host where"), rows)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("$", "\\$")


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write_references(app: Any) -> None:
    folder = HERE / "reference"
    folder.mkdir(exist_ok=True)
    pages = {"commands": _commands, "targets": _keys, "ops": _ops}
    texts = {folder / f"{name}.md": make() for name, make in pages.items()}
    for source, page in COPIES.items():
        if page != "index":
            texts[HERE / f"{page}.md"] = adapted((ROOT / source).read_text(encoding="utf-8"), source, page)
    for path, text in texts.items():
        path.write_text(text + "\n", encoding="utf-8")


def _adapt(app: Any, docname: str, source: list[str]) -> None:
    if docname == "index":
        readme = adapted((ROOT / "README.md").read_text(encoding="utf-8"), "README.md", docname)
        source[0] = f"{readme}\n{source[0]}"
    elif not docname.startswith(("reference/", "notebooks/")):
        source[0] = adapted(source[0], f"docs/{docname}.md", docname)


def _plain(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: what is marked in them is code."""
    first = next((k for k, line in enumerate(lines) if line.endswith("The options:")), len(lines))
    lines[first + 1 :] = [re.sub(r"^(\w+): ", r"* `\1`: ", line) for line in lines[first + 1 :]]
    lines[:] = [re.sub(r"([|]|(?<!^)[*])", r"\\\1", re.sub(r"`([^`]+)`", r"``\1``", line)) for line in lines]


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _plain)
    app.connect("builder-inited", _write_references)
    app.connect("source-read", _adapt)
