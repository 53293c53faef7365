"""What goes into a run: checked arrays under the ports' names, and noise where the user gives none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mgc.isa.dtypes import CODES, is_float, is_integer, numpy_dtype
from mgc.isa.functions.random import KEY, keys
from mgc.isa.memory import Port
from mgc.isa.program import Program
from mgc.sim.engine import SimulationError


def is_opaque(program: Program, port: Port) -> bool:
    """Whether a port carries a Python object (a sequence, strings) and no array of static shape."""
    return port.buffer >= 0 and program.buffers[port.buffer].kind == "opaque"


def draw_inputs(program: Program, n: int, seed: int, given: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Noise ~ N(0,1) for every input not in `given`: n samples of batched ports, in the ports' dtypes; random numbers
    are keyed by the seed and the samples' numbers.

    Drawn port after port from Generator(PCG64(seed)) in float64, those given included, so that what one port gets does
    not depend on which others are given. A port that is not floating cannot be drawn: SimulationError.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    drawn: dict[str, np.ndarray] = {}
    for port in program.inputs:
        known = given is not None and port.name in given
        if port.name == KEY:
            if not known:
                drawn[KEY] = keys(seed, 0, n if program.entry.batched and port.batched else port.shape[0])
            continue
        if is_opaque(program, port) or not is_float(numpy_dtype(port.dtype)):
            if known:
                continue
            raise SimulationError(
                f"input {describe(port)} is not floating, so no noise can be drawn for it; give its values"
            )
        shape = port.shape
        if program.entry.batched and port.batched:
            shape = (n * (port.shape[0] // program.entry.micro_batch), *port.shape[1:])
        noise = generator.standard_normal(shape)
        if not known:
            drawn[port.name] = noise.astype(numpy_dtype(port.dtype))
    return drawn


def with_key(program: Program, inputs: Mapping[str, Any], seed: int) -> Mapping[str, Any]:
    """The inputs with the key of random numbers, where the program has one and it is not given."""
    port = next((p for p in program.inputs if p.name == KEY), None)
    if port is None or KEY in inputs:
        return inputs
    rows = port.shape[0]
    if program.entry.batched and port.batched:
        others = (p for p in program.inputs if p.batched and p.name in inputs)
        rows = next((len(inputs[p.name]) * rows // p.shape[0] for p in others), rows)
    return {**inputs, KEY: keys(seed, 0, rows)}


def describe(port: Port) -> str:
    """Name, element type and shape of a port as its model states them."""
    dims = port.dims or tuple(map(str, port.shape))
    return f"{port.name} ({port.dtype}[{', '.join(dims)}])"


def check_inputs(program: Program, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """(inputs in their ports' dtypes, number of samples). Raises SimulationError: what, where, what to do.

    A floating array goes to any floating port, an integer array to an integer port that can hold its values; nothing
    else is converted. The number of samples is that along axis 0 of the batched ports, which must agree; without one
    it is one micro-batch.
    """
    ports, entry = program.inputs, program.entry
    unknown = inputs.keys() - {p.name for p in ports}
    if unknown:
        there = ", ".join(map(describe, ports)) or "none"
        raise SimulationError(f"input {min(unknown)} is unknown; the program's inputs are {there}")
    if len(inputs) < len(ports):
        missing = [describe(p) for p in ports if p.name not in inputs]
        raise SimulationError(f"inputs are missing: {', '.join(missing)}; give an array for each")
    checked: dict[str, Any] = {}
    samples: dict[str, int] = {}
    for port in ports:
        value = inputs[port.name]
        if is_opaque(program, port):
            checked[port.name] = value
            continue
        array = _convert(port, value)
        if entry.batched and port.batched:
            samples[port.name] = _samples(entry.micro_batch, port, array)
        elif array.shape != port.shape:
            raise SimulationError(
                f"input {describe(port)} has shape {list(array.shape)}, this program takes exactly {list(port.shape)}"
            )
        checked[port.name] = array if array.flags.c_contiguous else np.ascontiguousarray(array).reshape(array.shape)
    if len(set(samples.values())) > 1:
        counts = ", ".join(f"{name}: {n}" for name, n in samples.items())
        raise SimulationError(f"inputs hold different numbers of samples ({counts}); give the same number of each")
    return checked, next(iter(samples.values()), entry.micro_batch)


def _samples(micro_batch: int, port: Port, array: np.ndarray) -> int:
    rows = port.shape[0] // micro_batch
    if array.ndim != len(port.shape) or array.shape[1:] != port.shape[1:] or array.shape[0] % rows:
        first = "n" if rows == 1 else f"{rows} n"
        expected = ", ".join((first, *map(str, port.shape[1:])))
        raise SimulationError(
            f"input {describe(port)} has shape {list(array.shape)}, [{expected}] is expected for n samples"
        )
    return array.shape[0] // rows


def _convert(port: Port, value: Any) -> np.ndarray:
    dtype = numpy_dtype(port.dtype)
    array = np.asarray(value)
    if array.dtype == dtype:
        return array
    found = array.dtype
    if found.name in CODES and is_float(found) and is_float(dtype):
        with np.errstate(all="ignore"):
            return array.astype(dtype)
    if is_integer(found) and is_integer(dtype):
        info = np.iinfo(dtype)
        if array.size == 0 or info.min <= int(array.min()) <= int(array.max()) <= info.max:
            return array.astype(dtype)
        raise SimulationError(f"input {describe(port)} holds values that do not fit into {port.dtype}")
    raise SimulationError(f"input {describe(port)} is {found}, {port.dtype} is expected; convert it")
