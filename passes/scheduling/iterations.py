"""Iterations that overlap: what the next one waits for, and what of it can come early."""

from __future__ import annotations

from collections.abc import Mapping

from mgc.passes.scheduling.cyclic import with_ancestors
from mgc.passes.scheduling.operations import Work
from mgc.passes.scheduling.problem import Problem
from mgc.passes.scheduling.sections import sections_of
from mgc.passes.streaming.analysis import Streaming
from mgc.passes.streaming.dataflow import DATAFLOWS


def waits_of(work: Work) -> list[tuple[int, int]]:
    """(before, after): `after` comes after `before` of the iteration before it.

    Versions: who reads what lives from run to run before this run writes it comes after its last writer; its first
    writer after that one, and after all who read what that one wrote. Values: who writes one comes after all who use
    it, as it has bytes for one iteration.
    """
    found: dict[tuple[int, int], None] = {}
    uses: dict[str, list[tuple[int, bool]]] = {}
    for home, k, writes in work.versions:
        uses.setdefault(home, []).append((k, writes))
    for own in uses.values():
        writers = [k for k, writes in own if writes]
        if not writers:
            continue
        early = [k for k, writes in own if not writes and k <= writers[0]]
        late = [k for k, writes in own if not writes and k > writers[-1]]
        found.update(((writers[-1], k), None) for k in dict.fromkeys([*early, writers[0]]) if k != writers[-1])
        found.update(((k, writers[0]), None) for k in late)
    for value, writers in work.writers.items():
        for writer in writers:
            found.update(((k, writer), None) for k in work.readers[value] or writers if k != writer)
    return list(found)


def moves_of(work: Work, problem: Problem, phases: Mapping[int, int], streaming: Streaming) -> list[frozenset[int]]:
    """Sets of operations that an iteration can begin with while the one before it ends: of each section of the first
    phase the way to its scores, that and the way back, and all of it.
    """
    sections = sections_of(work, phases, streaming, DATAFLOWS["pipelined"])
    found: dict[frozenset[int], None] = {}
    for section in sorted({s for s in sections if s < len(sections)}):
        own = [k for k, s in enumerate(sections) if s == section and k not in phases]
        losses = [k for k in own if work.operations[k].kind == "diff"]
        back = [k for k in own if work.operations[k].kind in ("diff", "mvm_t", "outer")]
        for some in (back, losses, own):
            moved = with_ancestors(problem, some)
            if moved and not moved.intersection(phases):
                found[moved] = None
    return list(found)
