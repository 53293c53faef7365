# SPDX-License-Identifier: Apache-2.0
"""Makes the zoo: its networks as ONNX, its data, and what PyTorch makes of each in four iterations, in float64.

    python -m models.zoo.make [NAME...]     (all, or the training scripts of these names)

The networks (onnx/) are untrained, the data (data/) are ellipses and their outlines. `recorded/NAME.npz` has what four
iterations read (`data/INPUT`, batches one after the other), each loss (`losses/NAME`), and the weights and running
statistics after the last (`weights/NAME`). `float32` is how far PyTorch itself is from that in float32.
"""

import copy
import logging
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.zoo import networks as nets
from models.zoo.entries import BATCH, FOLDER, ITERATIONS, ZOO, Entry
from models.zoo.script import Script
from models.zoo.scripts import KINDS, SCRIPTS
from models.zoo.steps import Composed, CycleGan, Pix2Pix

SAMPLES = 128
OPTIMIZERS = {
    "adam": lambda p, lr, betas: torch.optim.Adam(p, lr=lr, betas=betas),
    "rmsprop": lambda p, lr, betas: torch.optim.RMSprop(p, lr=lr),
    "momentum": lambda p, lr, betas: torch.optim.SGD(p, lr=lr, momentum=0.9),
}


# -- data ----------------------------------------------------------------------------------------------------------


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, their outlines) [count, 1, 16, 16] in -1..1: an ellipse each, shaded from one side."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    images, outlines = np.empty((2, count, 1, 16, 16), np.float32)
    for k in range(count):
        centre, radii = rng.uniform(5, 10, 2), rng.uniform(3, 6, 2)
        distance = np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1])
        shade = 0.6 + 0.4 * np.tanh((x - centre[1]) * rng.choice([-1, 1]) / 4)
        images[k, 0] = np.where(distance < 1, 2 * shade - 1, -1)
        outlines[k, 0] = np.where(np.abs(distance - 1) < 0.25, 1, -1)
    return images, outlines


def pixels(images: np.ndarray) -> np.ndarray:
    """-1 .. 1 as the bytes 0 .. 255."""
    return np.round((images + 1) * 127.5).astype(np.uint8)


# -- networks ------------------------------------------------------------------------------------------------------


