"""Fused kernels of the vector unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.ir.flow import Axis, Flow
from mgc.ir.op import Op, register, register_attr
from mgc.ir.types import TensorType, ValueType


@register_attr
@dataclass(frozen=True)
class Step:
    """One step of a `Vec` kernel: a level-1 or level-2 element-wise, reduction, gather, pool... op on earlier values.

    `args` index the kernel's values: operands first (0 .. operands-1), then each step's result in turn.
    """

    op: Op
    args: tuple[int, ...]


@register
@dataclass(frozen=True)
class Vec(Op):
    """A fused kernel of the vector unit: steps run in order, `results` index the values that leave it.

    One that `drains` is no work of a vector unit: it runs where its first operand is made, the sums of a product (or a
    view of them), element by element as they come, so that these are never stored. Nothing else reads them.
    """

    name: ClassVar[str] = "vec"
    level: ClassVar[int] = 2
    steps: tuple[Step, ...]
    results: tuple[int, ...]
    drains: bool = False

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        values = list(types)
        for step in self.steps:
            values.extend(step.op.infer(*(values[a] for a in step.args)))
        return tuple(values[r] for r in self.results)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        values = list(arrays)
        for step in self.steps:
            values.extend(step.op.evaluate(*(values[a] for a in step.args)))
        return tuple(values[r] for r in self.results)

    def flow(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Flow:
        """A kernel goes by parts if all its steps do, and none needs what another one adds up over the batch."""
        whole = Flow(False, (None,) * len(results))
        if all(a is None for a in axes):
            return whole
        known, flows = list(types), list(axes)
        summed: set[int] = set()
        for step in self.steps:
            if not summed.isdisjoint(step.args):
                return whole
            own = [known[a] for a in step.args]
            made = [t for t in step.op.infer(*own) if isinstance(t, TensorType)]
            operands = [flows[a] for a in step.args]
            flow = step.op.flow(own, operands, made, split)
            if not flow.streamed and any(a is not None for a in operands):
                return whole
            if flow.streamed:
                summed.update(len(known) + k for k, a in enumerate(flow.axes) if a is None)
            known += made
            flows += flow.axes
        return Flow(True, tuple(flows[r] for r in self.results))
