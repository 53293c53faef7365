"""Stages of instructions, on a GAN compiled for training and on programs without training."""

import pytest

from mgc.isa.instructions import Diff, MvmT, Outer, Update, WriteCells
from mgc.isa.phases import Stage, stages


@pytest.fixture(scope="module")
def gan():
    from pathlib import Path

    import mgc

    models = Path(__file__).parents[2] / "models" / "mlp_gan"
    return mgc.compile_training(
        models / "mlp_gan_G.onnx",
        discriminator=models / "mlp_gan_D.onnx",
        loss="bce",
        optimizer="adam",
        batch=4,
        overrides={"training.copies": "least"},  # weights are read both ways
    )


def test_every_instruction_has_a_stage_of_a_phase(gan):
    found = stages(gan)
    assert len(found) == len(gan.instructions)
    assert {s.phase for s in found} == {"", "discriminator", "generator", "testing"}
    for i, stage in zip(gan.instructions, found, strict=True):
        assert (stage == Stage("", "setup")) == isinstance(i, WriteCells)


def test_updates_belong_to_the_phase_of_their_states(gan):
    homes = {(p.group, p.buffer): s.phase for s in gan.states for p in s.pieces}
    found = stages(gan)
    updates = [i for i in gan.instructions if isinstance(i, Update)]
    assert updates
    for i in updates:
        home = (i.group, -1) if i.group >= 0 else (-1, i.parameter)
        assert found[i.id] == Stage(homes[home], "update")


def test_forward_loss_backward_come_in_this_order_within_a_phase(gan):
    found = stages(gan)
    for phase in ("discriminator", "generator"):
        order = [s.kind for s in found if s.phase == phase and s.kind in ("forward", "backward")]
        assert order == sorted(order, reverse=True)  # "forward" before "backward"
    for i in gan.instructions:
        if isinstance(i, Diff):
            assert found[i.id].kind == "loss"
        if isinstance(i, MvmT | Outer):
            assert found[i.id].kind == "backward"


def test_the_generators_forward_pass_is_of_the_phase_that_needs_it_first(gan):
    found = stages(gan)
    forward = [i for i in gan.instructions if i.mnemonic == "mvm" and found[i.id].phase == "generator"]
    names = {gan.groups[i.group].name for i in forward}
    assert names == {gan.groups[k].name for k in (3, 4, 5)}  # only the discriminator, with its new weights
    both = [i for i in gan.instructions if i.mnemonic == "load" and gan.inputs[i.port].name == "z"]
    assert [found[i.id].phase for i in both] == ["discriminator", "testing"]


def test_without_training_the_phase_is_the_entry(gan):
    assert {s.phase for s in stages(gan.part("testing")) if s.kind == "forward"} == {"testing"}
