"""`mgc.Program`: the compiled program, with its figures as plain data and a form for notebooks."""

from __future__ import annotations

from html import escape
from typing import Any

from mgc.isa.program import Program as StoredProgram
from mgc.report import facts
from mgc.report.units import count, percent, si


class Program(StoredProgram):
    """What `mgc.compile` gives: saved and loaded as an `.mgc` file, run by `mgc.Simulator`."""

    def summary(self) -> dict[str, Any]:
        """What it is, what it needs, how good its schedule is, where every ONNX node went (`mgc inspect summary`)."""
        return facts(self, "summary")

    def schedule(self) -> dict[str, Any]:
        """Its units and tasks with their cycles (`mgc inspect schedule`)."""
        return facts(self, "schedule")

    def cost(self) -> dict[str, Any]:
        """Time, energy, area, power, wear and where they go (`mgc inspect cost`)."""
        return facts(self, "cost")

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{escape(k)}&nbsp;</td><td>{escape(v)}</td></tr>" for k, v in _figures(self))
        return f"<table><thead><tr><th colspan=2>{escape(self.name)}</th></tr></thead><tbody>{rows}</tbody></table>"


def _figures(program: Program) -> list[tuple[str, str]]:
    from mgc.report.views.summary import headline

    head = headline(program)
    plan, crossbars = head["schedule"], head["crossbars"]
    run = "an iteration" if head["mode"] == "training" else f"a batch of {count(head['batch'])}"
    return [
        ("target", f"{head['target']}, {head['mode']}"),
        ("crossbars", f"{count(crossbars['used'])} of {count(crossbars['available'])}"),
        ("latency", f"{si(head['latency_s'], 's')} for {run}, {count(plan['makespan_cycles'])} cycles"),
        ("throughput", f"{count(head['samples_per_s'])} samples/s"),
        ("energy", f"{si(head['energy_j'], 'J')} for {run}"),
        ("schedule", f"{plan['status']}, gap {percent(plan['gap'])}"),
        ("inputs", ", ".join(p.name for p in program.inputs) or "none"),
        ("outputs", ", ".join(p.name for p in program.outputs) or "none"),
    ]
