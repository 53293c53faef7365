"""The page in a headless Chromium: no errors, nothing from the network, and everything that can be pressed works."""

import statistics
from io import BytesIO

import pytest
from handmade import chain
from PIL import Image

from mgc.report import report

FRAME_MS = 33.0
"""What a frame may take with 10,000 tasks: 30 a second, on a machine that has other work."""


@pytest.fixture
def opened(tab, tmp_path):
    """Opens a program's page; at the end of the test the console must have been silent all along."""

    def show(program, view="summary", **size):
        file = tmp_path / "page.html"
        file.write_text(report(program, view, "html"), encoding="utf-8")
        tab.messages.clear()
        tab.open(file, **size)
        return tab

    yield show
    assert tab.messages == []


def view_of(page, gantt=0):
    view = page.evaluate(f"mgc.gantts[{gantt}].view")
    return view["from"], view["to"]


def place_of(page, task, gantt=0):
    """The middle of a task's bar, in the window."""
    return page.evaluate(
        f"""(() => {{
            const g = mgc.gantts[{gantt}];
            g.canvas.scrollIntoView({{ behavior: "instant", block: "center" }});
            g.reveal({task});
            const [box, at] = [g.canvas.getBoundingClientRect(), g.place({task})];
            return [box.left + (at.x0 + at.x1) / 2, box.top + (at.y0 + at.y1) / 2];
        }})()"""
    )


def tip(page):
    return page.evaluate("document.querySelector('.tip').hidden ? null : document.querySelector('.tip').innerText")


def test_compiled_programs_open_without_a_word(opened, compiled, trained):
    for program in (compiled, trained, chain(host=True), chain(1, 1)):
        page = opened(program)
        assert page.evaluate("mgc.gantts.every((g) => g.colours.length === g.schedule.start.length)")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.messages == []


def test_bars_are_drawn_where_tasks_are(opened):
    program = chain(layers=2, micro_batches=3)
    page = opened(program, "schedule")
    x, y = place_of(page, 2)  # the first MVM
    page.settle()
    pixels = Image.open(BytesIO(page.picture())).convert("RGB")
    assert "#{:02x}{:02x}{:02x}".format(*pixels.getpixel((round(x) + 3, round(y) - 6))) == page.evaluate(
        "mgc.gantts[0].colours[2]"
    )


def test_the_wheel_zooms_where_the_pointer_is(opened):
    page = opened(chain(layers=4, micro_batches=6), "schedule")
    x, y = place_of(page, 20)
    before, under = view_of(page), page.evaluate("mgc.gantts[0].schedule.start[20]")
    for _ in range(6):
        page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-100)
    after = view_of(page)
    assert after[1] - after[0] < 0.5 * (before[1] - before[0])
    assert after[0] <= under <= after[1]
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=400)
    assert view_of(page)[1] - view_of(page)[0] > after[1] - after[0]


def test_what_the_schedule_does_not_take_scrolls_the_page(opened):
    page = opened(chain(layers=40, micro_batches=2), "schedule", height=700)
    x, y = place_of(page, 0)
    whole, at = view_of(page), page.evaluate("scrollY")
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=150)
    page.wait(f"scrollY > {at}")
    assert view_of(page) == whole
    x, y = place_of(page, 0)
    at = page.evaluate("scrollY")
    page.mouse("mouseWheel", x - 200, y, deltaX=0, deltaY=90)  # over the names
    page.wait("mgc.gantts[0].scroll === 90")
    assert page.evaluate("scrollY") == at


def test_buttons_and_keys_change_the_view(opened):
    page = opened(chain(layers=4, micro_batches=6), "schedule")
    whole = view_of(page)
    page.click('[data-do="in"]')
    assert view_of(page)[1] - view_of(page)[0] == pytest.approx((whole[1] - whole[0]) / 2)
    page.click('[data-do="out"]')
    assert view_of(page) == whole
    page.evaluate("mgc.gantts[0].canvas.focus()")
    page.key("+")
    zoomed = view_of(page)
    assert zoomed[1] - zoomed[0] < whole[1] - whole[0]
    page.key("ArrowRight")
    assert view_of(page)[0] > zoomed[0]
    page.key("ArrowLeft")
    assert view_of(page) == pytest.approx(zoomed)
    page.key("0")
    assert view_of(page) == whole
    page.key("-")
    assert view_of(page) == whole  # there is no more


