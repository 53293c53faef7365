"""`mgc run`: simulate a program."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgc.cli import console
from mgc.cli.command import CHECK_FAILED, command
from mgc.cli.errors import UserError, about
from mgc.cli.files import check_input, check_outputs, check_png, load_program, save_npz, whole_file
from mgc.cli.options import (
    CountWrites,
    Debug,
    Engine,
    EngineOption,
    FeaturesOption,
    Json,
    MaxElements,
    MetricOption,
    Numerics,
    NumericsOption,
    ProgramFile,
    Seed,
    Threads,
)
from mgc.cli.progress import progress
from mgc.cli.simulation import make_metrics, make_simulator, save_picture, simulate, testing_part
from mgc.evaluation.feeding import as_given, files_by_name, input_files, interpolated, make_feeds
from mgc.evaluation.given import ImageOptions

if TYPE_CHECKING:
    from mgc.evaluation.feeding import Feeds
    from mgc.isa.program import Program
    from mgc.sim import Simulator


MOST_STEPS = 256


@command
def run(
    program: ProgramFile,
    samples: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help="Samples, any number. [default: the program's batch]")
    ] = None,
    seed: Seed = 0,
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=WHAT",
            help="An input: FILE.npy, an image, a folder of images, or numbers (label=3). Repeatable; the others are "
            "drawn N(0,1).",
        ),
    ] = None,
    image_range: Annotated[
        str, typer.Option("--image-range", metavar="A,B", help="What black and white of an image become.")
    ] = "-1,1",
    resize: Annotated[bool, typer.Option("--resize", help="Cut and scale images of another size.")] = False,
    output: Annotated[
        Path | None, typer.Option("-o", metavar="OUT.npz", help="Write the outputs, and the inputs that were drawn.")
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(metavar="GRID.png", help="Draw the images (or waveforms); with --interpolate also FILE.gif."),
    ] = None,
    interpolate: Annotated[
        str | None,
        typer.Option(metavar="A,B,STEPS", help="Go from the noise of seed A to that of seed B; --png draws one row."),
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect", metavar="OUTPUT=WHAT", help="Images that an output should be, for --png to draw beside it."
        ),
    ] = None,
    chip_seed: Annotated[
        int | None, typer.Option(metavar="S", min=0, help="Seed of the device errors alone. [default: that of --seed]")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Check N chips with device errors of their own: how many hold (yield)."),
    ] = None,
    numerics: NumericsOption = Numerics.quantized,
    engine: EngineOption = Engine.fast,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Use the weights that mgc train left there.")
    ] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Use their moving averages.")] = False,
    check: Annotated[
        Path | None, typer.Option(metavar="MODEL.onnx", help="Compare with ONNX Runtime on the same inputs.")
    ] = None,
    metric: MetricOption = None,
    features: FeaturesOption = None,
    threads: Threads = None,
    max_elements: MaxElements = 1 << 28,
    count_writes: CountWrites = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Simulate a program; write, draw, check outputs.

    Inputs that are not given are drawn from N(0,1). Of a program for training, the generator is run.
    """
    from mgc.images import parse_range

    if check is not None:
        check_input(check, "an ONNX model")
    loaded, weights = testing_part(program, load_program(program), checkpoint, ema)
    files = input_files(input or [], loaded)
    inputs = {"the program": program, "the model": check, **{f"the input {n}": f for n, f in files.items()}}
    check_outputs({"-o": output, "--png": png}, inputs)
    moving = _ends(interpolate, samples)
    if moving is None or png is None or png.suffix.lower() != ".gif":
        check_png("--png", png)
    if png is not None:
        from mgc.report.png import check as check_drawable

        check_drawable(loaded)
    mode: Any = numerics.value
    images = ImageOptions(parse_range(image_range), resize)
    chip = seed if chip_seed is None else chip_seed
    if trials is not None and (mode != "device" or check is None):
        raise UserError("--trials counts chips that pass the check: it needs --numerics device and --check MODEL.onnx")

    def on_chip(number: int) -> Simulator:
        options = {"engine": engine.value, "numerics": mode, "threads": threads, "max_elements": max_elements}
        return make_simulator(loaded, weights, seed=number, count_writes=count_writes, **options)

    simulator = on_chip(chip)
    fed = make_feeds(loaded, files, samples if moving is None else moving[2], seed, images=images, note=console.note)
    if moving is not None:
        fed = interpolated(fed, loaded, moving[:2])
    metrics = make_metrics(metric, features, loaded, images.limits, threads, fed.samples)
    targets = _expected(loaded, expect or [], images)
    begin = time.perf_counter()
    with progress("run") as tell, about(as_given(files) or program):
        outputs = simulate(simulator, fed, tell)
    seconds = time.perf_counter() - begin
    checked, tried = None, []
    if check is not None:
        from mgc.evaluation.checking import check as compared
        from mgc.evaluation.reference import Reference

        _warn_of_another(check, None if weights is not None else loaded.meta.get("model_sha256"))
        reference = Reference(check, loaded, fed, threads)
        remarks = loaded.meta.get("warnings", ())
        checked = compared(outputs, reference, mode, remarks, console.note)
        for number in range(chip, chip + (trials or 0)):
            found = outputs if number == chip else simulate(on_chip(number), fed)
            each = checked if number == chip else compared(found, reference, mode)
            tried.append({"chip_seed": number, **each.to_json_dict(mode)})
    if output is not None:
        _save(output, outputs, fed)
    if png is not None:
        _draw(png, loaded, outputs, {name: fed.arrays[name] for name in files}, targets, strip=moving is not None)
    facts = {
        "samples": fed.samples,
        "seconds": seconds,
        "samples_per_s": fed.samples / seconds if seconds else None,
        "numerics": numerics.value,
        "engine": engine.value,
        "exact_columns": simulator.exact_columns,
        "check": checked.to_json_dict(numerics.value) if checked else None,
    }
    if count_writes:
        facts["cell_writes"] = simulator.cell_writes()
    if metrics is not None:
        facts["metrics"] = metrics.of(outputs)
    if tried:
        facts |= {"trials": tried, "yield": sum(t["ok"] for t in tried) / len(tried)}
    if json:
        console.emit_json(facts)
    else:
        _show(loaded, fed, outputs, facts)
    if tried and facts["yield"] < 1:
        console.complain(f"error: the check failed on {sum(not t['ok'] for t in tried)} of {len(tried)} chips")
        raise typer.Exit(CHECK_FAILED)
    if checked and not checked.ok(numerics.value):
        console.complain(f"error: the check failed: {_verdict(facts)}")
        raise typer.Exit(CHECK_FAILED)


