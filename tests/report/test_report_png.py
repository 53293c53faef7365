from dataclasses import replace

import numpy as np
import pytest
from handmade import chain

from mgc.isa.functions import function_code
from mgc.isa.instructions import BUFFER, REGISTER, Ref, Result, Step, Vec
from mgc.report import png


def ending_in(*functions):
    """A program whose output is made by a kernel of these functions, then moved."""
    program = chain()
    move = next(i for i in program.instructions if i.mnemonic == "move")
    made = move.reads()[0]
    steps = tuple(
        Step(function_code(name), (Ref(BUFFER, 0) if k == 0 else Ref(REGISTER, k - 1),), (0.0,) * 2)
        for k, name in enumerate(functions)
    )
    vec = Vec(len(program.instructions), 0, 1, (), (), 0, steps, (Result(Ref(REGISTER, len(steps) - 1), made),))
    only_one = replace(move, pieces=move.pieces[:1])
    others = tuple(i for i in program.instructions if i is not move and made not in i.writes())
    return replace(program, instructions=(*others, only_one, vec))


@pytest.mark.parametrize(
    ("functions", "low_high"),
    [
        (("tanh",), (-1.0, 1.0)),
        (("sigmoid",), (0.0, 1.0)),
        (("tanh", "cast"), (-1.0, 1.0)),
        (("tanh", "relu"), (-0.25, 0.5)),
    ],
)
def test_the_range_comes_from_the_last_function(functions, low_high):
    values = np.array([-0.25, 0.5], np.float32).reshape(1, 1, 2, 1)
    assert png.value_range(ending_in(*functions), "image", values) == low_high


def test_a_constant_output_has_a_range_too():
    low, high = png.value_range(chain(), "image", np.full((1, 2, 2, 1), 3.0))
    assert low < 3 < high
    assert png.value_range(chain(), "image", np.full((1, 2, 2, 1), np.nan)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((5, 1, 28, 28), (5, 28, 28, 1)),
        ((5, 3, 8, 6), (5, 8, 6, 3)),
        ((5, 8, 6, 3), (5, 8, 6, 3)),
        ((5, 784), (5, 28, 28, 1)),
        ((5, 1), None),
        ((5, 100), (5, 10, 10, 1)),
        ((5, 1, 1, 1), None),
        ((5, 2, 8, 8), None),
        ((0, 1, 8, 8), None),
    ],
)
def test_what_counts_as_images(shape, seen):
    images = png.as_images(np.zeros(shape, np.float32))
    assert (None if images is None else images.shape) == seen


def test_pixels_are_values_between_black_and_white():
    picture = png.draw(chain(), {"image": np.array([-1, 0, 0.5, 1], np.float32).reshape(1, 1, 2, 2)})
    assert (picture.kind, picture.shown, picture.samples) == ("images", 1, 1)
    pixels = np.asarray(picture.image)
    assert pixels.shape == (2 * 32 + 4, 2 * 32 + 4)  # enlarged by a whole factor, framed
    assert {int(pixels[10, 10]), int(pixels[10, 50]), int(pixels[50, 10]), int(pixels[50, 50])} == {0, 128, 191, 255}


def test_colour_images_stand_in_a_near_square_grid():
    picture = png.draw(chain(), {"score": np.zeros((6, 1)), "image": np.random.rand(6, 3, 64, 64)})
    assert picture.output == "image"
    assert picture.image.mode == "RGB"
    assert picture.image.size == (3 * 66 + 2, 2 * 66 + 2)


def test_signals_are_plotted():
    waves = np.sin(np.linspace(0, 20, 3 * 2 * 50)).reshape(3, 2, 50)
    picture = png.draw(chain(), {"wave": waves})
    assert picture.kind == "waveforms"
    colours = {c for _, c in picture.image.getcolors(1 << 24)}
    assert len(colours) > 20  # smooth lines on white


def test_many_samples_are_cut_with_a_count():
    picture = png.draw(chain(), {"image": np.zeros((300, 1, 2, 2), np.float32)})
    assert (picture.shown, picture.samples) == (256, 300)


def test_not_a_number_is_drawn_not_crashed_on():
    picture = png.draw(chain(), {"image": np.full((1, 1, 4, 4), np.nan, np.float32)})
    assert picture.image.size[0] > 4
    png.draw(chain(), {"wave": np.full((1, 1, 40), np.inf, np.float32)})


def test_no_picture_is_a_clear_message():
    with pytest.raises(png.PictureError, match=r"no output is an image or a signal: score \[4, 1\]; what can be drawn"):
        png.draw(chain(), {"score": np.zeros((4, 1))})
