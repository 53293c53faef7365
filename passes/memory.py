"""memory: the name that callers know."""

from __future__ import annotations

from mgc.passes.scheduling.memory import footprint

__all__ = ["footprint"]
