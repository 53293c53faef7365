"""`mgc run --check`: the outputs of a run beside those of ONNX Runtime, and what may be behind a difference."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mgc.comparison import Comparison, compare, misshapen
from mgc.evaluation.errors import GivenError
from mgc.evaluation.feeding import Note, silent
from mgc.evaluation.reference import Reference
from mgc.functions.regular_files import read_regular


def check(
    outputs: Mapping[str, Any], reference: Reference, numerics: str, remarks: Sequence[str] = (), note: Note = silent
) -> Comparison:
    """Compares with ONNX Runtime; where that departs from ONNX's definition, with ONNX's reference evaluator.

    `remarks`: what compilation warned of, which a failure shows; `note` is told what a reader should know. GivenError
    where the shapes differ: how, and why.
    """
    wanted, steps = reference.outputs, reference.steps
    wrong = misshapen(outputs, wanted)
    found = None if wrong else compare(outputs, wanted, steps)
    if found is not None and not found.ok(numerics):
        found = found.made_of(reference.magnitudes)
    if found is None or not found.ok(numerics):
        defined = reference.by_definition
        if defined is not None and not misshapen(outputs, defined):
            by_definition = compare(outputs, defined, steps)
            if by_definition.ok(numerics):
                how = wrong or "its values are others"
                note(f"ONNX Runtime departs from ONNX's definition here ({how}): checked by ONNX's evaluator")
                return by_definition
    if found is None:
        because = f"; {'; '.join(remarks)}" if remarks else f"; the file declares {reference.declared(wrong)}"
        raise GivenError(f"--check {reference.name}: {wrong}{because}")
    for name in found.slight() if numerics != "float" else ():
        note(f"output {name} hardly varies: its error is slight against the values that it is made of")
    for remark in () if found.ok(numerics) else remarks:
        note(f"compile warned: {remark}")
    return found


def is_source(model: Path, stated: str | None) -> bool:
    """Whether the program came from this file; a program that does not state its source counts as if."""
    if stated is None or hashlib.sha256(read_regular(model, 1 << 31)).hexdigest() == stated:
        return True
    from mgc.frontend.load import load_model

    return load_model(model).sha256 == stated  # external data counts as well