def test_dragging_pans(opened):
    page = opened(chain(layers=4, micro_batches=6), "schedule")
    page.click('[data-do="in"]')
    page.click('[data-do="in"]')
    x, y = place_of(page, 0)
    before = view_of(page)
    x = x + 400
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseMoved", x - 120, y, button="left")
    page.mouse("mouseReleased", x - 120, y, button="left", clickCount=1)
    assert view_of(page)[0] > before[0]
    assert view_of(page)[1] - view_of(page)[0] == pytest.approx(before[1] - before[0])


def test_hovering_tells_what_a_task_is(opened):
    page = opened(chain(layers=2, micro_batches=3), "schedule")
    page.mouse("mouseMoved", 2, 2)
    assert tip(page) is None
    page.mouse("mouseMoved", *place_of(page, 2))
    said = tip(page)
    for words in ("mvm conv0", "conv0.xbars", "/gen/conv0/ConvTranspose", "30 to 120 (90)", "0 of 0 to 2", "testing"):
        assert words in said
    assert "waits for\nvec" in said
    page.mouse("mouseMoved", 2, 2)
    assert tip(page) is None


def test_a_click_keeps_the_details_and_keys_follow_dependencies(opened):
    page = opened(chain(layers=2, micro_batches=3), "schedule")
    details = "document.querySelector('.details').innerText"
    help_text = page.evaluate(details)
    x, y = place_of(page, 2)
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    page.mouse("mouseReleased", x, y, button="left", clickCount=1)
    assert "mvm conv0" in page.evaluate(details)
    page.evaluate("mgc.gantts[0].canvas.focus()")
    page.key("d")
    assert page.evaluate(details).startswith("vec ")
    page.key("d")
    assert page.evaluate(details).startswith("load z")
    page.key("s")
    assert page.evaluate(details).startswith("vec ")
    page.key("n")
    assert page.evaluate(details).startswith("mvm conv0")
    page.key("Escape")
    assert page.evaluate(details) == help_text


def test_the_filter_dims_counts_and_zooms(opened):
    page = opened(chain(layers=3, micro_batches=4), "schedule")
    count = "document.querySelector('[data-schedule] .count').innerText"
    assert page.evaluate(count) == "36 tasks"
    page.evaluate("document.querySelector('[data-do=filter]').focus()")
    page.type("CONV1/ mvm")
    assert page.evaluate(count) == "4 of 36 tasks"
    assert page.evaluate("mgc.gantts[0].matches.filter(Boolean).length") == 4
    before = view_of(page)
    page.key("Enter")
    assert page.evaluate("mgc.gantts[0].view.from > 0")
    assert view_of(page) != before
    page.evaluate("document.querySelector('[data-do=filter]').select()")
    page.type("nothing of this name")
    assert page.evaluate(count) == "0 of 36 tasks"


def test_a_node_is_shown_in_the_schedule(opened):
    page = opened(chain(layers=3, micro_batches=4))
    page.click('button[data-node="/gen/conv2/ConvTranspose"]')
    assert page.evaluate("document.querySelector('[data-do=filter]').value") == "/gen/conv2/ConvTranspose"
    assert page.evaluate("mgc.gantts[0].matches.filter(Boolean).length") == 8


def test_the_node_table_filters(opened):
    page = opened(chain(layers=3, micro_batches=2))
    page.evaluate("document.querySelector('[data-filters=node-table]').focus()")
    page.type("conv1")
    rows = "[...document.getElementById('node-table').tBodies[0].rows].filter((r) => !r.hidden).length"
    assert page.evaluate(rows) == 1


