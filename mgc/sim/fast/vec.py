"""VEC kernels step by step: which steps have a graph form, and what their operands are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mgc.isa.functions import function
from mgc.isa.functions.base import Operand as Typed
from mgc.isa.instructions import REGISTER, Ref, Step, Vec
from mgc.sim.fast.choice import where
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.ideal import IDEAL
from mgc.sim.fast.quantisation import dequant, lookup, quant
from mgc.sim.fast.reductions import REDUCTIONS
from mgc.sim.fast.refusal import NotLoweredError
from mgc.sim.fast.resampling import axis_map
from mgc.sim.fast.scales import (
    dequant_by,
    guarded_extreme,
    guarded_quant_by,
    ideal_dequant_by,
    ideal_extreme,
    ideal_quant_by,
    ideal_run_max,
    quant_by,
    run_max,
)
from mgc.sim.fast.steps import STEPS, Call
from mgc.sim.fast.values import Value

QUANTISED = {
    "quant": quant,
    "dequant": dequant,
    "lookup": lookup,
    "axis_map": axis_map,
    "quant_by": quant_by,
    "quant_dithered": quant_by,
    "dequant_by": dequant_by,
}
SCALES = {
    "quant_by": ideal_quant_by,
    "quant_dithered": ideal_quant_by,
    "dequant_by": ideal_dequant_by,
    "run_max": ideal_run_max,
}
GUARDED = {
    "reduce_max": guarded_extreme,
    "reduce_min": guarded_extreme,
    "run_max": run_max,
    "where": where,
    "quant_by": guarded_quant_by,
    "quant_dithered": guarded_quant_by,
}
UNGUARDED = {"reduce_max": ideal_extreme, "reduce_min": ideal_extreme, "where": where}


def lower(
    g: GraphBuilder, vec: Vec, number: int, args: Sequence[Operand], result: Typed, ideal: bool, guarded: bool = False
) -> Value:
    """The result of step `number` of a kernel; `guarded` allows forms that need a guard. Raises NotLoweredError."""
    step = vec.steps[number]
    name = function(step.function).name
    table = (IDEAL, SCALES, REDUCTIONS, STEPS) if ideal else (QUANTISED, REDUCTIONS, STEPS)
    if guarded:
        table = (UNGUARDED if ideal else GUARDED, *table)
    lowering = next((t[name] for t in table if name in t), None)
    if lowering is None:
        raise NotLoweredError(f"{name} has no form that is proven equal")
    if 0 in result.shape:
        raise NotLoweredError("an empty result")
    call = Call(name, args, step.attributes, result, clipped=not ideal and _clipped(vec, number))
    value = lowering(g, call)
    return replace(value, logical=result.dtype) if value.logical != result.dtype else value


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
