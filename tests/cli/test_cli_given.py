"""What --input takes beside .npy files: images, folders of them, numbers; and calibration on the same."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from mgc.evaluation.errors import GivenError
from mgc.evaluation.given import AS_FILES, ImageOptions, Literal, load_input
from mgc.images import ImageError
from mgc.isa.memory import Port


def copier(shape, dtype=TensorProto.FLOAT):
    """A model that gives back its input, and a number for each sample."""
    nodes = [helper.make_node("Identity", ["x"], ["y"], "same"), helper.make_node("Identity", ["k"], ["l"], "label")]
    shapes = {"x": (dtype, ["N", *shape]), "k": (TensorProto.INT64, ["N"])}
    outputs = {"y": (dtype, ["N", *shape]), "l": (TensorProto.INT64, ["N"])}
    return tiny.model(nodes, shapes, outputs)


def draw_image(path, width, height, mode="RGB", seed=0):
    rng = np.random.default_rng(seed)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = rng.integers(0, 256, (height, width, *channels)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_of_images_in_order_of_name(mgc, here):
    onnx.save(copier((3, 4, 6)), "c.onnx")
    assert mgc("compile", "c.onnx").code == 0
    Path("in").mkdir()
    drawn = {name: draw_image(f"in/{name}.png", 6, 4, seed=k) for k, name in enumerate("cab")}
    assert mgc("run", "c.mgc", "--input", "x=in", "--input", "k=3", "--check", "c.onnx", "-o", "o.npz").code == 0
    with np.load("o.npz") as out:
        assert out["y"].shape == (3, 3, 4, 6)
        assert out["l"].tolist() == [3, 3, 3]
        for row, name in zip(out["y"], "abc", strict=True):
            np.testing.assert_allclose(row, drawn[name].transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)
    run = ("run", "c.mgc", "--input", "x=in/a.png", "--input", "k=-1", "--image-range", "0,255", "-o", "p.npz")
    assert mgc(*run).code == 0
    with np.load("p.npz") as out:
        np.testing.assert_array_equal(out["y"][0], drawn["a"].transpose(2, 0, 1))


def test_another_size_needs_resize_and_grey_and_colour_follow_the_input(mgc, refused, here):
    onnx.save(copier((1, 4, 4)), "c.onnx")
    assert mgc("compile", "c.onnx").code == 0
    Image.new("RGB", (10, 8), (100, 100, 100)).save("a.png")
    message = refused("run", "c.mgc", "--input", "x=a.png", "--input", "k=0")
    assert "a.png is 10x8, the input takes 4x4 grey: give --resize" in message
    run = ("run", "c.mgc", "--input", "x=a.png", "--input", "k=0", "--resize", "--image-range", "0,1", "-o", "o.npz")
    assert mgc(*run).code == 0
    with np.load("o.npz") as out:
        np.testing.assert_allclose(out["y"], 100 / 255, atol=1e-6)


def test_bytes_stay_bytes(mgc, here):
    onnx.save(copier((3, 5, 3), TensorProto.UINT8), "c.onnx")  # channels first, as both could be meant
    assert mgc("compile", "c.onnx").code == 0
    pixels = draw_image("a.png", 3, 5)
    assert mgc("run", "c.mgc", "--input", "x=a.png", "--input", "k=0", "-o", "o.npz").code == 0
    with np.load("o.npz") as out:
        np.testing.assert_array_equal(out["y"][0], pixels.transpose(2, 0, 1))


def test_what_is_no_image_is_refused(mgc, refused, here):
    onnx.save(copier((3, 4, 4)), "c.onnx")
    mgc("compile", "c.onnx")
    Path("empty").mkdir()
    Path("text.png").write_text("no image")
    Image.new("RGB", (4, 4)).save("icon.ico")
    Path("icon.ico").rename("icon.png")  # a format that is not on the list, whatever its name
    for what, message in (
        ("empty", "there are no images"),
        ("text.png", "is no image that can be read"),
        ("icon.png", "is no image that can be read"),
        ("none.png", "there is no file none.png"),
    ):
        assert message in refused("run", "c.mgc", "--input", f"x={what}", "--input", "k=0")
    assert "two numbers" in refused("run", "c.mgc", "--input", "x=1", "--input", "k=0", "--image-range", "1,1")


def test_an_input_that_is_no_image_takes_none(refused, compiled, here):
    draw_image("a.png", 8, 8)
    assert "takes no images" in refused("run", compiled / "G.mgc", "--input", "z=a.png")


PORT = Port("k", 0, "int64", (1,), True)
VECTOR = Port("v", 0, "float32", (1, 3), True)
FIXED = Port("s", 0, "float32", (2, 2), False)


def literal(text, port, rows):
    value = load_input(Path(text), port, rows, AS_FILES)
    assert isinstance(value, Literal)
    return value


@settings(max_examples=50, deadline=None)
@given(numbers=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=6), count=st.integers(1, 6))
def test_numbers_for_samples_of_one_number(numbers, count):
    value = literal(",".join(map(str, numbers)), PORT, 1)
    if len(numbers) not in (1, count):
        with pytest.raises(GivenError, match=f"{count} samples of 1"):
            value.samples(count)
        return
    wanted = numbers if len(numbers) == count else numbers * count
    assert value.samples(count).tolist() == wanted


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(width=32, allow_nan=False), st.integers(1, 4))
def test_numbers_for_vectors(number, count):
    assert (literal(repr(number), VECTOR, 1).samples(count) == np.full((count, 3), number)).all()
    three = literal(f"1,{number!r},3", VECTOR, 1).samples(count)
    assert (three == np.array([[1, number, 3]] * count)).all()
    with pytest.raises(GivenError, match="2 numbers"):
        literal("1,2", VECTOR, 1).samples(count)
    assert (literal("1,2,3,4", FIXED, None).samples(count) == [[1, 2], [3, 4]]).all()


def test_whole_numbers_are_asked_for_by_name():
    with pytest.raises(GivenError, match=r"--input k=1.5: int64 is expected: give whole numbers"):
        literal("1.5", PORT, 1).samples(1)
    assert literal("true,false", Port("b", 0, "bool", (1,), True), 1).samples(2).tolist() == [True, False]


def test_options_of_images_are_checked(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="cut and scale"):
        load_input(tmp_path / "a.png", Port("x", 0, "float32", (1, 1, 4, 4), True), 1, ImageOptions((0, 1), False))


# -- calibration ------------------------------------------------------------------------------------------------------


def edge_finder():
    """image [N, 3, 8, 8] -> [N, 3, 8, 8], with noise that is added to feature maps beside it."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["h"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["noise", "strength"], ["n"], "scale"),
        helper.make_node("Add", ["h", "n"], ["a"], "add"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "v"], ["y"], "last", pads=[1, 1, 1, 1]),
    ]
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)), "v": rng.standard_normal((3, 4, 3, 3)), "strength": np.full(1, 0.01)
    }  # fmt: skip
    inputs = {"image": ["N", 3, 8, 8], "noise": [1, 1, 8, 8]}
    return tiny.model(nodes, inputs, {"y": ["N", 3, 8, 8]}, **{k: w.astype(np.float32) for k, w in weights.items()})


