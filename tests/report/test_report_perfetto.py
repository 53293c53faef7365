import json
from dataclasses import replace
from itertools import pairwise

import chrome_trace
import pytest
from handmade import chain

from mgc.report import facts, report


def trace_of(program):
    return chrome_trace.read(report(program, "schedule", "perfetto"))


@pytest.mark.parametrize("clock_ns", [1.0, 0.4, 100.0])
@pytest.mark.parametrize("layers", [1, 7])
def test_every_task_is_a_slice_on_its_units_track(clock_ns, layers):
    program = chain(layers=layers, micro_batches=5, host=True)
    program = replace(program, clock_ns=clock_ns)
    trace, shown = trace_of(program), facts(program, "schedule")
    slices = [e for e in trace.slices if "task" in e["args"]]
    assert len(slices) == len(shown["tasks"])
    assert [e["name"] for e in trace.slices if "task" not in e["args"]] == ["testing"]
    tasks = {t["id"]: t for t in shown["tasks"]}
    for e in slices:
        task = tasks[e["args"]["task"]]
        assert trace.threads[e["pid"], e["tid"]] == task["unit"]
        assert e["name"] == task["name"]
        assert e["args"]["onnx_nodes"] == task["onnx_nodes"]
        assert e["ts"] == pytest.approx(task["start"] * clock_ns / 1000)
        assert e["dur"] == pytest.approx(task["duration"] * clock_ns / 1000)


def test_arrows_join_the_tasks_that_depend_on_each_other():
    program = chain(layers=3, micro_batches=4)
    joined = {(a["args"]["task"], b["args"]["task"]) for a, b in trace_of(program).flows}
    assert joined == {(d, t["id"]) for t in facts(program, "schedule")["tasks"] for d in t["deps"]}
    assert joined


def test_tracks_are_grouped_by_kind_in_the_order_of_data():
    trace = trace_of(chain(host=True))
    assert list(trace.processes.values()) == ["plan", "host links", "ports", "crossbars", "vector units", "host"]


def test_counters():
    program = chain(layers=2, micro_batches=3)
    counters = trace_of(program).counters
    assert set(counters) == {"busy crossbars", "bytes in edram"}
    busy = counters["busy crossbars"]
    assert busy[0] == (30, 1)  # the first MVM starts after LOAD and VEC
    assert {v for _, v in busy} == {0, 1}  # one link: the next micro-batch comes in when this one is out
    assert busy[-1][1] == 0
    work = sum(v * (b - a) for (a, v), (b, _) in pairwise(busy))
    assert work == 3 * (90 + 120)  # cycles x crossbars
    held = counters["bytes in edram"]
    assert held[0] == (0, 400)  # z
    assert held[-1] == (program.entry.schedule.makespan, 0)
    assert min(v for _, v in held[:-1]) > 0


def test_what_persists_is_always_held():
    program = chain(layers=1, micro_batches=2)
    kept = replace(program, buffers=(replace(program.buffers[0], persistent=True), *program.buffers[1:]))
    held = trace_of(kept).counters["bytes in edram"]
    assert held[0] == (0, 400)
    assert min(v for _, v in held[:-1]) >= 400


def test_the_validator_catches_what_viewers_do_not_draw():
    trace = json.loads(report(chain(), "schedule", "perfetto"))
    assert chrome_trace.read(json.dumps(trace))

    def broken(change):
        copy = json.loads(json.dumps(trace))
        change(copy["traceEvents"])
        with pytest.raises((AssertionError, KeyError)):
            chrome_trace.read(json.dumps(copy))

    def first(events, ph):
        return next(e for e in events if e["ph"] == ph)

    def named(events, name):
        return next(e for e in events if e["name"] == name)

    broken(lambda events: first(events, "f").update(id=10**6))
    broken(lambda events: first(events, "s").update(ts=first(events, "s")["ts"] + 10.0))
    broken(lambda events: named(events, "store image").update(dur=0.015))  # the next load begins where it ends
    broken(lambda events: first(events, "f").pop("bp"))
    broken(lambda events: events.remove(first(events, "M")))
    broken(lambda events: events.append(first(events, "C")))
