"""The errors that a user may see, and how they name the files at fault."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# The errors that the layers below raise for what the user gave them. Named, not imported: an error's module is
# loaded by the time it is raised, and `mgc --help` must not load them all.
_KNOWN = (
    ("mgc.cli.errors", "UserError"),
    ("mgc.evaluation.errors", "GivenError"),
    ("mgc.explore.space", "SpaceError"),
    ("mgc.explore.table", "ResumeError"),
    ("mgc.frontend.errors", "ModelError"),
    ("mgc.images", "ImageError"),
    ("mgc.ir.op", "IRError"),
    ("mgc.isa.error", "ExecutionError"),
    ("mgc.isa.error", "ProgramError"),
    ("mgc.sim.engine", "SimulationError"),
    ("mgc.training.errors", "TrainingError"),
    ("mgc.passes.state", "UnsupportedError"),
    ("mgc.report", "ReportError"),
    ("mgc.report.png", "PictureError"),
    ("mgc.report.wear", "CountsError"),
    ("mgc.targets.problems", "TargetError"),
)


class UserError(ValueError):
    """Something given on the command line is wrong: the message says what, where and what to do."""


@contextmanager
def about(*subjects: object) -> Iterator[None]:
    """Puts the files that may be at fault in front of a known error's message, where it names none of them."""
    try:
        yield
    except known_errors() as error:
        if any(str(subject) in str(error) for subject in subjects):
            raise
        raise UserError(f"{' and '.join(map(str, subjects))}: {error}") from error


def known_errors() -> tuple[type[Exception], ...]:
    """The classes of `_KNOWN` whose modules are loaded."""
    modules = ((sys.modules.get(module), name) for module, name in _KNOWN)
    return tuple(getattr(module, name) for module, name in modules if hasattr(module, name))
