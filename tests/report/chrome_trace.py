"""The rules of a Chrome trace in JSON, written down apart from the code that makes one.

After the "Trace Event Format" document and Perfetto's importer: times are microseconds, kept as whole nanoseconds;
slices of a thread nest; a flow's ends bind to the slice around them on their thread, and it has one of each.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any, NamedTuple

_METADATA = {
    "process_name": "name",
    "thread_name": "name",
    "process_sort_index": "sort_index",
    "thread_sort_index": "sort_index",
}
_ALLOWED = {
    "M": {"ph", "name", "pid", "tid", "args"},
    "X": {"ph", "name", "cat", "pid", "tid", "ts", "dur", "args"},
    "s": {"ph", "name", "cat", "id", "pid", "tid", "ts"},
    "f": {"ph", "bp", "name", "cat", "id", "pid", "tid", "ts"},
    "C": {"ph", "name", "pid", "tid", "ts", "args"},
}


class Trace(NamedTuple):
    """A trace that keeps the rules: slices, the (from, to) slices of each flow, counters by name, names of tracks."""

    slices: list[dict[str, Any]]
    flows: list[tuple[dict[str, Any], dict[str, Any]]]
    counters: dict[str, list[tuple[int, float]]]
    processes: dict[int, str]
    threads: dict[tuple[int, int], str]


def read(text: str) -> Trace:
    """The trace in `text`. AssertionError for the first rule that it breaks."""
    trace = json.loads(text, parse_constant=lambda word: _fail(f"{word} is no JSON"))
    assert set(trace) <= {"displayTimeUnit", "otherData", "traceEvents"}
    assert trace["displayTimeUnit"] in ("ms", "ns")
    events = trace["traceEvents"]
    assert isinstance(events, list)
    for event in events:
        _check_form(event)
    names = _names([e for e in events if e["ph"] == "M"])
    processes = {pid: value for (what, pid, _), value in names.items() if what == "process_name"}
    threads = {(pid, tid): value for (what, pid, tid), value in names.items() if what == "thread_name"}
    slices = [e for e in events if e["ph"] == "X"]
    by_thread = defaultdict(list)
    for e in events:
        assert e["ph"] == "M" or e["pid"] in processes, f"{e['name']}: process {e['pid']} has no name"
    for e in slices:
        by_thread[e["pid"], e["tid"]].append(e)
    for thread, own in by_thread.items():
        assert thread in threads or thread[1] == 0, f"thread {thread} has no name"
        _check_nesting(own)
    flows = _flows([e for e in events if e["ph"] in "sf"], by_thread)
    return Trace(slices, flows, _counters([e for e in events if e["ph"] == "C"]), processes, threads)


def ns(microseconds: float) -> int:
    """As the importer keeps it."""
    return round(microseconds * 1000)


def end(event: dict[str, Any]) -> int:
    """Where a slice ends, in ns."""
    return ns(event["ts"] + event["dur"])


def _fail(message: str) -> None:
    raise AssertionError(message)


def _check_form(event: dict[str, Any]) -> None:
    assert set(event) == _ALLOWED[event["ph"]], event
    assert isinstance(event["name"], str)
    assert event["name"]
    assert all(type(event[k]) is int and event[k] >= 0 for k in ("pid", "tid"))
    if "ts" in event:
        assert type(event["ts"]) in (int, float)
        assert event["ts"] >= 0
    if event["ph"] == "X":
        assert event["dur"] >= 0
        assert isinstance(event["cat"], str)
        assert isinstance(event["args"], dict)
    if event["ph"] == "f":
        assert event["bp"] == "e", "without it a flow binds to the next slice, not to the one around it"


def _names(events: list[dict[str, Any]]) -> dict[tuple[str, int, int], Any]:
    found = {}
    for e in events:
        value = e["args"][_METADATA[e["name"]]]
        assert list(e["args"]) == [_METADATA[e["name"]]]
        assert isinstance(value, str if e["name"].endswith("_name") else int)
        key = e["name"], e["pid"], e["tid"]
        assert key not in found, f"{key} is named twice"
        found[key] = value
    return found


def _check_nesting(slices: list[dict[str, Any]]) -> None:
    open_until: list[int] = []
    for e in sorted(slices, key=lambda e: (ns(e["ts"]), -end(e))):
        while open_until and open_until[-1] <= ns(e["ts"]):
            open_until.pop()
        assert not open_until or end(e) <= open_until[-1], f"{e['name']} at {e['ts']} crosses the end of another"
        open_until.append(end(e))


def _around(slices: list[dict[str, Any]], ts: int) -> dict[str, Any]:
    """The innermost slice that is open at a time: from its start on, up to before its end."""
    found = [e for e in slices if ns(e["ts"]) <= ts < max(end(e), ns(e["ts"]) + 1)]
    assert found, f"no slice is open at {ts} ns"
    return max(found, key=lambda e: (ns(e["ts"]), -end(e)))


def _flows(
    ends: list[dict[str, Any]], by_thread: dict[tuple[int, int], list[dict[str, Any]]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    starts = {}
    flows = []
    for e in ends:
        key = e["cat"], e["name"], e["id"]
        if e["ph"] == "s":
            assert key not in starts, f"flow {key} starts twice"
            starts[key] = e
            continue
        start = starts[key]
        assert start is not None, f"flow {key} ends twice"
        starts[key] = None
        assert ns(start["ts"]) <= ns(e["ts"]), f"flow {key} goes back in time"
        flows.append(tuple(_around(by_thread[x["pid"], x["tid"]], ns(x["ts"])) for x in (start, e)))
    assert all(v is None for v in starts.values()), "a flow does not end"
    return flows


def _counters(events: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    found = defaultdict(list)
    for e in events:
        (value,) = e["args"].values()
        assert type(value) in (int, float)
        series = found[e["name"]]
        assert not series or series[-1][0] < ns(e["ts"]), f"{e['name']}: times do not rise"
        series.append((ns(e["ts"]), value))
    return dict(found)
