"""Instructions of training programs name the ONNX nodes that they belong to, each network's its own."""

from pathlib import Path

import onnx
import pytest

import mgc

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(scope="module", params=["mlp_gan", "dcgan_fashion"])
def gan(request):
    """(program, generator file, discriminator file)."""
    folder = MODELS / request.param
    files = {
        "mlp_gan": ("mlp_gan_G.onnx", "mlp_gan_D.onnx"),
        "dcgan_fashion": ("dcgan_fashion_G_ts.onnx", "dcgan_fashion_D_ts_bn.onnx"),
    }[request.param]
    g, d = (folder / f for f in files)
    return mgc.compile_training(g, discriminator=d, loss="bce", optimizer="adam", batch=4), g, d


def nodes_of(program, instruction):
    return program.sources[instruction.source] if instruction.source >= 0 else ()


def test_everything_but_ports_is_traced(gan):
    program, _, _ = gan
    for i in program.instructions:
        assert nodes_of(program, i) or i.mnemonic in ("load", "store"), f"{i.id}: {i.mnemonic}"


def test_the_names_are_those_of_the_files_told_apart(gan):
    program, g, d = gan
    files = {"generator": g, "discriminator": d}
    names = {k: {n.name for n in onnx.load(f).graph.node} for k, f in files.items()}
    common = names["generator"] & names["discriminator"]
    known = {f"{k}.{n}" if n in common else n for k, own in names.items() for n in own}
    found = {n for i in program.instructions for n in nodes_of(program, i)}
    assert bool(common) == (g.parent.name == "mlp_gan")  # the exporters differ
    assert found <= known


def test_groups_and_updates_are_of_one_network(gan):
    program, g, d = gan
    of_g, of_d = ({n.name for n in onnx.load(f).graph.node} for f in (g, d))
    phase_of = {p.group: s.phase for s in program.states for p in s.pieces if p.group >= 0}
    for i in program.instructions:
        if i.mnemonic == "update" and i.group >= 0:
            own = of_g if phase_of[i.group] == "generator" else of_d
            assert nodes_of(program, i)
            assert all(n.removeprefix(f"{phase_of[i.group]}.") in own for n in nodes_of(program, i))
            assert set(nodes_of(program, i)) >= set(program.groups[i.group].sources)


def test_losses_belong_to_what_makes_the_scores(gan):
    program, _, d = gan
    names = {n.name for n in onnx.load(d).graph.node}
    losses = [i for i in program.instructions if i.mnemonic == "diff"]
    assert losses
    for i in losses:
        assert nodes_of(program, i)
        assert {n.removeprefix("discriminator.") for n in nodes_of(program, i)} <= names
