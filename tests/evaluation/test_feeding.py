"""What goes into a run: names, types, shapes, numbers of samples, draws."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mgc.evaluation.errors import GivenError
from mgc.evaluation.feeding import Feeds, input_files, make_feeds
from mgc.evaluation.given import load_array
from mgc.isa.entry import Entry
from mgc.isa.memory import Buffer, Port


def program(*inputs: Port, batched=True, micro_batch=1, micro_batches=1, output=(1, 5)) -> Any:
    """As much of a program as feeding looks at."""
    buffers = tuple(Buffer(k, p.name, "real", "float32", p.shape) for k, p in enumerate(inputs))
    entry = Entry(0, "testing", "test", 0, 0, 1, micro_batch, micro_batches, batched, None)
    return SimpleNamespace(
        inputs=tuple(Port(p.name, k, p.dtype, p.shape, p.batched) for k, p in enumerate(inputs)),
        outputs=(Port("y", 0, "float32", output, batched),),
        buffers=buffers, iteration=(entry,), entry=entry,
    )  # fmt: skip


Z = Port("z", 0, "float32", (1, 5), True)
LABEL = Port("label", 1, "int64", (1,), True)


def saved(path, array):
    np.save(path, array)
    return path


def test_the_batch_is_drawn_where_nothing_is_said():
    fed = make_feeds(program(Z, micro_batches=7), {}, None, 3)
    assert fed.samples == 7
    assert fed.drawn == ("z",)
    assert fed.arrays["z"].shape == (7, 5)
    assert fed.arrays["z"].dtype == np.float32
    again = make_feeds(program(Z, micro_batches=7), {}, None, 3).arrays["z"]
    np.testing.assert_array_equal(fed.arrays["z"], again)
    assert not np.array_equal(again, make_feeds(program(Z, micro_batches=7), {}, None, 4).arrays["z"])


def test_files_say_how_many_samples(tmp_path):
    z = saved(tmp_path / "z.npy", np.ones((4, 5), np.float32))
    fed = make_feeds(program(Z), {"z": z}, None, 0)
    assert (fed.samples, fed.drawn) == (4, ())


def test_n_takes_the_first_samples_and_says_so(tmp_path):
    z = saved(tmp_path / "z.npy", np.arange(20, dtype=np.float32).reshape(4, 5))
    said: list[str] = []
    fed = make_feeds(program(Z), {"z": z}, 2, 0, note=said.append)
    np.testing.assert_array_equal(fed.arrays["z"], np.arange(10).reshape(2, 5))
    assert said == [f"{z} holds 4 samples: the first 2 are used"]


def test_too_few_samples_are_refused(tmp_path):
    z = saved(tmp_path / "z.npy", np.ones((4, 5), np.float32))
    with pytest.raises(GivenError, match="holds 4 samples, 6 are asked for"):
        make_feeds(program(Z), {"z": z}, 6, 0)
    none = saved(tmp_path / "none.npy", np.ones((0, 5), np.float32))
    with pytest.raises(GivenError, match="holds 0 samples, 1 are asked for"):
        make_feeds(program(Z), {"z": none}, None, 0)


def test_inputs_that_cannot_be_drawn_must_be_given(tmp_path):
    with pytest.raises(GivenError, match=r"label .* give its values with --input"):
        make_feeds(program(Z, LABEL), {}, 2, 0)
    label = saved(tmp_path / "label.npy", np.array([1, 2, 3]))
    fed = make_feeds(program(Z, LABEL), {"label": label}, None, 0)
    assert (fed.samples, fed.drawn) == (3, ("z",))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((4, 6), np.float32), r"shape \[4, 6\]"),
        (np.ones((4, 5, 1), np.float32), r"shape \[4, 5, 1\]"),
        (np.float32(1), r"shape \[\]"),
        (np.ones((4, 5), np.int32), "int32, float32 is expected"),
        (np.ones((4, 5), np.complex64), "complex64, float32 is expected"),
        (np.full((4, 5), "a"), "float32 is expected"),
    ],
)
def test_wrong_shapes_and_types_name_the_input_and_the_file(tmp_path, array, message):
    z = saved(tmp_path / "z.npy", array)
    with pytest.raises(GivenError, match=message) as caught:
        make_feeds(program(Z), {"z": z}, None, 0)
    assert str(z) in str(caught.value)


def test_doubles_are_taken_for_floats(tmp_path):
    z = saved(tmp_path / "z.npy", np.full((1, 5), 0.1))
    assert make_feeds(program(Z), {"z": z}, None, 0).arrays["z"].dtype == np.float32


def test_names_of_inputs():
    odd = program(Port("a", 0, "float32", (1,), True), Port("a=b", 1, "float32", (1,), True))
    assert {n: str(p) for n, p in input_files(["a=x.npy", "a=b=y=z.npy"], odd).items()} == {
        "a": "x.npy", "a=b": "y=z.npy",
    }  # fmt: skip
    with pytest.raises(GivenError, match="there is no input 'q'; the program's inputs are a, a=b"):
        input_files(["q=x.npy"], odd)
    with pytest.raises(GivenError, match=r"write NAME=FILE\.npy"):
        input_files(["x.npy"], odd)
    with pytest.raises(GivenError, match="given twice"):
        input_files(["a=x.npy", "a=y.npy"], odd)


def test_files_that_hold_no_array(tmp_path):
    for name, content in {"empty.npy": b"", "text.npy": b"hello", "cut.npy": b"\x93NUMPY\x01\x00v\x00{'descr'"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GivenError, match=r"no readable \.npy array"):
            load_array(tmp_path / name)
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    with pytest.raises(GivenError, match=r"an \.npz archive"):
        load_array(tmp_path / "x.npz")
    np.save(tmp_path / "object.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(GivenError, match=r"no readable \.npy array"):
        load_array(tmp_path / "object.npy")
    with pytest.raises(GivenError, match="there is no file"):
        load_array(tmp_path / "nope.npy")


def test_a_model_that_mixes_samples_runs_batch_after_batch(tmp_path):
    whole = program(Port("z", 0, "float32", (4, 5), False), batched=False, micro_batch=4, output=(4, 2))
    fed = make_feeds(whole, {}, 10, 0)
    assert (fed.samples, fed.group, fed.arrays["z"].shape) == (10, 4, (10, 5))
    parts = list(fed.parts(4))
    assert [p["z"].shape for p in parts] == [(4, 5)] * 3
    np.testing.assert_array_equal(parts[2]["z"][1:], np.repeat(fed.arrays["z"][9:], 3, axis=0))
    joined = fed.join([{"y": p["z"][:, :2]} for p in parts], 4)
    np.testing.assert_array_equal(joined["y"], fed.arrays["z"][:, :2])
    z = saved(tmp_path / "z.npy", np.ones((6, 5), np.float32))
    assert make_feeds(whole, {"z": z}, None, 0).arrays["z"].shape == (6, 5)
    with pytest.raises(GivenError, match=r"shape \[4, 3\]"):
        make_feeds(whole, {"z": saved(tmp_path / "w.npy", np.ones((6, 3), np.float32))}, None, 0)


def test_a_model_without_samples_takes_no_n():
    plain = program(Port("x", 0, "float32", (3, 4), False), batched=False, output=(7,))
    fed = make_feeds(plain, {}, None, 0)
    assert (fed.samples, fed.group, fed.batched) == (1, None, frozenset())
    with pytest.raises(GivenError, match="leave -n out"):
        make_feeds(plain, {}, 3, 0)


def test_several_rows_a_sample_stay_together():
    rows = np.arange(12).reshape(6, 2)
    fed = Feeds({"x": rows}, (), 3, None, frozenset({"x", "y"}))
    parts = list(fed.parts(2))
    np.testing.assert_array_equal(parts[1]["x"], rows[[4, 5, 4, 5]])
    np.testing.assert_array_equal(fed.join([{"y": p["x"]} for p in parts], 2)["y"], rows)
