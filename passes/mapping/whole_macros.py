"""Replicas given up so that groups share no macro: write drivers are a macro's, and write one group after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mgc.passes.mapping.allocate import Allocation, Demand


def in_whole_macros(
    held: Allocation, demands: Sequence[Demand], macros: int, chips: Sequence[int] | None = None
) -> Allocation:
    """The allocation with as few replicas less as let each group have whole macros, as many crossbars of each as the
    fullest chip takes (of `macros` a chip): those whose loss costs fewest cycles of reads for a macro. The same where
    one replica of each needs more.
    """
    on = [0] * len(demands) if chips is None else chips
    sizes = [d.crossbars for d in demands]
    replicas = list(held.replicas)
    full = [sum(s * r for s, r, c in zip(sizes, replicas, on, strict=True) if c == chip) for chip in set(on)]
    each = max(1, -(-max(full, default=0) // macros))
    layers: dict[int, list[int]] = {}
    for i, d in enumerate(demands):
        layers.setdefault(d.layer, []).append(i)

    def latency(layer: int, instead: int = -1, count: int = 0) -> int:
        return max(demands[i].duration(count if i == instead else replicas[i]) for i in layers[layer])

    for chip in sorted(set(on)):
        own = [i for i in range(len(demands)) if on[i] == chip]
        taken = {i: -(-sizes[i] * replicas[i] // each) for i in own}
        while sum(taken.values()) > macros:
            losses: list[tuple[float, int, int]] = []
            for i in own:
                fewer = (taken[i] - 1) * each // sizes[i]
                if fewer:
                    freed = taken[i] - -(-sizes[i] * fewer // each)
                    more = latency(demands[i].layer, i, fewer) - latency(demands[i].layer)
                    losses.append((more / freed, i, fewer))
            if not losses:
                return held
            _, i, fewer = min(losses)
            replicas[i] = fewer
            taken[i] = -(-sizes[i] * fewer // each)
    return replace(
        held,
        replicas=tuple(replicas),
        crossbars=sum(s * r for s, r in zip(sizes, replicas, strict=True)),
        bottleneck=max((d.duration(r) for d, r in zip(demands, replicas, strict=True)), default=0),
        latency=sum(map(latency, layers)),
    )
