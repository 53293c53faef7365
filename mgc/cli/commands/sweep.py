"""`mgc sweep`: one network on many targets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgc.cli import console
from mgc.cli.command import command
from mgc.cli.errors import UserError, about
from mgc.cli.files import check_input, check_outputs, whole_file
from mgc.cli.options import Debug, FeaturesOption, Json, Seed
from mgc.cli.progress import progress

if TYPE_CHECKING:
    from mgc.explore.table import Table


@command
def sweep(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The network.", show_default=False)],
    over: Annotated[
        list[str],
        typer.Option(
            "--over",
            metavar="KEY=V,V,..",
            help="A key of the target and its values; 3..8 is 3 to 8. Repeatable: all combinations. The key target "
            "takes names or files of whole targets.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", metavar="RESULTS.csv", help="The table; a row as soon as it is known.")],
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Chips with device errors of their own at each point, by seed 0, 1, ..."),
    ] = None,
    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="NAME=WHAT",
            help="An input, as of mgc run: FILE.npy, an image, a folder of images, or numbers. Repeatable; the others "
            "are drawn N(0,1).",
        ),
    ] = None,
    image_range: Annotated[
        str, typer.Option("--image-range", metavar="A,B", help="What black and white of an image become.")
    ] = "-1,1",
    resize: Annotated[bool, typer.Option("--resize", help="Cut and scale images of another size.")] = False,
    samples: Annotated[
        int | None,
        typer.Option("-n", metavar="N", min=1, help="Samples run at each point. [default: what the files hold, or 16]"),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="frechet:REAL", help="Fill the column frechet: real images, as of mgc run --metric."),
    ] = None,
    features: FeaturesOption = None,
    target: Annotated[str, typer.Option(metavar="NAME|FILE.toml", help="The chip whose keys are changed.")] = "liu2018",
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Binds the first dynamic dimension.")] = 1,
    calibrate: Annotated[
        str, typer.Option(metavar="error|minmax", help="error: least output error; minmax: the full range, quick.")
    ] = "error",
    workers: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Processes on this machine. [default: one a core]")
    ] = None,
    threads: Annotated[bool, typer.Option("--threads", help="The workers are threads of one process.")] = False,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler to run on, such as tcp://host:8786.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.html|.png|.svg", help="Draw the Pareto fronts.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the table that is there.")] = False,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a network on many targets.

    Compiles and runs it for every combination of values of target keys, and writes a table.

    A point that fails is a row with its error. The table does not depend on the workers, but for its column seconds.
    """
    from mgc.explore.space import parse_axes
    from mgc.images import parse_range

    axes = parse_axes(over)
    check_input(model, "an ONNX model")
    if workers is not None and scheduler is not None:
        raise UserError("--workers and --scheduler do not go together: a scheduler has workers of its own")
    if plot is not None:
        from mgc.explore.plot import check_plot

        check_plot(plot)
    files = dict(_named(text) for text in input or [])
    check_outputs(
        {"-o": output, "--plot": plot}, {"the input model": model, **{f"input {n}": f for n, f in files.items()}}
    )
    with progress("sweep") as tell, about(model):
        from mgc.explore.sweep import sweep as run

        table = run(
            model,
            axes,
            target=target,
            samples=samples,
            trials=trials,
            inputs=files,
            resize=resize,
            metric=metric,
            features=features,
            image_range=parse_range(image_range),
            workers=(workers or _cores()) if scheduler is None else 0,
            threads=threads,
            scheduler=scheduler,
            output=output,
            resume=resume,
            progress=lambda done, total: tell("", done / total if total else 1.0),
            batch=batch,
            calibrate=calibrate,
            seed=seed,
        )
    if plot is not None:
        from mgc.explore.plot import draw

        with whole_file(plot) as path:
            named = path.with_suffix(plot.suffix)
            draw(table, named, f"{model.name} on {target}")
            named.replace(path)
    if json:
        console.emit_json({"table": str(output), "plot": str(plot) if plot else None, **_facts(table)})
    else:
        _show(table, output, plot)


def _named(text: str) -> tuple[str, Path]:
    name, mark, file = text.partition("=")
    if not name or not mark or not file:
        raise UserError(f"--input {text}: write NAME=WHAT, such as x=FILE.npy")
    return name, Path(file)


def _cores() -> int:
    from mgc.sim.engine import available_threads

    return available_threads()


def _facts(table: Table) -> dict[str, Any]:
    finite = [
        {c: None if isinstance(v := row.get(c), float) and not math.isfinite(v) else v for c in table.columns}
        for row in table.rows
    ]
    return {"points": len(table), "failed": len(table.failed), "columns": list(table.columns), "rows": finite}


def _show(table: Table, output: Path, plot: Path | None) -> None:
    from mgc.report.text import section, stack
    from mgc.report.text import table as text_table
    from mgc.report.units import si

    failed = f", {len(table.failed)} of them failed" if table.failed else ""
    console.emit_text(f"{output}: {len(table)} points{failed}{f'; {plot}' if plot else ''}\n\n")
    best = table.front("psnr_db", "-energy_j")
    rows = [
        (
            *(row[k] for k in table.keys),
            f"{row['crossbars']:,}",
            f"{row['cycles']:,}",
            si(row["energy_j"], "J"),
            f"{row['psnr_db']:.1f}",
        )
        for row in sorted(best, key=lambda r: r["energy_j"])[:12]
    ]
    heading = "Best in accuracy for their energy"
    names = [*(f">{k}" for k in table.keys), ">crossbars", ">cycles", ">energy", ">PSNR, dB"]
    parts = [section(heading, text_table(names, rows))] if rows else []
    if table.failed:
        errors = [(", ".join(f"{k}={row[k]}" for k in table.keys), row["error"]) for row in table.failed[:5]]
        parts.append(section("Failed", text_table(["~point", "~error"], errors)))
    console.emit(stack(*parts))
