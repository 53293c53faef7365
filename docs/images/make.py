"""Makes the pictures of `mgc inspect` in this folder: `make pictures`, which needs a Chromium.

    gantt.png    the schedule in a terminal: the DCGAN of models/ for inference
    report.png   the page of the same DCGAN's training: its schedule, a task in focus with what it waits for
    floor.png    the same page: whose weights are in which crossbars
    pareto.png   the page of a sweep of the DCGAN over three keys

The pictures show what the commands print; nothing is drawn by hand.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image
from rich.console import Console

import mgc
from mgc.explore.plot import draw
from mgc.isa.program import Program
from mgc.report import renderable, report

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DCGAN = ROOT / "models" / "dcgan_fashion"
TERMINAL = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0;background:#14171b">
<pre id="terminal" style="display:inline-block;margin:0;padding:18px 22px;color:#e7eaee;\
font:13px/1.32 'DejaVu Sans Mono',Menlo,Consolas,monospace">{code}</pre></body>"""
COLUMNS = 118


def browser() -> ModuleType:
    """The tests' browser."""
    spec = importlib.util.spec_from_file_location("browser", ROOT / "tests" / "report" / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def terminal(program: Program) -> str:
    """What a terminal shows of the schedule, up to the units, as HTML."""
    console = Console(
        record=True,
        width=COLUMNS,
        force_terminal=True,
        color_system="truecolor",
        file=io.StringIO(),
        legacy_windows=False,
    )
    console.print(renderable(program, "schedule"))
    shown = console.export_html(code_format="{code}", inline_styles=True).split("Units (busy")[0]
    return TERMINAL.format(code=f"$ mgc inspect dcgan.mgc schedule\n{shown.rsplit('<span', 1)[0].rstrip()}")


def save(png: bytes, name: str) -> None:
    """Writes a picture, as small as it gets without loss."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.save(HERE / name, optimize=True)
    print(f"{name}: {image.width} x {image.height}, {(HERE / name).stat().st_size:,} bytes")


def main() -> None:
    """All pictures."""
    inference = mgc.compile(DCGAN / "dcgan_fashion_G.onnx", batch=16)
    training = mgc.compile_training(
        DCGAN / "dcgan_fashion_G_ts.onnx",
        discriminator=DCGAN / "dcgan_fashion_D_ts_bn.onnx",
        loss="bce",
        optimizer="adam",
        batch=16,
    )
    with tempfile.TemporaryDirectory() as folder, browser().chromium() as page:
        file = Path(folder) / "page.html"
        file.write_text(terminal(inference), encoding="utf-8")
        page.open(file, width=1200, height=800)
        page.call("Emulation.setScrollbarsHidden", hidden=True)
        width, height = page.evaluate("(({ width, height }) => [width, height])(terminal.getBoundingClientRect())")
        page.open(file, width=round(width), height=round(height))
        save(page.picture(), "gantt.png")

        file.write_text(report(training, "schedule", "html", title="DCGAN"), encoding="utf-8")
        page.open(file, width=1280, height=1240)
        x, y = page.evaluate(
            """(() => {
                const g = mgc.gantts[0];
                g.setView(0, 0.4 * g.schedule.makespan);
                g.setScroll(220);
                const instruction = (t) => g.report.instructions[g.schedule.instruction[t]];
                const label = "mvm_t discriminator.layers.5";
                const task = g.schedule.start.findIndex((_, t) => instruction(t).label === label);
                const [box, at] = [g.canvas.getBoundingClientRect(), g.place(task)];
                return [box.left + (at.x0 + at.x1) / 2, box.top + (at.y0 + at.y1) / 2];
            })()"""
        )
        page.settle()
        page.mouse("mouseMoved", x, y)
        save(page.picture(), "report.png")

        page.mouse("mouseMoved", 2, 2)
        page.evaluate("document.getElementById('chip').scrollIntoView({ behavior: 'instant' })")
        page.settle()
        save(page.picture(), "floor.png")
        sweep(page, file)
        assert page.messages == [], page.messages


def sweep(page: Any, file: Path) -> None:
    """The page of `mgc sweep --over adc_bits=3..8 --over cell_bits=1,2,4 --over rows=64,128,256`."""
    over = {"adc_bits": range(3, 9), "cell_bits": [1, 2, 4], "rows": [64, 128, 256]}
    draw(mgc.sweep(DCGAN / "dcgan_fashion_G.onnx", over), file, "dcgan_fashion_G.onnx on liu2018")
    page.open(file, width=1000, height=660)
    save(page.picture(), "pareto.png")


if __name__ == "__main__":
    main()