def ranges(mgc, program):
    return [
        (layer["low"], layer["high"]) for layer in mgc("inspect", program, "layers", "--format", "json").json["layers"]
    ]


def test_an_input_that_looks_like_an_image_is_told_of_and_a_failed_check_points_to_it(mgc, here):
    onnx.save(edge_finder(), "e.onnx")
    outcome = mgc("compile", "e.onnx")
    assert "input 'image' looks like an image and no data were given for it" in outcome.err
    assert "'noise' looks" not in outcome.err
    np.save("big.npy", 50 * np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32))
    failed = mgc("run", "e.mgc", "--input", "image=big.npy", "--check", "e.onnx")
    assert failed.code == 1
    assert "compile warned: input 'image' looks like an image" in failed.err
    Path("in").mkdir()
    for k in range(5):
        draw_image(f"in/{k}.jpg", 20, 20, seed=k)
    outcome = mgc("compile", "e.onnx", "--calibration", "in", "--image-range", "-50,200", "-o", "i.mgc")
    assert outcome.code == 0
    assert "looks like an image" not in outcome.err
    run = ("run", "i.mgc", "--input", "image=in", "--resize", "--image-range", "-50,200", "--check", "e.onnx")
    assert mgc(*run).code == 0
    low, high = ranges(mgc, "i.mgc")[0]
    assert -50 <= low < 100 < high <= 200  # what calibration saw


def test_calibration_on_one_array_and_one_image(mgc, here):
    onnx.save(edge_finder(), "e.onnx")
    array = np.random.default_rng(0).uniform(-7, 7, (6, 3, 8, 8)).astype(np.float32)
    array[0, 0, 0, 0] = -7
    np.save("a.npy", array)
    assert mgc("compile", "e.onnx", "--calibration", "a.npy", "--calibrate", "minmax").code == 0
    assert ranges(mgc, "e.mgc")[0][0] == -7
    Image.new("L", (9, 9), 255).save("white.bmp")
    assert mgc("compile", "e.onnx", "--calibration", "white.bmp", "--calibrate", "minmax").code == 0
    assert ranges(mgc, "e.mgc")[0] == (1, 1)


def test_calibration_data_that_no_or_many_inputs_take(refused, compiled, here):
    np.save("a.npy", np.zeros((2, 5, 5), np.float32))
    assert "can go to none of the inputs (z [2, 8])" in refused(
        "compile", compiled / "G.onnx", "--calibration", "a.npy"
    )
    shapes = {"a": ["N", 3, 4, 4], "b": ["N", 3, 4, 4]}
    onnx.save(tiny.model([helper.make_node("Add", ["a", "b"], ["c"])], shapes, {"c": ["N", 3, 4, 4]}), "two.onnx")
    Image.new("L", (9, 9), 255).save("white.png")
    assert "can go to more than one of the inputs" in refused("compile", "two.onnx", "--calibration", "white.png")
    assert "cannot be read" in refused("compile", "two.onnx", "--calibration", "two.onnx")


# -- panels -----------------------------------------------------------------------------------------------------------


def test_where_an_image_goes_in_it_stands_beside_what_comes_out(mgc, here):
    onnx.save(copier((3, 8, 8)), "c.onnx")
    mgc("compile", "c.onnx")
    pixels = draw_image("a.png", 8, 8)
    assert mgc("run", "c.mgc", "--input", "x=a.png", "--input", "k=0", "--png", "grid.png").code == 0
    with Image.open("grid.png") as image:
        sheet = np.asarray(image)
    factor = 4  # 17 pixels across become at least 64
    inner = sheet[2:-2, 2:-2]
    assert inner.shape == (8 * factor, 17 * factor, 3)
    small = inner[::factor, ::factor].astype(int)
    assert np.abs(small[:, :8] - pixels).max() <= 1
    assert (small[:, 8] == 255).all()
    lowest, highest = small[:, 9:].min(), small[:, 9:].max()
    assert (lowest, highest) == (0, 255)  # the output's own range
