"""The page: head, sections, data and scripts, in one file."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources

from mgc.isa.program import Program
from mgc.report.html.data import page_data
from mgc.report.html.sections import Section, all_sections
from mgc.report.timeline import timelines

_SCRIPTS = ("common.js", "gantt.js", "floorplan.js", "page.js")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Sample:
    """A picture to put into the page: PNG bytes and what they show."""

    png: bytes
    caption: str


def draw(program: Program, title: str, *, view: str = "summary", samples: Sequence[Sample] = ()) -> str:
    """The whole page, opened at a view's section. The same program and samples give the same text."""
    entries = timelines(program)
    sections = all_sections(program, entries)
    if samples:
        sections.insert(1, _samples(samples))
    batch = program.iteration[0].batch
    links = "".join(f'<a href="#{s.id}">{escape(s.title)}</a>' for s in sections)
    body = "\n".join(f'<section id="{s.id}">\n<h2>{escape(s.title)}</h2>\n{s.body}\n</section>' for s in sections)
    scripts = "\n".join(f"<script>\n{_asset(name)}</script>" for name in _SCRIPTS)
    data = json.dumps(page_data(program, entries), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    opened = {"mapping": "chip", "memory": "memory", "instructions": "nodes"}.get(view, view)
    described = f"{program.target.get('name', 'unnamed target')}, batch {batch}, {program.mode}"
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)} on {escape(described)}</title>
<link rel="icon" href="data:,">
<style>
{_asset("report.css")}</style>
</head>
<body data-open="{escape(opened if opened != "summary" else "")}">
<header><div><h1>{escape(title)}</h1><p>{escape(described)}</p></div></header>
<nav aria-label="Sections"><div>{links}<button id="theme" type="button">Dark</button></div></nav>
<main>
{body}
</main>
<footer>Made by mgc inspect from the program alone. Times, energies and areas are the cost model's for the target that
the program names.</footer>
<div class="tip" role="tooltip" hidden></div>
<noscript><p class="note">The schedule and the floor plan are drawn by scripts, which are switched off.</p></noscript>
<script type="application/json" id="data">{data}</script>
{scripts}
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("mgc.report.html").joinpath(name).read_text(encoding="utf-8")


def _samples(samples: Sequence[Sample]) -> Section:
    pictures = "\n".join(
        f'<figure><img alt="{escape(s.caption, quote=True)}" '
        f'src="data:image/png;base64,{base64.b64encode(s.png).decode()}"><figcaption>{escape(s.caption)}</figcaption>'
        "</figure>"
        for s in samples
    )
    return Section("samples", "Samples", f'<div class="samples">{pictures}</div>')
