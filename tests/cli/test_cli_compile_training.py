"""The training options of `mgc compile`: from models to trained models, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

DATA = Path(__file__).parents[1] / "data" / "training"
COMPOSED = ["compile", DATA / "mlp_G_ts.onnx", "--discriminator", DATA / "mlp_D_ts.onnx"]
STEP = ["compile", DATA / "step_mlp_wgan_ts.onnx"]
PHASES = ["--phase", "discriminator=loss_d,steps=2,clip=0.05", "--phase", "generator=loss_g"]
ADAM = ["--optimizer", "adam", "--lr", "1e-3", "--betas", "0.5,0.999"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.npy"
    np.save(path, np.random.default_rng(5).standard_normal((40, 8)).astype(np.float32))
    return path


@pytest.mark.parametrize("loss", ["bce", "wgan-gp", "relativistic-average"])
def test_generator_and_discriminator_from_models_to_trained_models(mgc, tmp_path, rows, loss):
    program = tmp_path / "P.mgc"
    compiled = mgc(*COMPOSED, "--loss", loss, *ADAM, "-o", program, "--json")
    assert compiled.code == 0, compiled.err
    assert (compiled.json["mode"], compiled.json["batch"]) == ("training", 4)
    assert [entry["name"] for entry in compiled.json["losses"]] == ["loss_d", "loss_g"]
    run = ["train", program, "--engine", "reference", "--data", rows, "--json"]
    checkpoints = ["--checkpoint", tmp_path / "c", "--checkpoint-every", 2]
    whole = mgc(*run, "--steps", 6)
    assert whole.code == 0, whole.err
    part = mgc(*run, "--steps", 4, *checkpoints)
    assert part.code == 0, part.err
    rest = mgc(*run, "--steps", 6, *checkpoints, "--resume", "--export", tmp_path / "models")
    assert rest.json["resumed_from"] == 4
    assert rest.json["history"] == whole.json["history"]
    model = tmp_path / "models" / "generator.onnx"
    z = np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)
    trained, first = (onnxruntime.InferenceSession(m).run(None, {"z": z})[0] for m in (model, COMPOSED[1]))
    assert 0 < np.abs(trained - first).max() < 0.5
    test = ["run", program, "--engine", "reference", "--checkpoint", tmp_path / "c", "--check", model, "--json"]
    assert mgc(*test, "--numerics", "float").json["check"]["ok"]
    assert mgc(*test, "-n", 64).json["check"]["psnr_db"] > 25


def test_a_step_model_from_its_losses_to_trained_models(mgc, tmp_path, rows):
    program = tmp_path / "P.mgc"
    compiled = mgc(*STEP, *PHASES, "--optimizer", "rmsprop", "-o", program)
    assert compiled.code == 0, compiled.err
    run = ["train", program, "--engine", "reference", "--data", rows, "--steps", 3, "--json"]
    outcome = mgc(*run, "--export", tmp_path / "step.onnx")
    assert outcome.json["history"].keys() == {"loss_d", "loss_g"}
    assert "input z: drawn N(0,1)" in outcome.err
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx")
    assert [o.name for o in session.get_outputs()] == ["loss_d", "loss_g"]
    feeds = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()}
    assert np.isfinite(session.run(None, feeds)).all()
    assert mgc(*run, "--export", tmp_path / "models").code == 0
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["discriminator.onnx", "generator.onnx"]


def test_groups_by_glob(mgc, tmp_path):
    phases = ["--phase", "g=loss_g", "--phase", "dis_a=loss_a", "--phase", "dis_b=loss_b"]
    outcome = mgc("compile", DATA / "step_cyclegan_ts.onnx", *phases, "--group", "g=gen_ab.*", "--group", "g=gen_ba.*",
                  "--optimizer", "momentum", "--momentum", "0.8", "-o", tmp_path / "P.mgc", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert [entry["name"] for entry in outcome.json["losses"]] == ["loss_g", "loss_a", "loss_b"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([*STEP, "--lr", "0.1"], "--lr is for training: give --discriminator D.onnx and --loss NAME"),
        ([*STEP, "--group", "a=b"], "--group is for training"),
        ([*STEP, "--loss", "bce"], "--loss needs --discriminator D.onnx"),
        ([*STEP, *PHASES], "training needs --optimizer NAME: one of sgd, momentum, adam, adamw, rmsprop"),
        ([*STEP, *PHASES, *ADAM, "--redraw-noise"], "--redraw-noise goes with --discriminator"),
        ([*STEP, *PHASES, *ADAM, "--gp-weight", "3"], "--gp-weight goes with --loss wgan-gp"),
        ([*STEP, *PHASES, "--optimizer", "sgd", "--eps", "1"], "optimizer sgd has no eps"),
        ([*STEP, *PHASES, "--optimizer", "adam", "--betas", "0.5"], "--betas 0.5: write two numbers with a comma"),
        ([*STEP, *PHASES, *ADAM, "--group", "generator"], "--group generator: write NAME=GLOB"),
        ([*STEP, "--phase", "loss_d", *ADAM], "NAME=LOSS is needed, such as discriminator=loss_d"),
        ([*STEP, "--phase", "discriminator=loss", *ADAM], "has no output 'loss'; its outputs are loss_d, loss_g"),
        ([*STEP, "--phase", "critic=loss_d", *ADAM], "Prefixes found: discriminator, generator"),
        ([*STEP, *PHASES, *ADAM, "--calibration", "x.npz"], "there is no file x.npz"),
        (COMPOSED, "--discriminator needs --loss NAME: one of bce, minimax"),
        ([*COMPOSED, "--loss", "bce", *ADAM, "--group", "a=b"], "--group goes with --phase"),
        ([*COMPOSED, "--loss", "bce", *ADAM, "--phase", "a=b"], "the phases of G and D are discriminator=loss_d and"),
        ([*COMPOSED[:3], DATA / "nothing.onnx", "--loss", "bce", *ADAM], "there is no file"),
    ],
)
def test_what_does_not_go_together_is_refused(refused, tmp_path, args, message):
    assert message in refused(*args, "-o", tmp_path / "P.mgc")
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_file_at_fault(refused, tmp_path):
    g, d = DATA / "mlp_G_ts.onnx", tmp_path / "D.onnx"
    broken = onnx.load(DATA / "mlp_D_ts.onnx")
    broken.graph.node[0].op_type = "Unheard"
    onnx.save(broken, d)
    rest = ["--loss", "bce", *ADAM, "-o", tmp_path / "P.mgc"]
    message = refused("compile", g, "--discriminator", d, *rest)
    assert f"discriminator {d}: node" in message
    assert str(g) not in message
    message = refused("compile", d, "--discriminator", DATA / "mlp_D_ts.onnx", *rest)
    assert f"generator {d}: node" in message
    assert "mlp_D" not in message
    d.write_text("no model")
    message = refused("compile", g, "--discriminator", d, *rest)
    assert f"error: {d}: not an ONNX model" in message
    other = DATA / "dcgan_D_ts.onnx"
    message = refused("compile", g, "--discriminator", other, *rest)
    assert f"error: {g} and {other}: the generator gives f32[4,8] but" in message


def test_an_entry_of_losses_has_these_keys(mgc, tmp_path):
    """A reason only where a part stays in the graph: wgan-gp's penalty."""
    found = {}
    for loss in ("lsgan", "wgan-gp"):
        options = ["--loss", loss, *ADAM, "--batch", 2, "-o", tmp_path / "P.mgc", "--json"]
        found[loss] = mgc(*COMPOSED, *options).json["losses"]
    keys = ["name", "kind", "branches"]
    assert [list(e) for e in found["lsgan"]] == [keys, keys]
    assert [list(e) for e in found["wgan-gp"]] == [[*keys, "reason"], keys]
    assert "as gradient penalties have it" in found["wgan-gp"][0]["reason"]


