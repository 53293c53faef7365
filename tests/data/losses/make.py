"""Makes the exported losses of this folder: every loss that the tests know, by both of PyTorch's exporters.

Run in an environment with torch 2.13.0, onnx and onnxscript: `python tests/data/losses/make.py`. Each file has one
tiny discriminator (a linear layer, or a convolution whose scores are 4-D) on a real and a fake batch, and one output a
loss; `expected.npz` holds the inputs, the weights and each loss's value and gradients in float64 by PyTorch itself.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

F = nn.functional
BATCH = 6
FEATURES = 3
IMAGE = (2, 5, 5)

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
SMOOTH = torch.tensor([[0.9], [1.0], [0.75], [0.9], [1.0], [0.8]])


def bce(p, target):
    return F.binary_cross_entropy(p, torch.full_like(p, target))


def logits(s, target, **options):
    return F.binary_cross_entropy_with_logits(s, torch.full_like(s, target), **options)


def square(s, target):
    return F.mse_loss(s, torch.full_like(s, target))


def rasgan(r, f):
    return (logits(r - f.mean(), 1.0) + logits(f - r.mean(), 0.0)) / 2


# r, f: raw scores of the real and the fake batch; t: targets given at run time, of the shape of r
LOSSES: dict[str, Loss] = {
    "bce_d": lambda r, f, t: bce(torch.sigmoid(r), 1.0) + bce(torch.sigmoid(f), 0.0),
    "bce_g": lambda r, f, t: bce(torch.sigmoid(f), 1.0),
    "bce_t": lambda r, f, t: F.binary_cross_entropy(torch.sigmoid(r), t),
    "bce_flat": lambda r, f, t: F.binary_cross_entropy(
        torch.sigmoid(r).view(-1), torch.full((r.numel(),), 1.0, dtype=r.dtype)
    ),
    "logits_d": lambda r, f, t: logits(r, 1.0) + logits(f, 0.0),
    "logits_g": lambda r, f, t: logits(f, 1.0),
    "logits_t": lambda r, f, t: F.binary_cross_entropy_with_logits(r, t),
    "logits_smooth": lambda r, f, t: logits(r, 0.9),
    "logits_noisy": lambda r, f, t: F.binary_cross_entropy_with_logits(r.flatten()[:6], SMOOTH.flatten().to(r.dtype)),
    "logits_weight": lambda r, f, t: 0.5 * logits(r, 1.0) + 0.25 * logits(f, 0.0),
    "logits_sum": lambda r, f, t: logits(r, 1.0, reduction="sum"),
    "logits_samples": lambda r, f, t: logits(r, 1.0, reduction="none").flatten(1).mean(1).mean(),
    "logits_split": lambda r, f, t: 0.9 * logits(r, 1.0) + 0.1 * logits(r, 0.0),
    "nonsaturating_g": lambda r, f, t: -torch.log(torch.sigmoid(f)).mean(),
    "minimax_g": lambda r, f, t: torch.log(1 - torch.sigmoid(f)).mean(),
    "log_d": lambda r, f, t: -(torch.log(torch.sigmoid(r)) + torch.log(1 - torch.sigmoid(f))).mean(),
    "logsigmoid": lambda r, f, t: -F.logsigmoid(r).mean(),
    "log_clamped": lambda r, f, t: -torch.log(torch.sigmoid(r).clamp(min=1e-12)).mean(),
    "log_clamped_twice": lambda r, f, t: -torch.log(torch.sigmoid(r).clamp(1e-7, 1 - 1e-7)).mean(),
    "log_offset": lambda r, f, t: -torch.log(1 - torch.sigmoid(f) + 1e-8).mean(),
    "softplus_d": lambda r, f, t: F.softplus(-r).mean() + F.softplus(f).mean(),
    "softplus_g": lambda r, f, t: F.softplus(-f).mean(),
    "softplus_by_hand": lambda r, f, t: torch.log(1 + torch.exp(-r)).mean(),
    "mse_d": lambda r, f, t: square(r, 1.0) + square(f, 0.0),
    "mse_g": lambda r, f, t: square(f, 1.0),
    "mse_t": lambda r, f, t: F.mse_loss(r, t),
    "mse_sum": lambda r, f, t: F.mse_loss(r, torch.ones_like(r), reduction="sum"),
    "mse_half": lambda r, f, t: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean(),
    "mse_of_sigmoid": lambda r, f, t: square(torch.sigmoid(r), 1.0),
    "wgan_d": lambda r, f, t: f.mean() - r.mean(),
    "wgan_g": lambda r, f, t: -f.mean(),
    "wgan_pairs": lambda r, f, t: (f - r).mean(),
    "hinge_relu": lambda r, f, t: F.relu(1 - r).mean() + F.relu(1 + f).mean(),
    "hinge_min": lambda r, f, t: (
        -torch.min(r - 1, torch.zeros_like(r)).mean() - torch.min(-f - 1, torch.zeros_like(f)).mean()
    ),
    "hinge_clamp": lambda r, f, t: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(),
    "hinge_margin": lambda r, f, t: F.relu(0.3 - r).mean(),
    "rsgan_d": lambda r, f, t: logits(r - f, 1.0),
    "rsgan_g": lambda r, f, t: logits(f - r, 1.0),
    "rsgan_log": lambda r, f, t: -torch.log(torch.sigmoid(r - f) + 1e-8).mean(),
    "rasgan_d": lambda r, f, t: rasgan(r, f),
    "rasgan_g": lambda r, f, t: rasgan(f, r),
    "ralsgan_d": lambda r, f, t: ((r - f.mean() - 1) ** 2).mean() + ((f - r.mean() + 1) ** 2).mean(),
    "rahinge_d": lambda r, f, t: F.relu(1 - (r - f.mean())).mean() + F.relu(1 + (f - r.mean())).mean(),
    "wgan_drift": lambda r, f, t: f.mean() - r.mean() + 0.001 * (r**2).mean(),
    "l1": lambda r, f, t: (r - 1).abs().mean(),
    "huber": lambda r, f, t: F.smooth_l1_loss(r, torch.ones_like(r)),
    "quartic": lambda r, f, t: (r**4).mean(),
    "mean_tanh": lambda r, f, t: torch.tanh(r).mean(),
    "exponential": lambda r, f, t: torch.exp(-0.5 * r).mean(),
    "penalty": lambda r, f, t: 10 * ((r.flatten(1).norm(2, dim=1) - 1) ** 2).mean() - r.mean(),
    "batch_mean": lambda r, f, t: (r.mean() - f.mean()) ** 2,
}
# F.binary_cross_entropy and the like, which the TorchScript exporter has no form for
DYNAMO_ONLY = {"bce_d", "bce_g", "bce_t", "bce_flat", "huber"}


class Step(nn.Module):
    """All losses of one discriminator, in the order of `names`."""

    def __init__(self, names: list[str], patch: bool) -> None:
        super().__init__()
        self.names = names
        self.D = nn.Conv2d(IMAGE[0], 1, 3) if patch else nn.Linear(FEATURES, 1)

    def forward(self, real: Tensor, fake: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        r, f = self.D(real), self.D(fake)
        return tuple(LOSSES[name](r, f, target) for name in self.names)


def inputs(patch: bool, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)
    shape = (BATCH, *IMAGE) if patch else (BATCH, FEATURES)
    real, fake = (2 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    scores = (BATCH, 1, 3, 3) if patch else (BATCH, 1)
    target = torch.rand(scores, generator=generator, dtype=torch.float64)
    return tuple(x.float().to(dtype) for x in (real, fake, target))


def export(step: Step, patch: bool, dynamo: bool, dynamic: bool, path: Path) -> None:
    options = {"opset_version": 18 if dynamo else 17, "input_names": ["real", "fake", "target"]}
    if dynamic and dynamo:
        batch = torch.export.Dim("batch", min=2)
        options["dynamic_shapes"] = {name: {0: batch} for name in options["input_names"]}
    elif dynamic:
        options["dynamic_axes"] = {name: {0: "batch"} for name in options["input_names"]}
    names = step.names
    program = torch.onnx.export(
        step, inputs(patch), None if dynamo else path, dynamo=dynamo, output_names=names, **options
    )
    if dynamo:
        program.save(path)
    model = onnx.load(path)
    for node in model.graph.node:  # stack traces with paths of the machine that made it
        del node.metadata_props[:]
    del model.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.value_info[:]
    onnx.save(model, path)


def main() -> None:
    folder = Path(__file__).parent
    warnings.simplefilter("ignore")
    expected: dict[str, np.ndarray] = {}
    for patch in (False, True):
        kind = "patch" if patch else "linear"
        torch.manual_seed(3)
        every = Step(list(LOSSES), patch)
        for dynamo in (True, False):
            for dynamic in (False, True):
                if patch and dynamic:
                    continue
                left_out = set() if dynamo else DYNAMO_ONLY
                left_out = left_out | ({"bce_flat", "logits_noisy"} if dynamic else set())
                step = Step([n for n in LOSSES if n not in left_out], patch)
                step.load_state_dict(every.state_dict())
                name = f"{kind}_{'dynamo' if dynamo else 'torchscript'}{'_dynamic' if dynamic else ''}.onnx"
                export(step, patch, dynamo, dynamic, folder / name)
                print(name, (folder / name).stat().st_size)
        data = inputs(patch, torch.float64)
        double = every.double()
        for name, x in zip(("real", "fake", "target"), data, strict=True):
            expected[f"{kind}/{name}"] = x.numpy().astype(np.float32)
        r, f = double.D(data[0]).detach().requires_grad_(), double.D(data[1]).detach().requires_grad_()
        for name, loss in LOSSES.items():
            value = loss(r, f, data[2])
            grads = torch.autograd.grad(value, (r, f), allow_unused=True)
            expected[f"{kind}/{name}"] = value.detach().numpy()
            for side, g in zip("rf", grads, strict=True):
                if g is not None:
                    expected[f"{kind}/{name}/d{side}"] = g.numpy()
        expected[f"{kind}/r"], expected[f"{kind}/f"] = r.detach().numpy(), f.detach().numpy()
    np.savez_compressed(folder / "expected.npz", **expected)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    main()
