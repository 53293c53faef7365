"""The draws of device errors; the normative text of draws stands in `mgc.functions.draws`."""

from __future__ import annotations

from typing import Any

from mgc.functions.draws import BLOCK, Stream, normals


class CellDraws:
    """The draws of one group's cells, and under `known` what was made of them for good."""

    def __init__(self, seed: int, group: int) -> None:
        self._seed, self._group = seed, group
        self.known: dict[str, Any] = {}

    def stream(self, purpose: str, *numbers: int) -> Stream:
        """The stream of a purpose for the group."""
        return Stream.of(self._seed, purpose, self._group, *numbers)


__all__ = ["BLOCK", "CellDraws", "Stream", "normals"]
