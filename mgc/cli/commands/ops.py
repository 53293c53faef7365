"""`mgc ops`: which ONNX op runs where."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgc.cli import console
from mgc.cli.command import command
from mgc.cli.options import Debug, Json

if TYPE_CHECKING:
    from mgc.cli.op_support import OpSupport


@command
def ops(json: Json = False, debug: Debug = False) -> None:
    """List the ONNX ops and where each runs.

    The table is made by importing ONNX's own test cases. An op that is in no list runs on the host as well.
    """
    from mgc.cli.op_support import PLACES
    from mgc.cli.op_table import ONNX_VERSION, TABLE

    if json:
        console.emit_json({"onnx": ONNX_VERSION, "places": PLACES, "ops": [row._asdict() for row in all_ops()]})
        return
    from mgc.report.text import pairs, section, stack, table

    rows = [(_name(row.op, row.domain), ", ".join(row.runs_on), "; ".join(row.host_when)) for row in TABLE]
    columns = ["~op", "~runs on", "~on the host where"]
    on_host = ", ".join(_name(row.op, row.domain) for row in all_ops() if row.runs_on == ("host",))
    console.emit(
        stack(
            pairs(PLACES.items()),
            section(f"Ops of ONNX {ONNX_VERSION} that the chip runs", table(columns, rows)),
            section("Ops that run on the host", on_host),
        )
    )


def _name(op: str, domain: str) -> str:
    return f"{domain}.{op}" if domain else op


def all_ops() -> list[OpSupport]:
    """A row for every op that ONNX defines or the importer knows, in order of domain and name."""
    from onnx.defs import get_all_schemas

    from mgc.cli.op_support import OpSupport
    from mgc.cli.op_table import TABLE

    rows = {(s.domain, s.name): OpSupport(s.name, s.domain, ("host",)) for s in get_all_schemas()}
    rows |= {(row.domain, row.op): row for row in TABLE}
    return [rows[op] for op in sorted(rows)]
