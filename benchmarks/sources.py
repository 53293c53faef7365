"""Where the error of 8-bit results comes from: `python -m benchmarks.sources [MODEL.onnx ...]`.

Each network is compiled for `liu2018` as it is, then with sources of error taken away: weights, inputs or converters of
16 bits, or all but one of them. PSNR against ONNX Runtime, as `mgc run --check` has it, mean over
compilation seeds. What grows most is what to work on: better rounding of weights cannot help where inputs decide.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import mgc
from mgc.comparison import compare

MODELS = Path(__file__).parents[1] / "models"
NETWORKS = ("dcgan_fashion/dcgan_fashion_G", "dcgan_fashion/dcgan_fashion_D", "gan1d/gan1d_G", "gan1d/gan1d_D")
WEIGHTS, INPUTS, CONVERTERS = {"crossbar.weight_bits": 16}, {"crossbar.input_bits": 16}, {"crossbar.adc_bits": 16}
CASES: dict[str, Mapping[str, int]] = {
    "8 bits": {},
    "weights of 16": WEIGHTS,
    "inputs of 16": INPUTS,
    "converters of 16": CONVERTERS,
    "only weights of 8": {**INPUTS, **CONVERTERS},
    "only inputs of 8": {**WEIGHTS, **CONVERTERS},
}


def psnr(model: Path, changes: Mapping[str, int], samples: int, seed: int) -> float:
    """dB of `samples` samples of N(0,1) noise."""
    target = mgc.load_target("liu2018").replace(changes)
    program = mgc.compile(model, target=target, seed=seed, extra_bits=0)
    rng = np.random.default_rng(1000)
    ports = onnx.load(model).graph.input
    shapes = {i.name: [d.dim_value or samples for d in i.type.tensor_type.shape.dim] for i in ports}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    wanted = dict(zip(names, map(np.asarray, session.run(names, feeds)), strict=True))
    return compare(mgc.Simulator(program).run(feeds), wanted).psnr_db


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="ONNX files; those in models/ if none is named")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    print(f"|network|{'|'.join(CASES)}|\n|---|{'---|' * len(CASES)}")
    for model in given.models or [MODELS / f"{name}.onnx" for name in NETWORKS]:
        found = [
            np.mean([psnr(model, changes, given.samples, seed) for seed in range(given.seeds)])
            for changes in CASES.values()
        ]
        print(f"|{model.stem}|{'|'.join(f'{p:.1f}' for p in found)}|", flush=True)


if __name__ == "__main__":
    main()
