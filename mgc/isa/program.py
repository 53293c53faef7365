"""The compiled program as one object: what a `.mgc` file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.instruction import Instruction
from mgc.isa.memory import Buffer, Constant, Port
from mgc.isa.schedule import Schedule, Unit

FORMAT_VERSION = 1


@dataclass(frozen=True)
class HostSegment:
    """An ONNX model run off-chip: `tensor` names the program tensor (uint8) with its bytes."""

    id: int
    tensor: str
    reason: str
    op_types: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """Instructions in id order, the memory map, crossbar groups, schedule and every tensor.

    `micro_batch` is the number of samples in one micro-batch, `micro_batches` how many one run of the schedule takes;
    `batched` is False when the model mixes samples, so that a run takes exactly what the ports' shapes say.
    `sources` maps an instruction's source index to ONNX node names; `absorbed` says for every other node of the model
    why it has no instruction. `target` is the target description, `meta` what reports show (source hashes, costs,
    pass times are NOT here: a program's bytes depend on input and options only).
    """

    name: str
    mode: str
    target: Mapping[str, Any]
    instructions: tuple[Instruction, ...]
    buffers: tuple[Buffer, ...]
    constants: tuple[Constant, ...]
    groups: tuple[CrossbarGroup, ...]
    units: tuple[Unit, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    host_segments: tuple[HostSegment, ...]
    schedule: Schedule
    micro_batch: int
    micro_batches: int
    batched: bool
    sources: tuple[tuple[str, ...], ...]
    absorbed: Mapping[str, str]
    tensors: Mapping[str, np.ndarray]
    meta: Mapping[str, Any] = field(default_factory=dict)
