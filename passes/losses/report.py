"""What a report says about one loss."""

from __future__ import annotations

from dataclasses import dataclass

from mgc.ir.op import register_attr

NONE = "none"
"""The kind of a loss that has no diff-block."""


@register_attr
@dataclass(frozen=True)
class LossReport:
    """One loss output after fuse-loss: an entry of `losses` in `compile --json`.

    kind: that of its branches ("cross-entropy", "relativistic", "tabulated", ...); where they differ, that of most of
    them, the first among equals; "none" without any. branches: the number of its diff-blocks. reason: why the rest of
    the loss stays in the graph, "" where nothing does.
    """

    name: str
    kind: str
    branches: int
    reason: str = ""

    def to_json_dict(self) -> dict[str, str | int]:
        """The entry as JSON values; a reason only where there is one."""
        entry: dict[str, str | int] = {"name": self.name, "kind": self.kind, "branches": self.branches}
        return entry | ({"reason": self.reason} if self.reason else {})
