"""Makes the data of the training tests: networks and step models as ONNX from both of PyTorch's exporters, and what
PyTorch makes of them in float64, four iterations of D and G.

    python tests/data/training/make.py        (needs torch and onnxscript: `pip install -e .[models]`)

NAME.onnx      networks (G, D) and step models; `_dynamo` and `_ts` say which exporter; `_plain`: dynamo unoptimised
KIND.npz       data/NAME: inputs [iterations, ...]; RUN/losses/LOSS: [iterations]; RUN/PARAMETER: [iterations, ...]
"""

import copy
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from networks import BATCH, networks
from steps import CycleGan, Pix2Pix, Step, Stripes, minimise

F = torch.nn.functional
HERE = Path(__file__).parent
ITERATIONS = 4
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=2e-3, betas=(0.5, 0.999)),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
}
logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")


# -- exporting -----------------------------------------------------------------------------------------------------


def export(module, example, path, exporter, outputs):
    fresh = {k: v.numpy().copy() for k, v in module.state_dict().items()}
    inputs = list(example)
    options = {"input_names": inputs, "output_names": outputs}
    args = tuple(example.values())
    if exporter == "ts":
        torch.onnx.export(
            module.train(),
            args,
            path,
            dynamo=False,
            opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            **options,
        )
    elif exporter == "tseval":
        torch.onnx.export(module.eval(), args, path, dynamo=False, opset_version=17, **options)
    else:
        program = torch.onnx.export(
            module.eval(), args, dynamo=True, verbose=False, optimize=exporter == "dynamo", **options
        )
        program.save(path, external_data=False)
    strip(path)
    restore(path, fresh)


def restore(path, fresh):
    """Puts running statistics back to their start: tracing in training mode has moved them."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(("running_mean", "running_var")):
            tensor.CopyFrom(onnx.numpy_helper.from_array(fresh[tensor.name], tensor.name))
    path.write_bytes(model.SerializeToString(deterministic=True))


def strip(path, everything=False):
    """Drops stack traces (they name files of this machine); with `everything` all of the exporter's notes."""
    model = onnx.load(path)
    model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for item in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        item.doc_string = ""
        kept = [p for p in item.metadata_props if "stack" not in p.key and not everything]
        kept = [onnx.StringStringEntryProto(key=p.key, value=p.value) for p in kept]
        del item.metadata_props[:]
        item.metadata_props.extend(kept)
    path.write_bytes(model.SerializeToString(deterministic=True))


# -- what PyTorch does ---------------------------------------------------------------------------------------------


def means(r, f, target):
    return F.binary_cross_entropy_with_logits(r - f.mean(), torch.full_like(r, target))


def bce(x, target):
    return F.binary_cross_entropy_with_logits(x, torch.full_like(x, target))


LOSSES = {
    "bce": (lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda r, f: bce(f, 1.0)),
    "minimax": (lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda r, f: torch.log(1 - torch.sigmoid(f)).mean()),
    "lsgan": (lambda r, f: ((r - 1) ** 2).mean() + (f**2).mean(), lambda r, f: ((f - 1) ** 2).mean()),
    "wgan": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "wgan-gp": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "hinge": (lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(), lambda r, f: -f.mean()),
    "relativistic": (lambda r, f: bce(r - f, 1.0), lambda r, f: bce(f - r, 1.0)),
    "relativistic-average": (
        lambda r, f: (means(r, f, 1.0) + means(f, r, 0.0)) / 2,
        lambda r, f: (means(f, r, 1.0) + means(r, f, 0.0)) / 2,
    ),
}


