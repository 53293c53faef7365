import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from entries import with_plan
from handmade import chain

from mgc.report import report
from mgc.report.palette import ink_on, ordered

NS = "{http://www.w3.org/2000/svg}"


def parts(program):
    root = ET.fromstring(report(program, "schedule", "svg"))
    bars = [g for g in root.iter(f"{NS}g") if g.find(f"{NS}rect") is not None]
    texts = [t.text for t in root.iter(f"{NS}text")]
    return root, bars, texts


def test_title_legend_axis_and_rows():
    _, bars, texts = parts(chain(host=True))
    assert "chain on liu2018, batch 3" in texts
    assert "OPTIMAL: 975 cycles (975 ns), proven bound 974, gap 0.1 %" in texts
    assert {
        "micro-batch",
        "cycles",
        "time",
        "crossbars",
        "vector units",
        "host links",
        "host",
        "ports",
        "conv0.xbars",
    } <= set(texts)
    assert "writer" not in texts  # a unit without tasks has no row
    assert "end: 975 cycles, 975 ns" in texts
    assert len(bars) == 24


def test_every_bar_says_on_hover_what_it_is_and_where_it_came_from():
    _, bars, _ = parts(chain())
    hovers = [bar.find(f"{NS}title").text for bar in bars]
    assert "mvm conv0\nmicro-batch 0\ncycles 30 to 120 (90)\n/gen/conv0/ConvTranspose" in hovers


def test_bars_stay_inside_the_plot_and_in_proportion():
    program = chain(layers=5, micro_batches=7)
    root, bars, _ = parts(program)
    width = float(root.get("width"))
    boxes = [bar.find(f"{NS}rect") for bar in bars]
    assert all(float(b.get("x")) >= 230 and float(b.get("x")) + float(b.get("width")) <= width - 60 for b in boxes)


def test_one_micro_batch_is_coloured_by_instruction():
    _, _, texts = parts(chain(micro_batches=1))
    assert "instruction" in texts
    assert {"load", "vec", "mvm", "move", "store"} <= set(texts)


def test_many_micro_batches_get_a_scale():
    _, _, texts = parts(chain(micro_batches=64))
    assert "63" in texts


@pytest.mark.parametrize(("layers", "micro_batches"), [(1, 1), (40, 13), (100, 64)])
def test_size_stays_readable(layers, micro_batches):
    root, bars, _ = parts(chain(layers=layers, micro_batches=micro_batches))
    assert 200 < int(root.get("height")) < 5000
    assert bars


def test_slivers_are_joined_and_say_so():
    program = chain(layers=1, micro_batches=2)
    load = program.instructions[1]
    stretched = with_plan(program, makespan=10**7, lower_bound=10**7)
    assert load.mnemonic == "load"
    _, bars, _ = parts(stretched)
    hovers = [bar.find(f"{NS}title").text for bar in bars]
    assert len(hovers) <= 10
    assert any(h.startswith(("2 tasks", "load", "mvm")) for h in hovers)


def test_names_with_markup_are_escaped():
    program = replace(chain(), name="<b>&\"'")
    assert "<b>&\"' on liu2018, batch 3" in parts(program)[2]


def test_same_program_same_text():
    assert report(chain(), "schedule", "svg") == report(chain(), "schedule", "svg")


def test_the_scale_gets_lighter_all_the_way():
    def lightness(colour):
        red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    steps = [lightness(ordered(k / 40)) for k in range(41)]
    assert steps == sorted(steps)
    assert ink_on(ordered(0)) == "#ffffff"
    assert ink_on(ordered(1)) == "#000000"


def test_training_is_coloured_by_stage(trained):
    root, bars, texts = parts(trained)
    assert {"stage", "discriminator forward", "generator backward", "generator update", "testing"} <= set(texts)
    hovers = [bar.find(f"{NS}title").text for bar in bars]
    assert any(h.startswith("diff loss_d") and "\ndiscriminator, loss\n" in h for h in hovers)
    assert any(t.text == "here begins testing" for t in root.iter(f"{NS}title"))
