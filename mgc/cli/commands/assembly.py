"""`mgc disasm` and `mgc asm`: a program as text, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgc.cli import console
from mgc.cli.command import command
from mgc.cli.errors import UserError, about
from mgc.cli.files import check_input, check_outputs, load_program, whole_file
from mgc.cli.options import Debug, Json, ProgramFile


@command
def disasm(
    program: ProgramFile,
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Write there instead of stdout.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print a program as assembler text."""
    check_outputs({"-o": output}, {"the program": program})
    loaded = load_program(program)
    from mgc.isa.asm import disassemble

    text = disassemble(loaded)
    if output is not None:
        with whole_file(output) as path:
            path.write_text(text, encoding="utf-8")
    if json:
        console.emit_json({"program": str(program), **({"output": str(output)} if output else {"assembly": text})})
    elif output is None:
        console.emit_text(text)


@command
def asm(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="What `mgc disasm` prints.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="P.mgc", help="The program file. [default: the file's stem + .mgc, here]"),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Assemble a text into a program."""
    program_file = output or Path(f"{source.stem}.mgc")
    check_input(source, "assembler text")
    check_outputs({"-o": program_file}, {"the assembler text": source})
    from mgc.functions.regular_files import read_regular

    try:
        text = read_regular(source).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is no text (byte {error.start}): give what `mgc disasm` prints") from error
    from mgc.isa.asm import assemble

    with about(source):
        program = assemble(text)
    with whole_file(program_file) as path:
        program.save(path)
    if json:
        console.emit_json({"program": str(program_file), "instructions": len(program.instructions)})
    else:
        console.note(f"{program_file}: {len(program.instructions)} instructions")
