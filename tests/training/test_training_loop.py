"""The loop: determinism, resuming, divergence, interruption."""

import numpy as np
import pytest
from toy import Toy

from mgc.training.checkpoint import CheckpointError, list_checkpoints
from mgc.training.data.assign import feeder
from mgc.training.errors import Diverged, TrainingError
from mgc.training.loop import Listener, train
from mgc.training.store import Store


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(5).standard_normal((50, 6)).astype(np.float32))
    return path


def run(data, steps, *, seed=3, folder=None, resume=False, every=100, toy=None, files=None, **listening):
    toy = toy or Toy()
    feeds = feeder(toy.inputs, toy.batches, steps, seed, None if files else data, files or {})
    if folder is None:
        return train(toy, feeds, steps, checkpoint_every=every, listener=Listener(**listening)), toy
    with Store(folder, seed, toy.identity) as store:
        return train(toy, feeds, steps, store, resume, every, Listener(**listening)), toy


def same(a, b):
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def test_the_same_seed_gives_the_same_bits_and_another_other_ones(data):
    first, a = run(data, 30)
    second, b = run(data, 30)
    other, c = run(data, 30, seed=4)
    assert first.history == second.history
    assert same(a.state(), b.state())
    assert first.history != other.history
    assert not same(a.state(), c.state())
    assert len(first.history["loss_g"]) == first.steps == 30
    assert first.resumed_from == 0


@pytest.mark.parametrize("batches", [1, 3])
@pytest.mark.parametrize("stop", [1, 12, 13, 29])
def test_a_resumed_run_has_the_bits_of_one_left_alone(data, tmp_path, batches, stop):
    whole, a = run(data, 30, toy=Toy(batches=batches))
    part, _ = run(data, stop, folder=tmp_path / "c", toy=Toy(batches=batches))
    assert part.checkpoint == tmp_path / "c" / f"step-{stop:08d}.safetensors"
    rest, b = run(data, 30, folder=tmp_path / "c", resume=True, toy=Toy(batches=batches))
    assert rest.resumed_from == stop
    assert rest.steps == 30
    assert rest.history == whole.history
    assert same(a.state(), b.state())


def test_checkpoints_come_every_k_steps_and_at_the_end_and_two_are_kept(data, tmp_path):
    seen = []
    run(data, 25, folder=tmp_path / "c", every=10, stepped=lambda p: seen.append((p.steps, p.checkpoint)))
    named = {path.name for _, path in seen if path}
    assert named == {f"step-{n:08d}.safetensors" for n in (10, 20, 25)}
    assert [p.name for p in list_checkpoints(tmp_path / "c")] == [f"step-{n:08d}.safetensors" for n in (20, 25)]
    assert sorted(p.name for p in (tmp_path / "c").iterdir() if p.suffix != ".safetensors") == [".lock"]


def test_resuming_where_nothing_is_begins_anew(data, tmp_path):
    whole, _ = run(data, 10)
    progress, _ = run(data, 10, folder=tmp_path / "new" / "c", resume=True)
    assert progress.resumed_from == 0
    assert progress.history == whole.history


def test_resuming_a_finished_run_does_nothing(data, tmp_path):
    done, a = run(data, 10, folder=tmp_path / "c")
    again, b = run(data, 10, folder=tmp_path / "c", resume=True)
    assert (again.steps, again.resumed_from) == (10, 10)
    assert again.history == done.history
    assert again.checkpoint == done.checkpoint
    assert same(a.state(), b.state())
    with pytest.raises(TrainingError, match=r"is of step 10, --steps 5 is before it"):
        run(data, 5, folder=tmp_path / "c", resume=True)


def test_a_fresh_run_does_not_mix_with_old_checkpoints(data, tmp_path):
    run(data, 10, folder=tmp_path / "c")
    with pytest.raises(CheckpointError, match=r"step-00000010\.safetensors is there already: add --resume"):
        run(data, 10, folder=tmp_path / "c")