def export(module: nn.Module, example: dict[str, Tensor], path: Path, outputs: list[str], *, dynamic: bool) -> None:
    """With nothing folded, so that BatchNorm stays and every weight keeps its name: MLPs by the dynamo exporter,
    what has BatchNorm by TorchScript's, in training form.
    """
    fresh = {k: v.numpy().copy() for k, v in module.state_dict().items()}
    names = list(example)
    args = tuple(example.values())
    if any(isinstance(m, nn.BatchNorm2d) for m in module.modules()):
        torch.onnx.export(
            module.train(),
            args,
            str(path),
            dynamo=False,
            opset_version=17,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            input_names=names,
            output_names=outputs,
            dynamic_axes={n: {0: "N"} for n in (*names, *outputs)} if dynamic else None,
        )
    else:
        shapes = {n: {0: torch.export.Dim("N")} for n in names} if dynamic else None
        program = torch.onnx.export(
            module.eval(),
            args,
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=names,
            output_names=outputs,
            dynamic_shapes=tuple(shapes.values()) if shapes else None,
        )
        assert program is not None
        program.save(str(path), external_data=False)
    model = onnx.load(path)
    for tensor in model.graph.initializer:  # tracing in training mode moves the running statistics
        if tensor.name.endswith(("running_mean", "running_var")):
            tensor.CopyFrom(onnx.numpy_helper.from_array(fresh[tensor.name], tensor.name))
    strip(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


_KEPT = ("pkg.torch.onnx.fx_node", "pkg.torch.onnx.name_scopes")
"""The exporter's notes on nodes that mgc reads."""


def strip(model: onnx.ModelProto) -> None:
    """Drops stack traces, which name files of this machine, and what the notes on calls and scopes say as well."""
    model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    for item in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        item.doc_string = ""
        kept = [(p.key, p.value) for p in item.metadata_props if p.key in _KEPT]
        del item.metadata_props[:]
        for key, value in kept:
            item.metadata_props.add(key=key, value=value)


# -- what PyTorch does ---------------------------------------------------------------------------------------------


def option(entry: Entry, name: str, default: str = "") -> str:
    """The value of an option of `mgc compile`."""
    words = " ".join(entry.options).split()
    return words[words.index(name) + 1] if name in words else default


def phase_settings(entry: Entry, loss: str) -> dict[str, float]:
    """lr, clip and so on of the phase with this loss."""
    words = " ".join(entry.options).split()
    texts = [b for a, b in pairwise(words) if a == "--phase"]
    text = next((t for t in texts if t.split(",")[0].endswith(f"={loss}")), "")
    return {k: float(v) for k, v in (part.split("=") for part in text.split(",")[1:])}


def record(entry: Entry, module: nn.Module, data: dict[str, Tensor]) -> None:
    """Trains as a script would, from the float32 weights on, and writes down what comes out."""
    module = copy.deepcopy(module).double().train()
    betas = tuple(float(b) for b in option(entry, "--betas", "0.9,0.999").split(","))
    settings = {loss: phase_settings(entry, loss) for loss, _ in module.phases}
    optimizers = {}
    for loss, prefix in module.phases:
        mine = [p for n, p in module.named_parameters() if n.startswith(prefix)]
        lr = settings[loss].get("lr", float(option(entry, "--lr", "1e-3")))
        optimizers[loss] = OPTIMIZERS[option(entry, "--optimizer")](mine, lr, betas)

    def minimise(loss: str, fake: Tensor, now: dict[str, Tensor]) -> float:
        value = module.loss(loss, fake, now)
        optimizers[loss].zero_grad()
        value.backward()
        optimizers[loss].step()
        if "clip" in settings[loss]:
            limit = settings[loss]["clip"]
            with torch.no_grad():
                for p in optimizers[loss].param_groups[0]["params"]:
                    p.clamp_(-limit, limit)
        return value.item()

    losses: dict[str, list[float]] = {loss: [] for loss, _ in module.phases}
    for i in range(ITERATIONS * entry.critic_steps):
        now = {k: v[i * BATCH : (i + 1) * BATCH].double() for k, v in data.items()}
        fake = module.fakes(now)
        last = i % entry.critic_steps == entry.critic_steps - 1
        for loss, _ in module.phases if last else module.phases[:1]:
            found = minimise(loss, fake, now)
            if last:
                losses[loss].append(found)
    arrays = {f"data/{k}": v.numpy() for k, v in data.items()}
    arrays |= {f"losses/{k}": np.array(v) for k, v in losses.items()}
    held = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    arrays |= {f"weights/{k}": v.numpy().astype(np.float32) for k, v in held.items()}
    np.savez_compressed(FOLDER / "recorded" / f"{entry.name}.npz", **arrays)


# -- training scripts ----------------------------------------------------------------------------------------------


def samples(name: str, script: Script, count: int) -> dict[str, Tensor]:
    """What a script reads, `count` samples of each input that is not carried on or taken from a buffer."""
    torch.manual_seed(7)
    (real, outlines), (others, _) = pictures(count, 2), pictures(count, 3)
    label = torch.randint(0, KINDS, (count,))
    images = {"image": real, "a": outlines, "b": others}
    kinds = {"kind": label, "wanted": (label + 1) % KINDS}
    shapes = {"code": (2,), "noise": (4, 8, 8) if name == "unit" else (4,), "near": (1, 16, 16)}
    shapes["z"] = {"aae": (4,), "bicycle": (4,), "averaged": (nets.NOISE, 1, 1)}.get(name, (nets.NOISE,))
    found: dict[str, Tensor] = {}
    for each in script.inputs:
        if each in images:
            found[each] = torch.from_numpy(images[each])
        elif each in kinds:
            found[each] = nn.functional.one_hot(kinds[each], KINDS).float()
        elif each == "label":
            found[each] = label
        elif each == "mix":
            found[each] = torch.rand(count, 1, 1, 1)
        elif each in shapes:
            found[each] = torch.randn(count, *shapes[each])
    return found


def follow(
    entry: Entry, script: Script, data: dict[str, Tensor]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Runs a script in the element type that it has: what it minimised and told, and its weights after that."""
    words = shlex.split(" ".join(entry.options))
    dtype = next(script.parameters()).dtype
    texts = [b for a, b in pairwise(words) if a == "--phase"]
    globs = dict(b.split("=") for a, b in pairwise(words) if a == "--group")
    lr, betas = float(option(entry, "--lr")), tuple(float(b) for b in option(entry, "--betas").split(","))
    decay, limit = float(option(entry, "--weight-decay", "0")), option(entry, "--clip-norm")
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for phase, loss in (t.split(",")[0].split("=") for t in texts):
        known = [o for (other, o) in optimizers.items() if other == phase]
        patterns = globs.get(phase, f"{phase}.*").split(",")
        mine = [p for n, p in script.named_parameters() if any(fnmatchcase(n, g) for g in patterns)]
        optimizers[phase] = known[0] if known else torch.optim.Adam(mine, lr=lr, betas=betas, weight_decay=decay)
        optimizers[f"loss {loss}"] = optimizers[phase]
    history: dict[str, list[float]] = {}

    def minimise(loss: str, value: Tensor) -> None:
        optimizer = optimizers[f"loss {loss}"]
        optimizer.zero_grad()
        value.backward()
        if limit:
            torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], float(limit))
        optimizer.step()
        history.setdefault(loss, []).append(value.item())

    averaged = option(entry, "--ema").partition("=")
    means = {n: p.detach().clone() for n, p in script.named_parameters() if n.startswith(f"{averaged[0]}.")}
    carried = {"k": torch.zeros((), dtype=dtype)}
    for i in range(ITERATIONS):
        script.now = i
        batch = {k: v[i * BATCH : (i + 1) * BATCH] for k, v in data.items()}
        batch = {k: v.to(dtype) if v.is_floating_point() else v for k, v in batch.items()}
        told: dict[str, Tensor] = {}
        script.iteration({**batch, **carried}, minimise, told.__setitem__)
        for name, value in told.items():
            if value.numel() == 1:
                history.setdefault(name, []).append(value.item())
        carried = {"k": told["k_next"].detach()} if "k_next" in told else carried
        for name, value in script.named_parameters():
            if averaged[0] and name in means:
                share = float(averaged[2])
                means[name] = share * means[name] + (1 - share) * value.detach()
    held = {k: v for k, v in script.state_dict().items() if not k.endswith("num_batches_tracked")}
    if averaged[0]:
        held |= {f"{averaged[0]}.ema.{k}": v for k, v in means.items()}
    return {k: np.array(v) for k, v in history.items()}, {k: v.double().numpy() for k, v in held.items()}


def copied(make: Callable[[], Script], script: Script) -> Script:
    """Another one with the same weights: hooks of spectral_norm keep a module from being copied."""
    other = make()
    other.load_state_dict(script.state_dict())
    return other


def make_script(entry: Entry) -> None:
    """Exports a script's step, and records what it does."""
    make = SCRIPTS[entry.name]
    torch.manual_seed(0)
    script = make()
    data = samples(entry.name, script, ITERATIONS * BATCH)
    first = {"k": torch.zeros(())} | {f"old_{k}": torch.zeros(BATCH, 1, 16, 16) + i for i, k in enumerate("ab")}
    example = {n: data[n][:BATCH] if n in data else first[n] for n in script.inputs}
    traced = copied(make, script)
    traced(*example.values())
    path = FOLDER / "onnx" / f"{entry.name}_step.onnx"
    program = torch.onnx.export(
        copied(make, script).train(),
        tuple(example.values()),
        dynamo=True,
        optimize=False,
        verbose=False,
        input_names=list(example),
        output_names=list(traced.outputs),
    )
    assert program is not None
    program.save(str(path), external_data=False)
    model = onnx.load(path)
    strip(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    history, weights = follow(entry, copied(make, script).double(), data)
    near, near_weights = follow(entry, copied(make, script), data)
    off = [np.max(np.abs(near[k] - v) / np.maximum(np.abs(v), 1e-9)) for k, v in history.items()]
    off += [np.max(np.abs(near_weights[k] - v)) / np.max(np.abs(v)) for k, v in weights.items()]
    arrays = {f"data/{k}": v.numpy() for k, v in data.items()} | {"float32": np.array(max(off))}
    arrays |= {f"data/{k}": v.numpy() for k, v in example.items() if k == "k"}
    arrays |= {f"losses/{k}": v for k, v in history.items()}
    arrays |= {f"weights/{k}": v.astype(np.float32) for k, v in weights.items()}
    np.savez_compressed(FOLDER / "recorded" / f"{entry.name}.npz", **arrays)
    print(f"{entry.name}: float32 is {max(off):.0e} away, {path.stat().st_size:,} bytes")


def main() -> None:
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    scripts = [entry for entry in ZOO if entry.scripted]
    if sys.argv[1:]:
        for entry in scripts:
            if entry.name in sys.argv[1:]:
                make_script(entry)
        return
    for made in ("data", "onnx", "recorded"):
        shutil.rmtree(FOLDER / made, ignore_errors=True)
        (FOLDER / made).mkdir()
    images, outlines = pictures(SAMPLES, 0)
    others, _ = pictures(SAMPLES, 1)
    np.save(FOLDER / "data" / "images.npy", pixels(images))
    np.savez_compressed(FOLDER / "data" / "pairs.npz", sketch=pixels(outlines), photo=pixels(images))
    np.savez_compressed(FOLDER / "data" / "kinds.npz", a=pixels(outlines), b=pixels(others))
    np.save(FOLDER / "data" / "sketches.npy", outlines[:4])
    label = np.arange(SAMPLES) % KINDS
    planes = np.eye(KINDS, dtype=np.float32)
    np.savez_compressed(FOLDER / "data" / "images.npz", image=pixels(images))
    np.savez_compressed(FOLDER / "data" / "labelled.npz", image=pixels(images), label=label)
    asked = {"kind": planes[label], "wanted": planes[(label + 1) % KINDS]}
    np.savez_compressed(FOLDER / "data" / "kinded.npz", image=pixels(images), **asked)
    np.save(FOLDER / "data" / "zero.npy", np.zeros((), np.float32))

    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {
        "mlp_G": nets.MlpGenerator(),
        "mlp_D": nets.MlpDiscriminator(),
        "dcgan_G": nets.DcganGenerator(),
        "dcgan_D": nets.DcganDiscriminator(),
        "critic_D": nets.Critic(),
        "pix2pix_step": Pix2Pix(),
        "cyclegan_step": CycleGan(),
    }
    image = torch.from_numpy(images[:BATCH])
    for name, module in modules.items():
        flat = name == "mlp_G"
        if name.endswith("_G"):
            noise = torch.randn(BATCH, nets.NOISE, *(() if flat else (1, 1)))
            export(copy.deepcopy(module), {"z": noise}, FOLDER / "onnx" / f"{name}.onnx", ["image"], dynamic=True)
        elif name.endswith("_D"):
            export(copy.deepcopy(module), {"image": image}, FOLDER / "onnx" / f"{name}.onnx", ["score"], dynamic=True)
        else:
            inputs = ("sketch", "photo") if name == "pix2pix_step" else ("a", "b")
            example = {n: image + k for k, n in enumerate(inputs)}  # not one tensor: the exporter would see one input
            outputs = [loss for loss, _ in module.phases]
            export(copy.deepcopy(module), example, FOLDER / "onnx" / f"{name}.onnx", outputs, dynamic=False)

    for entry in scripts:
        make_script(entry)
    for entry in ZOO:
        if entry.scripted:
            continue
        count = ITERATIONS * entry.critic_steps * BATCH
        real, sketch = (torch.from_numpy(a) for a in pictures(count, 2))
        if len(entry.networks) == 2:
            g, d = (modules[n] for n in entry.networks)
            step: nn.Module = Composed(g, d, option(entry, "--loss"))
            noise = torch.randn(count, nets.NOISE, *(() if entry.name == "mlp" else (1, 1)))
            data = {"z": noise, "image": real}
            if entry.name == "wgan-gp":
                data["epsilon"] = torch.rand(count, 1, 1, 1)
        else:
            step = modules[entry.networks[0]]
            data = {"sketch": sketch, "photo": real} if entry.name == "pix2pix" else {"a": sketch, "b": real}
        record(entry, step, data)
    files = [p for p in FOLDER.rglob("*") if p.suffix in (".onnx", ".npz", ".npy")]
    print(f"{len(files)} files, {sum(p.stat().st_size for p in files):,} bytes")


if __name__ == "__main__":
    main()
