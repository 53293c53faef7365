"""The exported losses of tests/data/losses: each one's scores, values and gradients by PyTorch in float64."""

from functools import cache
from pathlib import Path

import numpy as np

from mgc.frontend import import_model
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import DiffBlock
from mgc.passes.losses.fuse_loss import FusedLosses, fuse_losses

FOLDER = Path(__file__).parent.parent / "data" / "losses"
FILES = (
    "linear_dynamo",
    "linear_dynamo_dynamic",
    "linear_torchscript",
    "linear_torchscript_dynamic",
    "patch_dynamo",
    "patch_torchscript",
)
BATCH = 6


@cache
def expected() -> dict[str, np.ndarray]:
    """Arrays by "linear/NAME" or "patch/NAME"; NAME/dr and NAME/df are gradients by the real and fake scores."""
    with np.load(FOLDER / "expected.npz") as archive:
        return {name: archive[name] for name in archive.files}


@cache
def imported(file: str) -> Graph:
    """The graph of a file, the discriminator's weights marked as parameters."""
    graph = import_model(FOLDER / f"{file}.onnx", batch=BATCH if "dynamic" in file else 1, keep_parameters=True).graph
    for constant in graph.constants.values():
        if constant.onnx_name.startswith("D."):
            constant.group = "discriminator"
    return graph


@cache
def fused(file: str) -> FusedLosses:
    """All losses of a file, fused."""
    graph = imported(file)
    return fuse_losses(graph, [name for name, _ in graph.outputs])


def feeds(file: str) -> dict[str, np.ndarray]:
    """The inputs of a file's graph."""
    kind = file.split("_")[0]
    return {v.name: expected()[f"{kind}/{v.name}"] for v in imported(file).inputs}


def blocks_of(graph: Graph, value: Value) -> list[Node]:
    """The diff-blocks that a loss is added up from, in order."""
    producers = graph.producers()
    found: dict[int, Node] = {}
    stack = [value]
    while stack:
        node = producers.get(stack.pop())
        if node is None:
            continue
        if isinstance(node.op, DiffBlock):
            found[id(node)] = node
        else:
            stack.extend(node.inputs)
    return [n for n in graph.nodes if id(n) in found]
