"""`mgc run --check`: the outputs of a run beside those of ONNX Runtime, and what may be behind a difference."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mgc.cli import console
from mgc.cli.errors import UserError, about
from mgc.cli.feeding import Feeds
from mgc.cli.onnx_reference import Reference
from mgc.comparison import Comparison, compare, misshapen
from mgc.functions.regular_files import read_regular
from mgc.isa.program import Program


def check(
    outputs: Mapping[str, Any],
    model: Path,
    program: Program,
    fed: Feeds,
    threads: int | None,
    numerics: str,
    remarks: Sequence[str],
) -> Comparison:
    """Compares with ONNX Runtime; where that departs from ONNX's definition, with ONNX's reference evaluator.

    `remarks`: what compilation warned of, which a failure shows. UserError where the shapes differ: how, and why.
    """
    reference = Reference(model, program, fed, threads)
    wanted = reference.outputs()
    steps = reference.steps()
    wrong = misshapen(outputs, wanted)
    found = None if wrong else compare(outputs, wanted, steps)
    if found is not None and not found.ok(numerics):
        found = found.made_of(reference.magnitudes())
    if found is None or not found.ok(numerics):
        defined = reference.by_definition()
        if defined is not None and not misshapen(outputs, defined):
            by_definition = compare(outputs, defined, steps)
            if by_definition.ok(numerics):
                how = wrong or "its values are others"
                console.note(f"ONNX Runtime departs from ONNX's definition here ({how}): checked by ONNX's evaluator")
                return by_definition
    if found is None:
        because = f"; {'; '.join(remarks)}" if remarks else f"; the file declares {reference.declared(wrong)}"
        raise UserError(f"--check {model}: {wrong}{because}")
    for name in found.slight() if numerics != "float" else ():
        console.note(f"output {name} hardly varies: its error is slight against the values that it is made of")
    for remark in () if found.ok(numerics) else remarks:
        console.note(f"compile warned: {remark}")
    return found


def is_source(model: Path, stated: str | None) -> bool:
    """Whether the program came from this file; a program that does not state its source counts as if."""
    if stated is None or hashlib.sha256(read_regular(model, 1 << 31)).hexdigest() == stated:
        return True
    from mgc.frontend.load import load_model

    with about(model):
        return load_model(model).sha256 == stated  # external data counts as well
