# SPDX-License-Identifier: Apache-2.0
"""Exports a PyTorch module to ONNX with either of PyTorch's exporters, and checks the file.

Both exporters write the same thing as far as they can: one file with the weights inside, one
input and one output, the leading axis dynamic and named "N", parameters under their PyTorch
module paths. Nothing in a file depends on when or where it was made.
"""

import argparse
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.onnx import TrainingMode

# Without this, each dynamo export reports four times that torchvision is not installed.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)

Exporter = Literal["dynamo", "torchscript"]

# Each exporter's opset. 20 is the default of both in PyTorch 2.13; the TorchScript files stay at
# 17 because that is what most DCGAN files made before 2025 carry.
OPSETS: dict[Exporter, int] = {"dynamo": 20, "torchscript": 17}

# The largest |ONNX Runtime - PyTorch| that an exported file may show.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """What was written: one line of the table in models/README.md."""

    path: Path
    exporter: Exporter
    opset: int
    parameters: int
    size_bytes: int
    max_abs_err: float
    ops: dict[str, int]

    def __str__(self) -> str:
        ops = ", ".join(f"{count} {op}" for op, count in sorted(self.ops.items()))
        return (
            f"{self.path.name}: {self.exporter}, opset {self.opset}, {self.parameters:,} parameters, "
            f"{self.size_bytes:,} bytes, max |ORT - PyTorch| {self.max_abs_err:.1e}\n    {ops}"
        )


def export(
    model: nn.Module,
    path: Path,
    example: torch.Tensor,
    *,
    input_name: str,
    output_name: str,
    exporter: Exporter = "dynamo",
    keep_batchnorm: bool = False,
) -> Exported:
    """Writes `model` (in eval mode) to `path` and returns what was written.

    Left to themselves, both exporters fold BatchNorm into a Conv before it, and dynamo also into a
    ConvTranspose. `keep_batchnorm` (TorchScript only) keeps every one of them as a node.

    `example` is a batch [N, ...] with N >= 2: the exporters trace it, and the check runs it.
    Raises RuntimeError if ONNX Runtime and PyTorch disagree by more than TOLERANCE.
    """
    if example.shape[0] < 2:
        raise ValueError(
            f"export of {path.name}: the example batch has {example.shape[0]} sample; give at "
            "least 2, or the exporter fixes the batch axis to 1"
        )
    model = model.to("cpu", memory_format=torch.contiguous_format).eval()
    opset = OPSETS[exporter]
    if keep_batchnorm and exporter != "torchscript":
        raise ValueError(f"export of {path.name}: keep_batchnorm needs exporter='torchscript'")
    with warnings.catch_warnings():
        # PyTorch warns that the TorchScript exporter is the old one: it is asked for on purpose.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # torch.export copies its own deprecated pytree specs.
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        if exporter == "dynamo":
            torch.onnx.export(
                model,
                (example,),
                path,
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=opset,
                input_names=[input_name],
                output_names=[output_name],
                dynamic_shapes=({0: torch.export.Dim("N", min=1)},),
            )
        else:
            torch.onnx.export(
                model,
                (example,),
                path,
                dynamo=False,
                opset_version=opset,
                input_names=[input_name],
                output_names=[output_name],
                dynamic_axes={input_name: {0: "N"}, output_name: {0: "N"}},
                # Fusing happens in EVAL only; PRESERVE takes the module's own mode, eval as well.
                training=TrainingMode.PRESERVE if keep_batchnorm else TrainingMode.EVAL,
                do_constant_folding=not keep_batchnorm,
            )
    _strip_provenance(path)
    return check(model, path, example, exporter=exporter)


def check(model: nn.Module, path: Path, example: torch.Tensor, *, exporter: Exporter) -> Exported:
    """Validates the file and compares it with `model`, at the traced batch and at batch 1."""
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    [source] = proto.graph.input
    axis = source.type.tensor_type.shape.dim[0]
    if axis.dim_param != "N":
        raise RuntimeError(f"{path.name}: the batch axis of '{source.name}' is {axis}, not 'N'")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (example, example[:1]):
        with torch.no_grad():
            expected = model(batch).numpy()
        [got] = session.run(None, {source.name: batch.numpy()})
        if got.shape != expected.shape:
            raise RuntimeError(f"{path.name}: ONNX Runtime gives {got.shape}, PyTorch {expected.shape}")
        worst = max(worst, float(np.abs(got - expected).max()))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"{path.name}: ONNX Runtime and PyTorch differ by {worst:.2e} > {TOLERANCE:.0e}")
    ops: dict[str, int] = {}
    for node in proto.graph.node:
        ops[node.op_type] = ops.get(node.op_type, 0) + 1
    return Exported(
        path=path,
        exporter=exporter,
        opset=proto.opset_import[0].version,
        parameters=sum(p.numel() for p in model.parameters()),
        size_bytes=path.stat().st_size,
        max_abs_err=worst,
        ops=ops,
    )


def export_both(
    model: nn.Module, stem: Path, example: torch.Tensor, *, input_name: str, output_name: str
) -> list[Exported]:
    """Writes STEM.onnx (dynamo exporter) and STEM_ts.onnx (TorchScript exporter)."""
    variants: list[tuple[str, Exporter]] = [("", "dynamo"), ("_ts", "torchscript")]
    return [
        export(
            model,
            stem.with_name(f"{stem.name}{suffix}.onnx"),
            example,
            input_name=input_name,
            output_name=output_name,
            exporter=exporter,
        )
        for suffix, exporter in variants
    ]


def _strip_provenance(path: Path) -> None:
    """Drops the stack traces (they hold file paths of this machine) and the producer's notes."""
    proto = onnx.load(path)
    proto.doc_string = ""
    proto.graph.doc_string = ""
    del proto.metadata_props[:]
    del proto.graph.metadata_props[:]
    for item in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del item.metadata_props[:]
        item.doc_string = ""
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    path.write_bytes(proto.SerializeToString(deterministic=True))


def arguments(
    description: str, folder: Path, *, paths: dict[str, Path] | None = None, threads: int = 2, **numbers: int
) -> argparse.Namespace:
    """Reads the command line that every make.py shares, and seeds PyTorch.

    --out (default `folder`), --seed, --threads, and one option for each of `paths` and `numbers`,
    which give its default.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=folder, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the training")
    parser.add_argument(
        "--threads", type=int, default=threads, help="threads PyTorch may use: another number gives other bits"
    )
    for name, default in (paths or {}).items():
        parser.add_argument(f"--{name}", type=Path, default=default)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    return options
