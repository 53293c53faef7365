"""Training programs of the models in tests/data/training, with what PyTorch recorded for them."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from oracle import BATCH, DATA, OPTIMIZERS, recorded
from test_composed import PHASES, composed
from test_step_models import build, phases_of

from mgc.compiler import compile_with_stats
from mgc.options import CompileOptions
from mgc.sim import Simulator
from mgc.targets.description import Target
from mgc.targets.loader import load_target
from mgc.training.trainee import Trainee

ITERATIONS = 4
_KEPT = 4
"""Programs that are kept for the next tests of one group: nobody changes them."""


def composed_program(net, exporter, loss, rule, redraw=False, steps=1, target: str | Target = "liu2018", dataflow=None):
    """(program, statistics, data, what PyTorch recorded, states -> PyTorch's names)."""
    target = target if isinstance(target, Target) else load_target(target)
    return compile_composed(net, exporter, loss, rule, redraw, steps, target, dataflow)


@lru_cache(maxsize=_KEPT)
def compile_composed(net, exporter, loss, rule, redraw, steps, target, dataflow):
    """What `composed_program` gives; a program has one key, however its defaults are given there."""
    _, names = composed(net, exporter, loss, redraw=redraw)
    phases = (replace(PHASES[0], clip=0.1 if loss == "wgan" else None, steps=steps), PHASES[1])
    options = CompileOptions(
        discriminator=DATA / f"{net}_D_{exporter}.onnx",
        loss=loss,
        phases=phases,
        redraw_noise=redraw,
        batch=BATCH,
        target=target,
        dataflow=dataflow,
        **OPTIMIZERS[rule],
    )
    program, stats = compile_with_stats(DATA / f"{net}_G_{exporter}.onnx", options)
    with np.load(DATA / f"composed_{net}.npz") as archive:
        arrays = dict(archive)
    expected = recorded(arrays, f"{loss}-{rule}{'-redraw' if redraw else ''}")
    return program, stats, recorded(arrays, "data"), expected, names


@lru_cache(maxsize=_KEPT)
def step_program(name, exporter, rule):
    """The same of a step model."""
    source, model, _ = build(name, exporter, rule)
    phases, globs = phases_of(name)
    options = CompileOptions(phases=phases, groups=globs, batch=BATCH, **OPTIMIZERS[rule])
    program, stats = compile_with_stats(DATA / f"step_{name}_{exporter}.onnx", options)
    names = {s.name: source.parameters.get(s.onnx_name, s.onnx_name) for s in model.states}
    with np.load(DATA / f"step_{name}.npz") as archive:
        arrays = dict(archive)
    return program, stats, recorded(arrays, "data"), recorded(arrays, rule), names


def follow(program, data, expected, names, numerics="float", tolerance=1e-4, engine="reference"):
    """Trains on an engine; losses and states stay within a tolerance of what PyTorch recorded.

    A loss: relative, or absolute below 0.01. A state: relative to its largest entry.
    """
    trainee = Trainee(Simulator(program, engine, numerics))
    compared = set()
    for i in range(ITERATIONS):
        losses = trainee.step([{p.name: data[p.name][i] for p in trainee.inputs}])
        states = trainee.state()
        for name, value in losses.items():
            right = float(expected[f"losses/{name}"][i])
            assert abs(value - right) <= tolerance * (abs(right) + 0.01), f"{name}, iteration {i}"
        for name, key in names.items():
            if name not in states:
                continue  # no loss depends on it: it is not in the program
            found, right = states[name], expected[key][i]
            if found.shape != right.shape:
                found = found.T.reshape(right.shape)
            scale = float(np.abs(right).max()) + 1e-6
            np.testing.assert_allclose(found, right, rtol=0, atol=tolerance * scale, err_msg=f"{name}, iteration {i}")
            compared.add(key)
    assert compared
    return trainee
