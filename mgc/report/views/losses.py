"""The losses: what each diff-block computes, how exact its tables are, how long it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import RenderableType

from mgc.isa.diffblock import Block
from mgc.isa.instructions import Diff
from mgc.isa.phases import stages
from mgc.isa.program import Program
from mgc.report.text import pairs, section, stack, table
from mgc.report.units import count

_REACH = 8.0
_POINTS = 65
NONE = "The program has no diff-block: it computes no loss."


def facts(program: Program) -> dict[str, Any]:
    """`losses`: as the compiler recognised them (name, kind, branches). `blocks`: each run of a diff-block in an
    iteration: loss and error deltas that it writes, its function with target, sign and scale, its cycles, and
    `curve`: u, f and f' of `quantized` numerics, and f and f' themselves ("exact_f", "exact_slope").
    `value_error` and `slope_error` are what the compiler proved of the tables between scores `low` and `high`.
    """
    return {
        "losses": list(program.meta.get("losses", ())),
        "blocks": [_block(program, i) for i in program.instructions if isinstance(i, Diff)],
    }


def _block(program: Program, i: Diff) -> dict[str, Any]:
    block = i.block(program)
    size = int(np.prod(program.operand(i.scores[0].space, i.scores[0].index).shape))
    return {
        "instruction": i.id,
        "phase": stages(program)[i.id].phase,
        "loss": program.buffers[i.loss].name if i.loss >= 0 else None,
        "deltas": [program.buffers[d].name for d in i.deltas if d >= 0],
        "function": block.function,
        "pairing": block.pairing,
        "target": None if i.targets else i.target,
        "sign": i.sign,
        "scale": i.scale,
        "scores": size,
        "cycles": i.duration,
        "seconds": i.duration * program.clock_ns * 1e-9,
        "segments": 0 if block.even is None else int(block.even.rows.shape[1]),
        "low": i.low,
        "high": i.high,
        "value_error": i.value_error,
        "slope_error": i.slope_error,
        "curve": curve(block, i.target),
    }


def curve(block: Block, target: float) -> dict[str, list[float]]:
    """f and f' as the block computes them with its tables, and as they are, on scores from -8 to 8; unscaled."""
    plain = Block(block.function, "single", block.sign, 1.0, block.exact, block.even)
    u = np.linspace(-_REACH, _REACH, _POINTS, dtype=np.float32)
    found = {}
    for prefix, ideal in (("", False), ("exact_", True)):
        each = [plain.run(x.reshape(1), None, target, ideal) for x in u]
        found[f"{prefix}f"] = [float(loss) for loss, _, _ in each]
        found[f"{prefix}slope"] = [float(delta[0]) for _, delta, _ in each]
    return {"u": u.tolist(), **found}


def render(program: Program) -> RenderableType:
    """One line a run of a diff-block, then what the curves are at a few scores."""
    shown = facts(program)
    if not shown["blocks"]:
        return pairs([("losses", NONE)])
    rows = [
        (
            b["loss"] or ", ".join(b["deltas"]),
            b["phase"],
            _function(b),
            count(b["scores"]),
            count(b["cycles"]),
            f"{b['value_error']:.1e}" if b["segments"] else "exact",
            f"{b['slope_error']:.1e}" if b["segments"] else "exact",
        )
        for b in shown["blocks"]
    ]
    columns = ["~loss value", "phase", "~f", ">scores", ">cycles", ">error of f", ">of f'"]
    legend = (
        "One run of a block gives a branch of the loss and its error deltas at once. Errors: of its tables, proven, "
        "relative where a value is above 1; f has a target t and is scaled afterwards."
    )
    names = [(each["name"], each["kind"], count(each["branches"])) for each in shown["losses"]]
    return stack(
        section("Losses", table(["~loss", "recognised as", ">branches"], names)),
        section("Runs of the diff-block", stack(table(columns, rows), "", legend)),
        section("f and f' at some scores", _values(shown["blocks"])),
    )


def _function(block: dict[str, Any]) -> str:
    target = "" if block["target"] is None else f", t = {block['target']:g}"
    of = {"single": "", "pair": " of differences", "average": " of distances from the mean"}[block["pairing"]]
    return f"{block['function']}{of}{target}"


def _values(blocks: list[dict[str, Any]]) -> RenderableType:
    """Each function once, at every eighth score of its curve."""
    distinct = {_function(b): b["curve"] for b in blocks}
    rows = []
    for name, points in distinct.items():
        picked = range(0, _POINTS, 16)
        rows.append((name, "f", *(f"{points['f'][k]:.3g}" for k in picked)))
        rows.append(("", "f'", *(f"{points['slope'][k]:.3g}" for k in picked)))
    scores = np.linspace(-_REACH, _REACH, _POINTS)[::16]
    return table(["~", "", *(f">{u:g}" for u in scores)], rows)
