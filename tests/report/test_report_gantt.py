import re
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from handmade import chain
from rich.console import Console

from mgc.report import report
from mgc.report.gantt import MOST_ROWS, Gantt
from mgc.report.text import to_text
from mgc.report.timeline import Timeline, timelines


def lines_of(program, width=80):
    return to_text(Gantt(Timeline.of(program)), width).splitlines()


def row(lines, name):
    (found,) = [line for line in lines if line[2:].startswith(name)]
    return found


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize(("layers", "micro_batches"), [(1, 1), (2, 3), (12, 16), (60, 170)])
def test_it_fits_the_terminal_from_5_tasks_to_20000(width, layers, micro_batches):
    program = chain(layers=layers, micro_batches=micro_batches)
    begin = time.perf_counter()
    lines = lines_of(program, width)
    assert time.perf_counter() - begin < 20
    assert max(map(len, lines)) <= width
    assert len(lines) <= MOST_ROWS + 16
    assert f"{(2 * layers + 3) * micro_batches:,} tasks" in " ".join(lines)


def test_micro_batches_have_signs_where_they_run():
    lines = lines_of(chain(layers=1, micro_batches=3))  # 140 cycles each, 90 of them in conv0
    drawn = row(lines, "conv0.xbars")
    signs = re.findall("[012]+", drawn.removesuffix("64.3 %").split("conv0.xbars")[1])
    assert [set(s) for s in signs] == [{"0"}, {"1"}, {"2"}]
    assert drawn.endswith(" 64.3 %")
    columns = 80 - 3 - 7 - (drawn.index("0", 20) - 3)
    assert sum(map(len, signs)) > 0.5 * columns


def test_the_axis_names_cycles_and_time_above_their_columns():
    cycles, seconds = lines_of(chain(layers=4, micro_batches=8))[:2]
    named = [(m.start(), m[0]) for m in re.finditer(r"[\d,]+", cycles)]
    timed = [(m.start(), m[0]) for m in re.finditer(r"[\d.]+ [nµm]?s", seconds)]
    assert named[1:] == [(at, f"{int(float(words.split()[0]) * 1000):,}") for at, words in timed[1:]]
    assert cycles.split()[0] == "cycles"
    assert seconds.split()[0] == "time"


def test_the_critical_path_reaches_from_the_end_to_the_start():
    program = chain(layers=2, micro_batches=1)
    chained = Timeline.of(program).critical
    assert (chained[0].start, chained[-1].end) == (0, program.entry.schedule.makespan)
    assert all(a.end == b.start for a, b in pairwise(chained))
    lines = lines_of(program)
    path = row(lines, "critical path").split("path", 1)[1].strip()
    letters = {line[2:].split()[0]: line[0] for line in lines if line[1:2] == " " and line[:1].strip()}
    assert path[0] == path[-1] == letters["io"]
    assert letters["conv0.xbars"] in path
    assert " " not in path


def test_layers_share_rows_where_there_are_many_units():
    lines = lines_of(chain(layers=50, micro_batches=2))
    rows = [line for line in lines if line.endswith(" %") and line[1] == " "]
    assert len(rows) <= MOST_ROWS
    assert "102 units in" in " ".join(lines)
    assert any("vector ×" in line for line in rows)


def test_the_beginning_is_shown_where_micro_batches_run_together():
    text = report(chain(layers=2, micro_batches=60), "schedule")
    whole, beginning = text.split("The beginning: cycles 0 to 1,710\n")  # 6 of 60, 285 cycles each
    assert "420 tasks" in whole
    assert "42 tasks" in beginning
    drawn = row(beginning.split("Critical path")[0].splitlines(), "conv1.xbars")
    assert set("012345") <= set(drawn.split("conv1.xbars")[1])
    assert "The beginning" not in report(chain(layers=2, micro_batches=20), "schedule")


def test_stages_of_training_are_told_apart(trained):
    first, last = timelines(trained)
    text = to_text(Gantt(first), 100)
    for words in ("f discriminator forward", "b discriminator backward", "U generator update"):
        assert words in text.replace("\n", " ")
    assert "█ busy" in to_text(Gantt(last), 100)
    assert first.makespan + last.makespan == sum(e.schedule.makespan for e in trained.entries)


def test_colours_only_on_a_terminal():
    gantt = Gantt(Timeline.of(chain()))
    assert "\x1b" not in to_text(gantt, 80)
    console = Console(width=80, force_terminal=True, color_system="truecolor", legacy_windows=False)
    with console.capture() as capture:
        console.print(gantt)
    assert "\x1b[" in capture.get()
    assert "48;2;68;1;84" in capture.get()  # the first micro-batch's colour


def test_the_text_says_how_good_each_part_is(trained):
    text = report(trained, "schedule")
    for entry in trained.entries:
        plan = entry.schedule
        assert f"Entry {entry.name}: {plan.status}: {plan.period:,} cycles" in " ".join(text.split())
    assert "Critical path" in text
    longer = replace(chain(layers=40, micro_batches=2), name="long")
    assert "the 48 busiest of 82" in report(longer, "schedule")
    assert "the first 48 of 83 tasks" in report(longer, "schedule")
