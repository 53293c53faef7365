"""`python -m benchmarks.device`: what devices do to a trained generator and to training: the tables of docs/device.md.

Images of models/dcgan_fashion against ONNX Runtime (PSNR over 64 samples, as `mgc run --check` has it), and a
regression that is trained on devices; the time of an iteration. `--only inference|training|speed` makes one part.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import mgc
from benchmarks.measure import machine
from mgc.comparison import compare
from mgc.isa.program import Program
from mgc.sim import Simulator
from mgc.targets import load_target, target_names

GENERATOR = Path(__file__).parents[1] / "models" / "dcgan_fashion" / "dcgan_fashion_G.onnx"
SAMPLES = 64
SEEDS = (0, 1, 2)
STEPS = 400

IDEAL = {
    "write_sigma": [0.0],
    "stuck_on": 0.0,
    "stuck_off": 0.0,
    "stuck_repair": False,
    "read_noise_levels": 0.0,
    "drift_exponent": 0.0,
    "drift_exponent_sigma": 0.0,
    "pulse_asymmetry": 0.0,
    "pulse_noise": 0.0,
    "pulse_spread": 0.0,
}
MILO = {"on_us": 225.0, "off_us": 50.0, "write_sigma": [0.021255, -0.009107]}
"""CrossSim RRAM_Milo, in its own range."""
WAN = {"on_us": 39.26, "off_us": 0.0, "write_sigma": [0.02682, 0.2374, -0.4582, 0.23675]}
"""CrossSim RRAM_Wan, in its own range."""
CASES: dict[str, Mapping[str, Any]] = {
    "no error": {},
    "writes 1 % of G": {"write_sigma": [0.0, 0.01]},
    "writes 3 % of G": {"write_sigma": [0.0, 0.03]},
    "writes 10 % of G": {"write_sigma": [0.0, 0.1]},
    "writes as RRAM_Milo": MILO,
    "writes as RRAM_Wan": WAN,
    "stuck off 0.1 %": {"stuck_off": 0.001},
    "stuck on 0.01 %": {"stuck_on": 0.0001},
    "stuck on 0.1 %": {"stuck_on": 0.001},
    "stuck on 0.1 %, repaired": {"stuck_on": 0.001, "stuck_repair": True},
    "read noise 0.1 levels": {"read_noise_levels": 0.1},
    "read noise 0.2 levels": {"read_noise_levels": 0.2},
    "read noise 0.5 levels": {"read_noise_levels": 0.5},
    "drift nu 0.005 +- 0.002, 1 month": {"drift_exponent": 0.005, "drift_exponent_sigma": 0.002, "drift_s": 2.6e6},
    "drift nu 0.05 +- 0.01, 1 hour": {"drift_exponent": 0.05, "drift_exponent_sigma": 0.01, "drift_s": 3600.0},
}
"""One non-ideality at a time, in liu2018's cells."""


def with_devices(program: Program, errors: Mapping[str, Any] | None) -> Program:
    """The program for cells with these errors and no others; None: those that its target states."""
    if errors is None:
        return program
    device = {**program.target["device"], **IDEAL, **errors}
    return replace(program, target={**program.target, "device": device})


