"""The page as text: complete, self-contained, escaped, the same for the same program."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from handmade import chain

from mgc.report import facts, report
from mgc.report.html.page import Sample

_VOID = {"meta", "link", "input", "img", "br"}


class Reader(HTMLParser):
    """Checks that elements nest, and keeps what the page says."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.texts, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data.strip())


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    return reader


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL).group(1))


@pytest.mark.parametrize("program", [chain(), chain(1, 1), chain(3, 4, host=True)], ids=["chain", "small", "host"])
def test_the_page_is_whole_and_says_what_the_views_say(program):
    reader = read(report(program, "summary", "html"))
    assert {"summary", "schedule", "cost", "memory", "nodes", "data"} <= set(reader.ids)
    for node in facts(program)["nodes"]:
        assert node["node"] in reader.texts
    for buffer in program.buffers:
        assert buffer.name in reader.texts
    assert any(t.startswith("OPTIMAL: ") for t in reader.texts)


def test_it_asks_the_network_for_nothing():
    text = report(chain(host=True), "schedule", "html")
    assert "default-src 'none'" in text
    assert "http:" not in text
    assert "https:" not in text
    assert all(not value.startswith("//") for name, value in read(text).attributes if name in ("src", "href"))


def test_the_schedule_in_it_is_that_of_the_json():
    program = chain(layers=3, micro_batches=4)
    data, shown = data_of(report(program, "schedule", "html")), facts(program, "schedule")
    (schedule,) = data["schedules"]
    assert schedule["makespan"] == shown["makespan_cycles"]
    for task in shown["tasks"]:
        k = task["id"]
        instruction = data["instructions"][schedule["instruction"][k]]
        assert instruction["label"] == task["name"]
        assert [data["nodes"][n] for n in instruction["nodes"]] == task["onnx_nodes"]
        assert data["units"][instruction["unit"]]["name"] == task["unit"]
        assert (schedule["start"][k], schedule["end"][k]) == (task["start"], task["start"] + task["duration"])
        assert schedule["deps"][schedule["offsets"][k] : schedule["offsets"][k + 1]] == task["deps"]


def test_markup_in_names_stays_text():
    program = chain()
    evil = "</script><script>alert(1)</script>"
    program = replace(program, name=evil, sources=((), (evil,), *program.sources[2:]))
    text = report(program, "summary", "html")
    assert evil not in text
    reader = read(text)
    assert evil in reader.texts
    assert data_of(text)["nodes"][0] == evil


def test_it_opens_at_the_view_and_shows_samples():
    text = report(chain(), "mapping", "html", samples=[Sample(b"\x89PNG", '4 images, "seed" 0')])
    reader = read(text)
    assert 'data-open="chip"' in text
    assert "samples" in reader.ids
    assert ("src", "data:image/png;base64,iVBORw==") in reader.attributes
    assert 'data-open=""' in report(chain(), "summary", "html")


def test_same_program_same_page():
    assert report(chain(), "schedule", "html") == report(chain(), "schedule", "html")
