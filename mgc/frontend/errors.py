"""The one error of the importer that a user sees."""

from __future__ import annotations


class ModelError(ValueError):
    """A model that cannot be imported: what is wrong, where in the model, and what to do about it."""

    def __init__(self, what: str, *, where: str = "", todo: str = "") -> None:
        self.what, self.where, self.todo = what, where, todo
        super().__init__((f"{where}: " if where else "") + what + (f"; {todo}" if todo else ""))


class Unsupported(Exception):  # noqa: N818 - not an error: the node then goes to the host
    """Raised by a handler for a form of an op that the chip cannot do; the message is the reason."""
