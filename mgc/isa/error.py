"""What can be wrong with a program, and with the data it meets."""

from __future__ import annotations


class ProgramError(ValueError):
    """A program, its file or its text breaks a rule: the message says what, where and what is expected."""


class ExecutionError(RuntimeError):
    """A sound program met data it cannot work on: an index out of range, a host result of another shape."""


class NotFiniteError(ExecutionError):
    """Training met a gradient, moment or weight that is infinite or no number, and cannot go on."""