@pytest.mark.parametrize("flow", ["sequential", "pipelined", "parallel", "cyclic"])
def test_a_data_flow_changes_the_schedule_and_nothing_that_is_computed(mgc, tmp_path, rows, flow):
    trained = []
    for name in (flow, "parallel"):
        program = tmp_path / f"{name}.mgc"
        compiled = mgc(*COMPOSED, "--loss", "bce", *ADAM, "--dataflow", name, "-o", program, "--json")
        assert compiled.code == 0, compiled.err
        schedule = compiled.json["schedule"]
        assert schedule["gap"] == pytest.approx(schedule["makespan_cycles"] / schedule["lower_bound_cycles"] - 1)
        trained.append(mgc("train", program, "--engine", "reference", "--data", rows, "--steps", 2, "--json").json)
    assert trained[0]["history"] == trained[1]["history"]


def test_the_shared_data_flow_says_that_it_trains_otherwise(mgc, tmp_path):
    program = tmp_path / "P.mgc"
    compiled = mgc(*COMPOSED, "--loss", "bce", *ADAM, "--dataflow", "shared", "-o", program)
    assert compiled.code == 0
    assert "dataflow shared" in compiled.err
    assert "phase generator sees discriminator before its update" in compiled.err


def test_a_data_flow_is_for_training(mgc, tmp_path):
    refused = mgc("compile", DATA / "mlp_G_ts.onnx", "--dataflow", "cyclic", "-o", tmp_path / "P.mgc")
    assert refused.code == 2
    assert "--dataflow is for training" in refused.err


def test_the_text_says_what_became_of_the_losses(mgc, tmp_path):
    outcome = mgc(*COMPOSED, "--loss", "wgan-gp", *ADAM, "--batch", 2, "-o", tmp_path / "P.mgc")
    text = " ".join(outcome.out.split())
    assert "loss loss_d: wasserstein, 2 diff-blocks; the rest stays in the graph: %" in text
    assert text.endswith("loss_g: wasserstein, 1 diff-block")
