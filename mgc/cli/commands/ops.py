"""`mgc ops`: which ONNX op runs where."""

from __future__ import annotations

from mgc.cli import console
from mgc.cli.errors import command
from mgc.cli.options import Debug, Json


@command
def ops(json: Json = False, debug: Debug = False) -> None:
    """List the ONNX ops and where each runs."""
    from mgc.frontend import support_table

    rows = support_table()
    if json:
        console.emit_json({"ops": rows})
        return
