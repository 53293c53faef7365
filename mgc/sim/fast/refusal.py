"""What a lowering says when it has no form for something."""

from __future__ import annotations


class NotLoweredError(Exception):
    """No graph form is known, or none that is proven equal: the reference meaning is run instead. Says why."""
