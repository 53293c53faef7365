"""ONNX nodes as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class OnnxForm:
    """One ONNX node that means the same as an op: operands are its inputs followed by `constants`.

    `attributes` holds ints, floats, strings, lists of them, or arrays; `constants` are appended as extra inputs
    (ONNX takes shapes, axes and the like so), None for an input left out. `operands` is for the few ops that take
    more than one node: each entry is the number of an operand of the op or another form; None means all the op's
    operands in order. `result` is the number of the ONNX node's output that is meant.
    """

    op_type: str
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[np.ndarray | None, ...] = ()
    operands: tuple[int | OnnxForm, ...] | None = None
    result: int = 0
