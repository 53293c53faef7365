"""The sections of the page that are plain HTML, and the frames of those that scripts draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from mgc.isa.program import Program
from mgc.report import wear
from mgc.report.html import training
from mgc.report.html.data import floor_plan
from mgc.report.html.markup import bar, figures, filter_for, node_button, note, table
from mgc.report.timeline import KIND_NAMES, Timeline
from mgc.report.units import count, percent, ranges, shape, si, size
from mgc.report.views import cost, layers, mapping, memory, summary
from mgc.report.views.schedule import plan_line

_FINE_DB = 60.0


@dataclass(frozen=True)
class Section:
    """A titled part of the page; `id` is what links name."""

    id: str
    title: str
    body: str


def all_sections(program: Program, entries: Sequence[Timeline]) -> list[Section]:
    """Those that have something to show, in the order of the page."""
    makers: list[tuple[str, str, Callable[[], str]]] = [
        ("summary", "Summary", lambda: _summary(program)),
        ("schedule", "Schedule", lambda: _schedule(entries)),
        ("training", "Training", lambda: training.body(program, entries)),
        ("chip", "Chip", lambda: _chip(program)),
        ("cost", "Cost", lambda: _cost(program, entries)),
        ("layers", "Layers", lambda: _layers(program)),
        ("memory", "Memory", lambda: _memory(program)),
        ("nodes", "ONNX nodes", lambda: _nodes(program)),
    ]
    made = [Section(id, title, make()) for id, title, make in makers]
    return [s for s in made if s.body]


def _summary(program: Program) -> str:
    facts = summary.headline(program)
    plan, crossbars = facts["schedule"], facts["crossbars"]
    batch = count(facts["batch"])
    seconds = plan["makespan_cycles"] * program.clock_ns * 1e-9
    share = percent(crossbars["used"] / crossbars["available"]) if crossbars["available"] else ""
    shown = figures(
        [
            ("Latency", si(facts["latency_s"], "s"), f"for a batch of {batch}"),
            ("Throughput", f"{count(facts['samples_per_s'])}/s", "samples"),
            ("Energy", si(facts["energy_j"], "J"), f"for a batch of {batch}"),
            ("Crossbars", count(crossbars["used"]), f"of {count(crossbars['available'])} ({share})"),
            ("Schedule", plan["status"], f"{count(plan['makespan_cycles'])} cycles, {si(seconds, 's')}"),
            ("Proven bound", count(plan["lower_bound_cycles"]), f"cycles; gap {percent(plan['gap'])}"),
            ("MACs", si(facts["macs_useful"], ""), f"{si(facts['macs_mapped'], '')} on crossbars"),
            ("Instructions", count(facts["instructions"]), f"{count(plan['tasks'])} tasks"),
        ]
    )
    ports = [
        (kind, p.name, p.dtype or "-", shape(p.dims or p.shape))
        for kind, all_ports in (("input", program.inputs), ("output", program.outputs))
        for p in all_ports
    ]
    parts = [shown, table(["", "~name", "dtype", "shape in the model"], ports)]
    for title, columns, rows in summary.elsewhere(program):
        parts += [f"<h3>{title}</h3>", table(columns, rows)]
    return "\n".join(parts)


# -- schedule ----------------------------------------------------------------------------------------------------------

_KEYS = (
    "Wheel or <kbd>+</kbd> <kbd>-</kbd> zooms, drag or arrows move, <kbd>0</kbd> shows all, double click too; "
    "over the names the wheel scrolls. <kbd>n</kbd> <kbd>p</kbd> select the next and previous task, <kbd>d</kbd> "
    "follows what it waits for, <kbd>s</kbd> what waits for it, <kbd>Esc</kbd> lets go. Hover or click a task to see "
    "what it is, what it waits for and what waits for it."
)


def _schedule(entries: Sequence[Timeline]) -> str:
    names = [t.name for t in entries]
    buttons = "".join(
        f'<button type="button" data-entry="{k}" aria-pressed="{"true" if k == 0 else "false"}">{escape(name)}</button>'
        for k, name in enumerate(names)
    )
    chooser = f'<div class="entries" role="group" aria-label="Entry">{buttons}</div>\n' if len(entries) > 1 else ""
    return chooser + "\n".join(_panel(t, k) for k, t in enumerate(entries))


def _panel(timeline: Timeline, index: int) -> str:
    name = f" of {timeline.name}"
    colours = "".join(
        f'<option value="{value}">{text}</option>'
        for value, text in (
            ("stage", "phase and stage"),
            ("micro-batch", "micro-batch"),
            ("instruction", "instruction"),
        )
    )
    return f"""<div data-schedule="{index}"{" hidden" if index else ""}>
{note(plan_line(timeline.program, timeline.entries[0]))}
<div class="tools">
<button type="button" data-do="in" aria-label="Zoom in">+</button>
<button type="button" data-do="out" aria-label="Zoom out">−</button>
<button type="button" data-do="all">Show all</button>
<button type="button" data-do="critical" aria-pressed="false">Critical path</button>
<label>Colour by <select data-do="colours">{colours}</select></label>
<span class="gap"></span>
<span class="count" aria-live="polite"></span>
<input type="search" data-do="filter" placeholder="Filter: node, unit, phase ..." \
aria-label="Filter tasks by ONNX node, unit, instruction or phase; Enter zooms to them">
</div>
<div class="plot"><canvas tabindex="0" role="application" \
aria-label="Schedule{escape(name)}: {count(len(timeline.tasks))} tasks on {len(timeline.by_unit)} units"></canvas></div>
<ul class="legend"></ul>
<div class="details" aria-live="polite">{_KEYS}</div>
</div>"""


# -- chip, cost, layers ------------------------------------------------------------------------------------------------


def _chip(program: Program) -> str:
    if not program.groups:
        return ""
    crossbars = mapping.used_and_available(program)
    a = program.groups[0].arithmetic
    words = (
        f"{count(crossbars['used'])} of {count(crossbars['available'])} crossbars of {a.rows} × {a.cols} cells hold "
        f"weights: {a.weight_bits} bit in {a.slices} slices × {a.signs} signs of {a.cell_bits} bit, {a.encoding} "
        "encoding. Every square is a crossbar, every block of squares a tile."
    )
    if program.target.get("structure", {}).get("chips", 1) > 1:
        words += " Chips that hold nothing are left out."
    rows = [
        (
            g.name,
            ", ".join(g.sources),
            shape((g.matrices, g.rows, g.cols)),
            count(g.replicas),
            count(len(g.crossbars)),
            percent(mapping.utilisation(g)),
            ranges(g.tiles),
        )
        for g in program.groups
    ]
    groups = table(["~group", "~ONNX node", ">weights", ">copies", ">crossbars", ">cells used", "~tiles"], rows)
    plan = ""
    if floor_plan(program) is not None:
        plan = (
            '<div id="floor"><div class="plot"><canvas role="img" aria-label="Floor plan of the chip: which layer lies '
            'in which crossbars; the table below says the same"></canvas></div><ul class="legend"></ul></div>'
        )
    return f"{note(words)}\n{plan}\n<h3>Crossbar groups</h3>\n{groups}"


def _cost(program: Program, entries: Sequence[Timeline]) -> str:
    facts = cost.facts(program)
    shown = figures(
        [
            ("Energy a sample", si(facts["energy_per_sample_j"], "J"), f"{si(facts['energy_j'], 'J')} a batch"),
            ("To write all cells", si(facts["program_energy_j"], "J"), "once, before the first run"),
            (
                "Power",
                si(facts["average_power_w"], "W"),
                f"on average; {si(facts['peak_power_w_per_chip'], 'W')} at most",
            ),
        ]
    )
    columns = []
    for title, parts in _energies(facts):
        total = sum(parts.values()) or 1.0
        ordered = sorted(parts.items(), key=lambda item: (-item[1], item[0]))
        rows = [(name, si(j, "J"), percent(j / total), bar(j / total)) for name, j in ordered if j]
        columns.append(f"<div><h3>{escape(title)}</h3>{table(['part', '>energy', '>share', '|'], rows)}</div>")
    columns.append(f"<div><h3>Use of units</h3>{_utilisation(entries)}</div>")
    if writes := wear.lines(program):
        shown += f"<h3>Writes as counted</h3>{table(['~what', '~figures'], writes)}"
    return shown + '<div class="columns">' + "\n".join(columns) + "</div>"


def _energies(facts: Mapping[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """The breakdowns that the cost view has: by component, and by phase and stage."""
    stages = {
        f"{phase}, {stage}" if len(kinds) > 1 else phase: sum(components.values())
        for phase, kinds in facts["energy_by_phase_j"].items()
        for stage, components in kinds.items()
    }
    found = [("Energy by component", facts["energy_by_component_j"]), ("Energy by phase", stages)]
    return [(title, parts) for title, parts in found if len(parts) > 1]


def _utilisation(entries: Sequence[Timeline]) -> str:
    """The busiest unit and the mean of each kind."""
    rows = []
    for t in entries:
        kinds: dict[str, list[int]] = {}
        for unit in t.by_unit:
            kinds.setdefault(t.program.units[unit].kind, []).append(unit)
        for kind, units in kinds.items():
            shares = {u: t.busy(u) / t.span for u in units}
            most = max(shares, key=lambda u: shares[u])
            mean = sum(shares.values()) / len(shares)
            where = f"{t.program.units[most].name}: {percent(shares[most])}"
            name = KIND_NAMES.get(kind, kind) + f" ({t.name})"
            rows.append((name, count(len(units)), percent(mean), where, bar(mean)))
    return table(["kind", ">units", ">mean", "~busiest", "|"], rows)


def _layers(program: Program) -> str:
    """Calibration and error of every layer with weights."""
    found = layers.facts(program)["layers"]
    if not found:
        return note(layers.TRAINING) if program.mode == "training" else ""
    rows = []
    for layer in found:
        *shown, weights, output = layers.cells(layer)
        nodes = ", ".join(layer["onnx_nodes"]) or layer["name"]
        rows.append((nodes, *shown, weights, output, bar((layer["output_snr_db"] or 0.0) / _FINE_DB)))
    columns = ["~ONNX node", ">input", ">codes", ">clipped", ">exact", ">weights", ">output", "|"]
    return f"{note(f'{layers.LEGEND}. The bar is full at {_FINE_DB:.0f} dB.')}\n{table(columns, rows)}"


def _memory(program: Program) -> str:
    facts = memory.facts(program)
    spaces = ", ".join(f"{size(s['bytes'])} in {s['space']}" for s in facts["spaces"])
    rows = [
        (
            b["name"],
            b["kind"],
            b["dtype"],
            shape(b["shape"]),
            b["space"] if b["alias_of"] is None else f"view of {b['alias_of']}",
            count(b["offset"]),
            size(b["bytes"]),
            count(b["slots"]) if b["parts"] == 1 else f"{count(b['slots'])} of {count(b['parts'])} parts",
        )
        for b in facts["buffers"]
    ]
    columns = ["~buffer", "kind", "dtype", ">shape", "space", ">offset", ">size", ">slots"]
    body = table(columns, rows, id="buffers")
    return f"{note(f'Highest addresses in use: {spaces}.')}\n{filter_for('buffers', 'buffers')}\n{body}"


def _nodes(program: Program) -> str:
    rows = []
    for node in summary.nodes(program):
        ids = node["instructions"]
        place = node_button(node["node"]) if ids else node["node"]
        went = node["reason"] if node["reason"] is not None else ", ".join(node["ops"])
        rows.append((place, went, ranges(ids) if ids else ""))
    words = "Where every node of the model went. Press one that became instructions to see its tasks in the schedule."
    return f"{note(words)}\n{filter_for('node-table', 'nodes')}\n" + table(
        ["~ONNX node", "~went to", "~instructions"], rows, id="node-table"
    )