def test_what_does_not_belong_is_refused(data, tmp_path):
    run(data, 10, folder=tmp_path / "c")
    with pytest.raises(CheckpointError, match="was made with seed 3, not 9"):
        run(data, 20, folder=tmp_path / "c", resume=True, seed=9)
    with pytest.raises(CheckpointError, match="belongs to another program"):
        run(data, 20, folder=tmp_path / "c", resume=True, toy=Toy(noise=4))
    with pytest.raises(CheckpointError, match="made with numerics quantized, not float: use --numerics quantized"):
        run(data, 20, folder=tmp_path / "c", resume=True, toy=Toy(numerics="float"))
    np.save(data, np.load(data) * 2)
    with pytest.raises(CheckpointError, match="was made with other data"):
        run(data, 20, folder=tmp_path / "c", resume=True)


def test_files_in_order_may_grow_between_runs_but_not_change(tmp_path):
    rows = np.random.default_rng(6).standard_normal((40, 6)).astype(np.float32)
    x = tmp_path / "x.npy"
    np.save(x, rows)
    whole, a = run(None, 10, files={"x": x})
    np.save(x, rows[:16])
    run(None, 4, files={"x": x}, folder=tmp_path / "c")
    np.save(x, rows)
    rest, b = run(None, 10, files={"x": x}, folder=tmp_path / "c", resume=True)
    assert rest.history == whole.history
    assert same(a.state(), b.state())
    np.save(x, rows + 1)
    with pytest.raises(CheckpointError, match="was made with other data"):
        run(None, 10, files={"x": x}, folder=tmp_path / "c", resume=True)
    with pytest.raises(TrainingError, match=r"holds 40 samples, 11 steps of 4 need 44 of input x"):
        run(None, 11, files={"x": x})


def test_divergence_names_step_and_tensor_and_keeps_the_last_good_checkpoint(data, tmp_path):
    kept = []
    with pytest.raises(Diverged, match=r"step \d+: loss loss_[dg] is (inf|nan)") as caught:
        run(data, 1000, folder=tmp_path / "c", every=5, toy=Toy(lr=0.1), began=kept.append)
    progress = kept[0]
    assert progress.steps >= 5
    assert progress.steps == caught.value.step - 1
    assert all(np.isfinite(v).all() and len(v) == progress.steps for v in progress.history.values())
    last = progress.steps - progress.steps % 5
    assert [p.name for p in list_checkpoints(tmp_path / "c")][-1] == f"step-{last:08d}.safetensors"


def test_a_state_that_is_not_finite_is_never_saved(data, tmp_path):
    class Sick(Toy):
        def step(self, batches):
            losses = super().step(batches)
            if self._state["count"] == 7:
                self._state["D.weight.momentum"][2] = np.nan
            return losses

    with pytest.raises(Diverged, match=r"step 7: state D.weight.momentum holds nan \(1 of 6\)"):
        run(data, 7, folder=tmp_path / "c", every=5, toy=Sick())
    assert [p.name for p in list_checkpoints(tmp_path / "c")] == ["step-00000005.safetensors"]
    with pytest.raises(Diverged, match=r"step 7: state D\.weight\.momentum"):
        run(data, 7, toy=Sick())


def test_stopping_ends_after_the_step_with_a_checkpoint(data, tmp_path):
    asked = iter([False] * 6 + [True] * 99)
    part, _ = run(data, 30, folder=tmp_path / "c", stop=lambda: next(asked))
    assert part.interrupted
    assert part.steps == 7
    assert part.checkpoint is not None
    assert part.checkpoint.name == "step-00000007.safetensors"
    whole, a = run(data, 30)
    rest, b = run(data, 30, folder=tmp_path / "c", resume=True)
    assert rest.history == whole.history
    assert same(a.state(), b.state())


def test_a_folder_is_for_one_run_at_a_time(data, tmp_path):
    with (
        Store(tmp_path / "c", 3, Toy().identity),
        pytest.raises(CheckpointError, match="in use by another training run"),
    ):
        run(data, 5, folder=tmp_path / "c")
    run(data, 5, folder=tmp_path / "c")