def test_colours_and_the_critical_path(opened, trained):
    page = opened(trained, "schedule")
    by_stage = page.evaluate("new Set(mgc.gantts[0].colours).size")
    assert by_stage >= 6
    assert "discriminator, backward" in page.evaluate("document.querySelector('.legend').innerText")
    page.evaluate(
        "(() => { const s = document.querySelector('[data-do=colours]');"
        " s.value = 'instruction'; s.dispatchEvent(new Event('change')); })()"
    )
    legend = page.evaluate("document.querySelector('.legend').innerText")
    assert {"mvm", "mvm_t", "outer", "update", "diff"} <= set(legend.split())
    before = page.picture()
    page.click('[data-do="critical"]')
    assert page.evaluate("document.querySelector('[data-do=critical]').getAttribute('aria-pressed')") == "true"
    assert page.picture() != before


def test_entries_of_a_training_program(opened, trained):
    page = opened(trained, "schedule")
    names = page.evaluate("[...document.querySelectorAll('[data-entry]')].map((b) => b.innerText)")
    assert names == [e.name for e in trained.entries]
    page.click('[data-entry="1"]')
    shown = page.evaluate("[...document.querySelectorAll('[data-schedule]')].map((p) => !p.hidden)")
    assert shown == [k == 1 for k in range(len(names))]
    assert page.evaluate("mgc.gantts[1].canvas.width > 500")
    assert page.evaluate("document.querySelector('#training').innerText.includes('Versions of weights')")


def test_the_floor_plan_says_whose_weights_a_crossbar_holds(opened, compiled):
    page = opened(compiled, "mapping")
    group = compiled.groups[0]
    x, y = page.evaluate(
        f"""(() => {{
            const f = mgc.floor;
            f.canvas.scrollIntoView({{ behavior: "instant", block: "center" }});
            const c = {group.crossbars[0]};
            const [tile, k] = [Math.floor(c / f.perTile), c % f.perTile];
            const [box, at] = [f.canvas.getBoundingClientRect(), f.corner(0, tile)];
            const [column, row] = [Math.floor(k / f.floor.crossbars_per_macro), k % f.floor.crossbars_per_macro];
            return [box.left + at.x + 2 + (column + 0.5) * f.cell, box.top + at.y + 2 + (row + 0.5) * f.cell];
        }})()"""
    )
    page.mouse("mouseMoved", x, y)
    said = tip(page)
    for words in (group.name, f"crossbar {group.crossbars[0]}", group.sources[0], f"0 of {group.replicas}"):
        assert words in said
    assert page.evaluate("mgc.floor.held.size") == sum(len(g.crossbars) for g in compiled.groups)
    page.click("#floor .legend li")
    assert page.evaluate("mgc.floor.layer") == 0


def test_dark_and_light(opened, compiled):
    page = opened(compiled)
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.click("#theme")
    assert page.evaluate(background) != light
    page.click("#theme")
    assert page.evaluate(background) == light
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    page = opened(compiled)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.call("Emulation.setEmulatedMedia", features=[])


def test_a_narrow_window_and_paper(opened, compiled):
    page = opened(compiled, width=400, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert len(page.call("Page.printToPDF", printBackground=True)["data"]) > 20_000
    page = opened(chain(layers=30, micro_batches=2))
    shown = page.evaluate("mgc.gantts[0].shown")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("mgc.gantts[0].shown === mgc.gantts[0].total")
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("mgc.gantts[0].shown") == shown < page.evaluate("mgc.gantts[0].total")


def test_ten_thousand_tasks_stay_fluid(opened, tell):
    program = chain(layers=24, micro_batches=200)
    page = opened(program, "schedule")
    tasks = page.evaluate("mgc.gantts[0].schedule.start.length")
    assert tasks > 10_000
    times = page.evaluate("mgc.gantts[0].measure(60)")
    drawn, apart = (statistics.median(times[k]) for k in ("draw", "apart"))
    tell(f"page with {tasks:,} tasks: {drawn:.1f} ms to draw a frame, {apart:.1f} ms from one to the next (medians)")
    assert drawn < FRAME_MS
    assert apart < FRAME_MS
