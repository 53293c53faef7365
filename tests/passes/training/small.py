"""Hand-made training models: a linear generator and critic, small enough to follow by hand."""

import numpy as np
from iterations import check_forward

from mgc.ir.build import Build
from mgc.ir.graph import Graph
from mgc.ir.module import Entry, Module
from mgc.ir.training import Data, Forward, State
from mgc.ir.types import DType, TensorType

BATCH = 2


def linear_gan() -> Module:
    """fake = z g; scores = v d; loss_d = mean (x d) (fake d), loss_g = -mean (fake d)."""
    graph = Graph("linear")
    f32 = DType.F32
    z = graph.add_input("z", TensorType(f32, (BATCH, 2)))
    x = graph.add_input("x", TensorType(f32, (BATCH, 3)))
    g = graph.add_input("gen.w", TensorType(f32, (2, 3)))
    d = graph.add_input("dis.w", TensorType(f32, (3, 1)))
    build = Build(graph, sources=("generator",))
    fake = build.matmul(z, g)
    build.sources = ("critic",)
    real_scores, fake_scores = build.matmul(x, d), build.matmul(fake, d)
    build.sources = ("loss",)
    product = build.mul(real_scores, fake_scores)
    loss_d = build.reduce("mean", product, (0, 1), keepdims=False)
    loss_g = build.neg(build.reduce("mean", fake_scores, (0, 1), keepdims=False))
    graph.outputs = [("loss_d", loss_d), ("loss_g", loss_g)]
    rng = np.random.default_rng(0)
    states = (
        State("gen.w", "parameter", rng.standard_normal((2, 3)).astype(np.float32), "gen", "gen.w"),
        State("dis.w", "parameter", rng.standard_normal((3, 1)).astype(np.float32), "dis", "dis.w"),
    )
    forward = Forward((Data("z"), Data("x", "given")), ("loss_d", "loss_g"))
    model = Module("linear", (Entry("forward", "train", graph, attributes={"forward": forward}),), states)
    check_forward(model)
    return model


def batch(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "z": rng.standard_normal((BATCH, 2)).astype(np.float32),
        "x": rng.standard_normal((BATCH, 3)).astype(np.float32),
    }