class Composed(torch.nn.Module):
    """G and D under a loss, one iteration as the training script does it."""

    def __init__(self, generator, discriminator, loss, redraw=False):
        super().__init__()
        self.generator, self.discriminator, self.loss, self.redraw = generator, discriminator, loss, redraw

    def train_once(self, optimizers, data, clip):
        g, d, x = self.generator, self.discriminator, data["x"]
        loss_d, loss_g = LOSSES[self.loss]
        fake = g(data["z"])
        critic = loss_d(d(x), d(fake.detach()))
        if self.loss == "wgan-gp":
            between = (data["epsilon"] * x + (1 - data["epsilon"]) * fake.detach()).requires_grad_()
            (slope,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
            critic = critic + 10.0 * ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        minimise(critic, optimizers["discriminator"], clip)
        if self.redraw:
            fake = g(data["z.redrawn"])
        real = d(x) if "relativistic" in self.loss else None
        second = loss_g(real, d(fake))
        minimise(second, optimizers["generator"])
        return {"loss_d": critic, "loss_g": second}


def train(module, data, groups, optimizer, clip=None):
    """Losses and all parameters and statistics after every iteration, in float64, from the float32 start."""
    module = copy.deepcopy(module).double().train()
    optimizers = {}
    for group, prefixes in groups.items():
        mine = [p for n, p in module.named_parameters() if any(n.startswith(prefix) for prefix in prefixes)]
        optimizers[group] = OPTIMIZERS[optimizer](mine)
    record = {}
    for i in range(ITERATIONS):
        now = {k: v[i] for k, v in data.items()}
        now = {k: v.double() if v.is_floating_point() else v for k, v in now.items()}
        for name, loss in module.train_once(optimizers, now, clip).items():
            record.setdefault(f"losses/{name}", []).append(loss.item())
        for name, value in module.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                record.setdefault(name, []).append(value.detach().numpy().astype(np.float32).copy())
    return {k: np.array(v) for k, v in record.items()}


def draw(**shapes):
    return {
        name: torch.rand(ITERATIONS, BATCH, *shape) if name == "epsilon" else torch.randn(ITERATIONS, BATCH, *shape)
        for name, shape in shapes.items()
    }


PAIR = {"discriminator": ["discriminator."], "generator": ["generator."]}


def composed(net, runs, exporters):
    """G and D as files of their own. Runs are (loss, optimizer, clip, redraw)."""
    torch.manual_seed(sum(map(ord, net)))
    g, d, noise, sample = networks(net)
    data = draw(z=noise, x=sample, epsilon=(1,) * len(sample), **{"z.redrawn": noise})
    for exporter in exporters:
        export(copy.deepcopy(g), {"z": data["z"][0]}, HERE / f"{net}_G_{exporter}.onnx", exporter, ["image"])
        export(copy.deepcopy(d), {"x": data["x"][0]}, HERE / f"{net}_D_{exporter}.onnx", exporter, ["score"])
    record = {f"data/{k}": v.numpy() for k, v in data.items()}
    d.sigmoid = False  # PyTorch trains on the logits: what goes into the sigmoid
    for loss, optimizer, clip, redraw in runs:
        found = train(Composed(g, d, loss, redraw), data, PAIR, optimizer, clip)
        record |= {f"{loss}-{optimizer}{'-redraw' if redraw else ''}/{k}": v for k, v in found.items()}
    np.savez_compressed(HERE / f"composed_{net}.npz", **record)


def step(name, module, data, groups, runs, exporters, outputs):
    """A step model. Runs are (optimizer, clip)."""
    for exporter in exporters:
        example = {k: v[0] for k, v in data.items()}
        export(copy.deepcopy(module), example, HERE / f"step_{name}_{exporter}.onnx", exporter, outputs)
    record = {f"data/{k}": v.numpy() for k, v in data.items()}
    for optimizer, clip in runs:
        found = train(module, data, groups, optimizer, clip)
        record |= {f"{optimizer}/{k}": v for k, v in found.items()}
    np.savez_compressed(HERE / f"step_{name}.npz", **record)


def main():
    all_losses = [(loss, o, 0.1 if loss == "wgan" else None, False) for loss in LOSSES for o in OPTIMIZERS]
    composed("mlp", [*all_losses, ("bce", "adam", None, True)], ["dynamo", "ts"])
    composed("mlpsig", [("bce", "adam", None, False), ("minimax", "sgd", None, False)], ["dynamo", "ts"])
    few = [
        ("bce", "adam", None, False),
        ("wgan-gp", "rmsprop", None, False),
        ("relativistic-average", "sgd", None, False),
    ]
    composed("dcgan", [*few, ("bce", "sgd", None, True)], ["plain", "ts"])
    composed("odd", [("hinge", "adam", None, False), ("wgan-gp", "sgd", None, False)], ["dynamo", "ts"])

    both, losses = ["dynamo", "ts"], ["loss_d", "loss_g"]
    for loss in ("bce", "soft", "minimax", "softplus", "lsgan", "wgan", "hinge", "hingemin", "relativistic", "average"):
        torch.manual_seed(len(loss))
        module = Step("mlp", loss)
        clip = 0.05 if loss == "wgan" else None
        data = draw(z=(5,), x=(8,))
        step(f"mlp_{loss}", module, data, PAIR, [("adam", clip), ("rmsprop", clip)], both, losses)
    torch.manual_seed(1)
    module = Step("dcgan", "bce")
    data = draw(z=(6, 1, 1), x=(1, 16, 16))
    step("dcgan", module, data, PAIR, [("adam", None)], ["dynamo", "plain", "ts", "tseval"], losses)
    bare = HERE / "step_dcgan_bare.onnx"
    bare.write_bytes((HERE / "step_dcgan_dynamo.onnx").read_bytes())
    strip(bare, everything=True)
    torch.manual_seed(2)
    step("odd", Step("odd", "lsgan"), draw(z=(5,), x=(2, 16, 16)), PAIR, [("adam", None)], both, losses)
    torch.manual_seed(6)
    tied = Step("tied", "bce")
    step("tied", tied, draw(z=(5,), x=(8,)), PAIR, [("adam", None)], ["dynamo", "plain", "ts", "tseval"], losses)
    torch.manual_seed(7)
    data = draw(z=(6, 1, 1), x=(1, 16, 16))
    step("separable", Step("separable", "soft"), data, PAIR, [("adam", None)], ["plain", "ts"], losses)
    torch.manual_seed(3)
    groups = {"generators": ["gen_"], "dis_a": ["dis_a."], "dis_b": ["dis_b."]}
    outputs = ["loss_g", "loss_a", "loss_b"]
    step("cyclegan", CycleGan(), draw(a=(8,), b=(8,)), groups, [("adam", None)], both, outputs)
    torch.manual_seed(4)
    step("pix2pix", Pix2Pix(), draw(a=(8,), b=(8,)), PAIR, [("adam", None)], both, losses)
    torch.manual_seed(5)
    data = draw(z=(5,), x=(8,)) | {"c": torch.randint(3, (ITERATIONS, BATCH))}
    step("stripes", Stripes(), data, PAIR, [("momentum", None)], ["dynamo"], losses)
    total = sum(p.stat().st_size for p in HERE.iterdir() if p.suffix in (".onnx", ".npz"))
    print(f"{total:,} bytes")


if __name__ == "__main__":
    main()