def spread(values: Sequence[float], form: str) -> str:
    """Mean (least to greatest) of the figures of some seeds."""
    low, high, mean = (format(v, form) for v in (min(values), max(values), sum(values) / len(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def psnr(program: Program, numerics: Any, seed: int, z: np.ndarray, expected: Mapping[str, np.ndarray]) -> float:
    """PSNR of the images for z, in dB."""
    return compare(Simulator(program, numerics=numerics, seed=seed).run({"z": z}), expected).psnr_db


def inference() -> None:
    """PSNR for each target with the devices it states, then for each non-ideality by itself."""
    z = np.random.default_rng(0).standard_normal((SAMPLES, 100)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(GENERATOR), providers=["CPUExecutionProvider"])
    z = z.reshape(SAMPLES, *session.get_inputs()[0].shape[1:])
    names = [o.name for o in session.get_outputs()]
    made: Sequence[Any] = session.run(names, {"z": z})
    expected = dict(zip(names, made, strict=True))

    def over_seeds(program: Program, errors: Mapping[str, Any] | None) -> str:
        changed = with_devices(program, errors)
        return spread([psnr(changed, "device", seed, z, expected) for seed in SEEDS], ".1f")

    print("\n### Targets\n")
    print("PSNR in dB against ONNX Runtime, 64 samples; mean (least to greatest) of three seeds of the cells.\n")
    print("| target | `quantized` | `device`, as stated | without stuck cells | exact columns, as stated |")
    print("|---|---|---|---|---|")
    for name in target_names():
        program = mgc.compile(GENERATOR, target=name, extra_bits=0)
        stated = program.target["device"]
        sound = {key: stated[key] for key in ("write_sigma", "read_noise_levels")}
        simulator = Simulator(program, numerics="device")
        found = [f"{psnr(program, 'quantized', 0, z, expected):.1f}", over_seeds(program, None)]
        print(f"| {name} | {found[0]} | {found[1]} | {over_seeds(program, sound)} | {simulator.exact_columns:.3f} |")
    print("\n### One non-ideality at a time, liu2018\n")
    print("| non-ideality | PSNR, dB |")
    print("|---|---|")
    program = mgc.compile(GENERATOR, extra_bits=0)
    for title, errors in CASES.items():
        print(f"| {title} | {over_seeds(program, errors)} |", flush=True)


def regression() -> onnx.ModelProto:
    """The mean squared error of a perceptron 4-32-32-1 with tanh, as a step model: loss of net.* on x, y."""
    rng = np.random.default_rng(1)
    sizes = (4, 32, 32, 1)
    nodes, tensors, at = [], [], "x"
    for k, (rows, cols) in enumerate(pairwise(sizes)):
        weight = (rng.standard_normal((cols, rows)) / np.sqrt(rows)).astype(np.float32)
        tensors += [numpy_helper.from_array(weight, f"net.{k}.weight")]
        tensors += [numpy_helper.from_array(np.zeros(cols, np.float32), f"net.{k}.bias")]
        nodes.append(helper.make_node("Gemm", [at, f"net.{k}.weight", f"net.{k}.bias"], [f"s{k}"], transB=1))
        at = f"s{k}"
        if k < len(sizes) - 2:
            nodes.append(helper.make_node("Tanh", [at], [f"h{k}"]))
            at = f"h{k}"
    nodes += [
        helper.make_node("Sub", [at, "y"], ["off"]),
        helper.make_node("Mul", ["off", "off"], ["square"]),
        helper.make_node("ReduceMean", ["square"], ["loss"], keepdims=0),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", w]) for n, w in (("x", 4), ("y", 1))]
    loss = [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [])]
    graph = helper.make_graph(nodes, "regression", ports, loss, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def trained(program: Program, numerics: Any, seed: int) -> float:
    """Mean loss of the last tenth of `STEPS` steps; the targets' variance is 1."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((STEPS, 64, 4)).astype(np.float32)
    y = np.sin(2 * x[..., :1]) + x[..., 1:2] * x[..., 2:3] + 0.5 * np.abs(x[..., 3:])
    y = ((y - y.mean()) / y.std()).astype(np.float32)
    simulator = Simulator(program.part(program.entries[0].name), "fast", numerics, 1, seed)
    losses = [float(simulator.run_iteration({"x": a, "y": b})["loss"]) for a, b in zip(x, y, strict=True)]
    return float(np.mean(losses[-STEPS // 10 :]))


def training() -> None:
    """Loss of the regression on several devices, whole weights in slices or in one cell."""
    print("\n### Training\n")
    print(f"Mean squared error of the last {STEPS // 10} of {STEPS} steps (Adam, 5e-3, batch 64; the targets' variance")
    print("is 1); mean (least to greatest) of the seeds of the cells.\n")
    print("| devices | loss |")
    print("|---|---|")
    sliced = load_target("liu2018")
    wide = sliced.crossbar.model_copy(update={"cell_bits": 8, "adc_bits": 16})
    narrow = sliced.training.model_copy(update={"master_bits": 9})
    analog = sliced.model_copy(update={"crossbar": wide, "training": narrow})
    step = {"phases": ["net=loss"], "optimizer": "adam", "lr": 5e-3, "batch": 64}
    for title, target, cases in (
        ("16 bits in 2-bit slices", sliced, SLICED),
        ("9 bits, one cell a sign", analog, ANALOG),
    ):
        program = mgc.compile_training(regression().SerializeToString(), target=target, **step)
        for numerics in ("float", "quantized"):
            print(f"| {title}: `{numerics}` | {trained(program, numerics, 0):.4f} |", flush=True)
        for name, errors in cases.items():
            changed = with_devices(program, errors)
            found = spread([trained(changed, "device", seed) for seed in SEEDS[:2]], ".4f")
            print(f"| {title}: {name} | {found} |", flush=True)


def speed() -> None:
    """Seconds of one iteration of the Fashion-MNIST DCGAN, batch 64."""
    print("\n### Speed\n")
    print("One iteration of the DCGAN of models/dcgan_fashion, batch 64, Adam: processor seconds (of all threads) and")
    print("seconds on the clock, the lesser of two.\n")
    print("| numerics | processor | clock |")
    print("|---|---|---|")
    discriminator = GENERATOR.with_name("dcgan_fashion_D.onnx")
    program = mgc.compile_training(GENERATOR, discriminator=discriminator, loss="bce", batch=64)
    rows: dict[str, tuple[Any, Mapping[str, Any] | None]] = {
        "`quantized`": ("quantized", None),
        "`device`, as stated": ("device", None),
        "`device`, writes as RRAM_Milo": ("device", MILO),
    }
    for title, (numerics, errors) in rows.items():
        part = with_devices(program, errors).part(program.entries[0].name)
        simulator = Simulator(part, numerics=numerics)
        rng = np.random.default_rng(0)
        feeds = {p.name: rng.standard_normal(p.shape).astype(np.float32) for p in part.inputs}
        simulator.run_iteration(feeds)
        times = []
        for _ in range(2):
            begin = time.process_time(), time.perf_counter()
            simulator.run_iteration(feeds)
            times.append((time.process_time() - begin[0], time.perf_counter() - begin[1]))
        cpu, wall = (min(t[k] for t in times) for k in (0, 1))
        print(f"| {title} | {cpu:.2f} s | {wall:.2f} s |", flush=True)


RERAM_ES = {"pulse_levels": 1481, "pulse_asymmetry": 0.259, "pulse_noise": 5.0, "pulse_spread": 0.2}
"""aihwkit ReRamES."""
SLICED: dict[str, Mapping[str, Any] | None] = {
    "as liu2018 states": None,
    "stuck on and off 0.1 %, not repaired": {"stuck_on": 0.001, "stuck_off": 0.001},
    "verified writes, 1 % of G": {"write_sigma": [0.0, 0.01]},
    "verified writes, 5 % of G": {"write_sigma": [0.0, 0.05]},
    "verified writes as RRAM_Milo": MILO,
    "pulses of aihwkit ReRamES": {"update": "pulses", **RERAM_ES},
}
ANALOG: dict[str, Mapping[str, Any] | None] = {
    "verified writes without error": {},
    "verified writes, 1 % of G": {"write_sigma": [0.0, 0.01]},
    "100,000 pulses without error": {"update": "pulses", "pulse_levels": 100_000},
    "1481 pulses without error": {"update": "pulses", "pulse_levels": 1481},
    "pulses of aihwkit ReRamES, no asymmetry": {"update": "pulses", **RERAM_ES, "pulse_asymmetry": 0.0},
    "pulses of aihwkit ReRamES": {"update": "pulses", **RERAM_ES},
}


def main(arguments: Sequence[str]) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=__doc__)
    parser.add_argument("--only", choices=("inference", "training", "speed"))
    only = parser.parse_args(arguments).only
    print(machine())
    for part in (inference, training, speed):
        if only in (None, part.__name__):
            part()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
