"""Codegen: a scheduled plan to a program. A walk, with no decisions left."""

from mgc.targets.codegen.emit import emit

__all__ = ["emit"]
