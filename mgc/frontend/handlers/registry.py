"""The table of handlers, filled by the modules of this package."""

from __future__ import annotations

from collections.abc import Callable

from mgc.frontend.context import Handler

HANDLERS: dict[tuple[str, str], Handler] = {}


def handles(*op_types: str, domain: str = "") -> Callable[[Handler], Handler]:
    """Decorator: the function imports nodes of these op types."""

    def add(handler: Handler) -> Handler:
        for op_type in op_types:
            if (domain, op_type) in HANDLERS:
                raise TypeError(f"{op_type} has two handlers")
            HANDLERS[domain, op_type] = handler
        return handler

    return add
