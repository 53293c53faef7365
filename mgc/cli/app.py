"""The commands, in the order in which a user meets them."""

from __future__ import annotations

from typing import Annotated

import typer

from mgc.cli.commands.assembly import asm, disasm
from mgc.cli.commands.compare import compare
from mgc.cli.commands.compile import compile_model
from mgc.cli.commands.inspect import inspect
from mgc.cli.commands.ops import ops
from mgc.cli.commands.opt import opt
from mgc.cli.commands.run import run
from mgc.cli.commands.sweep import sweep
from mgc.cli.commands.targets import targets
from mgc.cli.commands.train import train
from mgc.cli.options import CompileCommand
from mgc.version import VERSION

app = typer.Typer(
    name="mgc",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: half the time, and error messages that are not cut up by a frame
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Memristor GAN Compiler: ONNX GANs to memristor-crossbar programs, and a simulator that runs them.",
    epilog="Exit codes: 0 done, 1 a check failed or training diverged, 2 bad input or an unsupported request.",
)

app.command("compile", cls=CompileCommand)(compile_model)
app.command("opt")(opt)
app.command("inspect")(inspect)
app.command("compare")(compare)
app.command("run")(run)
app.command("train")(train)
app.command("sweep")(sweep)
app.command("disasm")(disasm)
app.command("asm")(asm)
app.command("targets")(targets)
app.command("ops")(ops)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mgc {VERSION}")
        raise typer.Exit


@app.callback()
def mgc_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""