def _warn_of_another(model: Path, stated: str | None) -> None:
    from mgc.evaluation.checking import is_source

    with about(model):
        if not is_source(model, stated):
            console.warn(f"{model} is not the file that this program was compiled from")


def _save(path: Path, outputs: dict[str, Any], fed: Feeds) -> None:
    drawn = {f"input/{name}": fed.arrays[name] for name in fed.drawn}
    with whole_file(path) as temporary:
        save_npz(temporary, {**drawn, **outputs})
    console.note(f"{path}: {', '.join([*drawn, *outputs])}")


def _ends(text: str | None, samples: int | None) -> tuple[int, int, int] | None:
    """A,B,STEPS: two seeds and how many samples."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3 or not all(p.strip().isdecimal() for p in parts) or not 2 <= int(parts[2]) <= MOST_STEPS:
        raise UserError(f"--interpolate {text}: write two seeds and 2 to {MOST_STEPS} steps, such as 1,2,16")
    if samples is not None:
        raise UserError("-n and --interpolate do not go together: its last number says how many samples")
    first, last, steps = map(int, parts)
    return first, last, steps


def _expected(program: Program, specs: list[str], images: ImageOptions) -> dict[str, Any]:
    """The images that outputs should be."""
    from mgc.evaluation.given import Literal, load_input

    ports = {p.name: p for p in program.outputs}
    found = {}
    for name, path in files_by_name(specs, list(ports), "--expect").items():
        found[name] = load_input(path, ports[name], ports[name].shape[0], images)
        if isinstance(found[name], Literal):
            raise UserError(f"--expect {name}={path}: give images, or an .npy array")
    return found


def _draw(
    path: Path,
    program: Program,
    outputs: dict[str, Any],
    given: dict[str, Any],
    targets: dict[str, Any],
    *,
    strip: bool,
) -> None:
    from mgc.report.png import draw

    picture = draw(program, outputs, given, targets, strip=strip)
    save_picture(picture, path)
    part = f"{picture.shown} of {picture.samples}" if picture.shown < picture.samples else str(picture.samples)
    console.note(
        f"{path}: {part} {picture.kind} of output {picture.output}, values {picture.low:g} to {picture.high:g}"
    )


def _show(program: Program, fed: Feeds, outputs: dict[str, Any], facts: dict[str, Any]) -> None:
    from mgc.report.text import pairs
    from mgc.report.units import count, percent, shape
    from mgc.report.wear import lines as wear_lines
    from mgc.report.wear import with_counts

    lines = [
        ("samples", f"{count(fed.samples)} in {facts['seconds']:.2f} s, {facts['samples_per_s']:,.1f} a second"),
        ("simulated", f"{facts['numerics']} numerics, {facts['engine']} engine"),
        ("exact columns", percent(facts["exact_columns"])),
    ]
    lines += [
        (f"output {name}", f"{getattr(a, 'dtype', '')} {shape(getattr(a, 'shape', ()))}") for name, a in outputs.items()
    ]
    lines += [(name, f"{value:.6g}") for name, value in facts.get("metrics", {}).items()]
    if "cell_writes" in facts:
        lines += wear_lines(with_counts(program, facts["cell_writes"]))
    if facts["check"]:
        if facts.get("trials"):
            found = sorted(t["psnr_db"] for t in facts["trials"] if t["psnr_db"] is not None)
            spread = f", PSNR {found[0]:.1f} to {found[-1]:.1f} dB" if found else ""
            lines.append(("yield", f"{percent(facts['yield'])} of {len(facts['trials'])} chips{spread}"))
        lines.append(("check", ("ok: " if facts["check"]["ok"] else "FAILED: ") + _verdict(facts)))
    console.emit(pairs(lines))


def _verdict(facts: dict[str, Any]) -> str:
    """The figures of the check, with what is asked of them."""
    c = facts["check"]
    psnr = "no difference" if c["max_abs_err"] == 0 else f"PSNR {c['psnr_db']:.1f} dB" if c["psnr_db"] else "PSNR -"
    error = "largest error " + ("-" if c["max_abs_err"] is None else f"{c['max_abs_err']:.2g}")
    cosine = "cosine " + ("-" if c["cosine"] is None else f"{c['cosine']:.6f}")
    if facts["numerics"] == "float":
        return f"{error} (0.001 asked), {psnr}, {cosine}"
    return f"{psnr}{' (30 asked)' * (c['max_abs_err'] != 0)}, {error}, {cosine}"
