"""What 8 bits leave of trained networks: `python -m benchmarks.bits [MODEL.onnx [DATA.npz]]`.

Each network is compiled for `liu2018` with codes of 8 bits, scales by largest magnitudes and by the least error of the
outputs, and with more bits for the values that matter most, up to shares of all reads. PSNR against ONNX Runtime
float32 as `mgc run --check` has it, on samples that calibration has not seen, mean over compilation seeds and, of data,
over `--splits` into halves (every other sample, then random halves); in brackets the energy and the time of a sample
relative to codes of 8 bits, as the program's own account has them, and the bits of a code, on average over
multiply-accumulates and at most.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

import mgc
from mgc.comparison import compare
from mgc.program import Program
from mgc.report.views.summary import input_bits

MODELS = Path(__file__).parents[1] / "models"
NETWORKS: tuple[tuple[str, str | None], ...] = (
    ("dcgan_fashion/dcgan_fashion_G.onnx", None),
    ("dcgan_fashion/dcgan_fashion_D.onnx", "dcgan_fashion/calibration_D.npz"),
    ("deep_gan/deep_gan_G.onnx", None),
    ("upscaler/upscaler_x2.onnx", "upscaler/images.npz"),
)
CASES: dict[str, Mapping[str, Any]] = {
    "8 bits, largest magnitudes": {"calibrate": "minmax"},
    "8 bits": {"extra_bits": 0},
    "default": {},
    **{f"--extra-bits {share}": {"extra_bits": share} for share in (0.02, 0.15, 1.0)},
}
USUAL = "8 bits"
_SAMPLES = 128


def samples(model: Path, data: Path | None, split: int = 0) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(inputs to compare on, compile's calibration): a half of `data` each, or N(0,1) noise and none."""
    proto = onnx.load(model)
    held = {i.name for i in proto.graph.initializer}
    (port,) = (i for i in proto.graph.input if i.name not in held)
    if data is not None:
        with np.load(data) as arrays:
            (array,) = arrays.values()
        every = np.arange(len(array))
        if split:
            every = np.random.default_rng(split).permutation(len(array))
        half, other = np.sort(every[::2]), np.sort(every[1::2])
        return {port.name: array[other]}, {"calibration": {port.name: array[half]}}
    shape = [d.dim_value or _SAMPLES for d in port.type.tensor_type.shape.dim]
    return {port.name: np.random.default_rng(1000).standard_normal(shape).astype(np.float32)}, {}


def costs(program: Program) -> tuple[float, float]:
    """(energy, time) of one run of the compiled batch."""
    return program.meta["energy_j"], program.meta["latency_s"]


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="an ONNX file with one input; else those in models/")
    parser.add_argument("data", nargs="?", type=Path, help="samples of its input, .npz; else N(0,1) noise")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--splits", type=int, default=1)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    given = parser.parse_args()
    chosen = [(MODELS / m, None if d is None else MODELS / d) for m, d in NETWORKS]
    print(f"|network|{'|'.join(given.cases)}|\n|---|{'---|' * len(given.cases)}")
    for model, data in [(given.model, given.data)] if given.model else chosen:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        splits = [samples(model, data, k) for k in range(given.splits if data is not None else 1)]
        wanted = [dict(zip(names, map(np.asarray, session.run(names, feeds)), strict=True)) for feeds, _ in splits]
        cells: list[str] = []
        found: dict[str, tuple[float, float]] = {}
        for case in given.cases:
            psnr: list[float] = []
            programs: list[Program] = []
            for (feeds, options), expected in zip(splits, wanted, strict=True):
                programs = [mgc.compile(model, seed=seed, **options, **CASES[case]) for seed in range(given.seeds)]
                psnr += [compare(mgc.Simulator(p).run(feeds), expected).psnr_db for p in programs]
            found[case] = costs(programs[0])
            beside = [of / usual for of, usual in zip(found[case], found.get(USUAL, found[case]), strict=True)]
            bits = input_bits(programs[0])
            words = ""
            if bits is not None and bits["extra_reads"] > 0:
                words = " ({:.2f}, {:.2f}; {mean:.1f}, {most})".format(*beside, **bits)
            cells.append(f"{np.mean(psnr):.1f}{words}")
        print(f"|{model.stem}|{'|'.join(cells)}|", flush=True)


if __name__ == "__main__":
    main()
