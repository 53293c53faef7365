"""Reading programs and arrays that the user names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgc.cli.errors import UserError, about
from mgc.cli.files import check_input

if TYPE_CHECKING:
    import numpy as np

    from mgc.isa.program import Program


def load_program(path: Path) -> Program:
    """A program file, verified."""
    check_input(path, "an .mgc program")
    from mgc.isa.program import Program

    with about(path):
        return Program.load(path)


def load_array(path: Path) -> np.ndarray:
    """The one array of an .npy file; nothing in it is executed."""
    check_input(path, "an .npy array")
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} is no readable .npy array ({error}): write it with numpy.save") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} is an .npz archive of several arrays: give one array, written with numpy.save")
    return array
