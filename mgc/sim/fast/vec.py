"""VEC kernels step by step: which steps have a graph form, and what their operands are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from mgc.isa.error import ExecutionError
from mgc.isa.functions import evaluate, function
from mgc.isa.functions.base import Operand as Typed
from mgc.isa.instructions import REGISTER, Ref, Step, Vec
from mgc.isa.machine import IDEAL_DTYPE
from mgc.sim.fast.builder import Held, LoweredStep, PlanBuilder
from mgc.sim.fast.choice import where
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.extremes import extreme, run_max
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.ideal import IDEAL
from mgc.sim.fast.items import StepItem
from mgc.sim.fast.matmul import matmul
from mgc.sim.fast.quantisation import dequant, dequant_by, lookup, quant, quant_by
from mgc.sim.fast.reductions import REDUCTIONS
from mgc.sim.fast.resampling import axis_map
from mgc.sim.fast.scaling import check_step
from mgc.sim.fast.steps import STEPS, Call
from mgc.sim.fast.values import GraphValue

LOWERINGS = {
    **STEPS,
    **REDUCTIONS,
    "quant": quant,
    "dequant": dequant,
    "lookup": lookup,
    "axis_map": axis_map,
    "matmul": matmul,
    "quant_by": quant_by,
    "quant_dithered": quant_by,
    "dequant_by": dequant_by,
    "reduce_max": extreme,
    "reduce_min": extreme,
    "run_max": run_max,
    "where": where,
}
"""Functions whose graph form is equal to the ISA's, or is so by guards; in `float` numerics `IDEAL` goes first."""


def lower_vec(builder: PlanBuilder, kernel: Vec) -> None:
    """A kernel, step by step. NotLoweredError if a step needs each micro-batch on its own."""
    placements: list[LoweredStep] = []
    registers: list[Held] = []
    types = kernel.registers(builder.program)
    for number, step in enumerate(kernel.steps):
        held, place = _step(builder, kernel, number, registers, types)
        registers.append(held)
        placements.append(LoweredStep(kernel.id, function(step.function).name, *place))
    builder.placements += placements
    for store in kernel.stores:
        ref = store.value
        builder.hold(store.dst, registers[ref.index] if ref.space == REGISTER else builder.held(ref))


def _step(
    builder: PlanBuilder, kernel: Vec, number: int, registers: Sequence[Held], types: Sequence[Typed]
) -> tuple[Held, tuple[str, str]]:
    """Where a step's result is; its kernel and the reason why it has none. NotLoweredError: not step by step."""
    step = kernel.steps[number]
    name = function(step.function).name
    held: list[Held] = []
    shapes: list[tuple[int, ...]] = []
    for ref in step.args:
        local = ref.space == REGISTER
        held.append(registers[ref.index] if local else builder.held(ref))
        shapes.append(types[ref.index].shape if local else builder.program.operand(ref.space, ref.index).shape)
    if all(isinstance(h, np.ndarray) for h in held):
        arrays = [h.reshape(s) for h, s in zip(held, shapes, strict=True) if isinstance(h, np.ndarray)]
        try:
            return evaluate(step.function, arrays, step.attributes, builder.ideal), ("constant", "")
        except ExecutionError as error:
            raise NotLoweredError(str(error)) from error
    args = [builder.operand(h, s) for h, s in zip(held, shapes, strict=True)]
    batched = check_step(name, args, step.attributes, types[number].shape)
    result = _result(builder.ideal, name, args, types[number])
    clipped = not builder.ideal and _clipped(kernel, number)
    call = Call(name, args, step.attributes, result, clipped, builder.ideal, builder.changes)
    try:
        return builder.define(_lower_step(builder.open_graph(), call)), ("graph", "")
    except NotLoweredError as error:
        slot = builder.slot(result.shape, result.dtype, batched)
        known = [
            (builder.slots[h], s) if isinstance(h, int) else h.reshape(s) for h, s in zip(held, shapes, strict=True)
        ]
        builder.largest = max(builder.largest, 8 * sum(prod(s) for s in (*shapes, result.shape)))
        builder.add(StepItem(step.function, tuple(known), step.attributes, slot))
        return slot.id, ("numpy", str(error))


def _result(ideal: bool, name: str, args: Sequence[Operand], typed: Typed) -> Typed:
    """Type and shape of a step's result in this numerics: what was codes and sums is float32 in `float`."""
    first = args[0].logical if isinstance(args[0], GraphValue) else args[0].dtype
    if ideal and name != "cast" and typed.dtype.kind in "iu" and first == IDEAL_DTYPE:
        return Typed(IDEAL_DTYPE, typed.shape)
    return typed


def _lower_step(g: GraphBuilder, call: Call) -> GraphValue:
    """The result of a step. Raises NotLoweredError."""
    lowering = (IDEAL.get(call.name) if call.ideal else None) or LOWERINGS.get(call.name)
    if lowering is None:
        raise NotLoweredError(f"{call.name} has no form that is proven equal")
    if 0 in call.result.shape:
        raise NotLoweredError("an empty result")
    value = lowering(g, call)
    return replace(value, logical=call.result.dtype) if value.logical != call.result.dtype else value


def _clipped(vec: Vec, number: int) -> bool:
    """Whether a register is used only by QUANT steps whose lowest code is the code of 0, or above it."""
    register = Ref(REGISTER, number)
    if any(s.value == register for s in vec.stores):
        return False
    users = [s for s in vec.steps if register in s.args]
    return bool(users) and all(_lowest_is_zero(s) for s in users)


def _lowest_is_zero(step: Step) -> bool:
    if function(step.function).name != "quant":
        return False
    _, lo, _, _, zero = step.attributes
    return zero <= lo
