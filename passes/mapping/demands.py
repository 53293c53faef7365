"""What a training iteration asks of its crossbar groups, and what it takes whatever their replicas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mgc.ir.graph import Graph, Value
from mgc.ir.mapped import Mvm, MvmT, Outer, UpdateCells
from mgc.ir.training import Phase
from mgc.passes.lowering.versions import homes_of
from mgc.passes.mapping.allocate import Demand, Rest
from mgc.passes.mapping.durations import sizes_of, streamed_input, windows_of
from mgc.passes.mapping.packing import crossbars_of
from mgc.passes.mapping.reads import Reads, reads_of
from mgc.passes.mapping.residents import Residents
from mgc.passes.streaming.analysis import data_of
from mgc.targets.cost import CostModel
from mgc.targets.description import Target


def iteration_demands(
    graphs: Sequence[Graph], times: Sequence[int], residents: Residents, target: Target
) -> list[Demand]:
    """What groups ask for that several products read, both ways, in one iteration, in which graphs run so many `times`:
    all reads together, and the cells that a replica costs in writes. In the order of the residents.
    """
    number = {layer: i for i, layer in enumerate(dict.fromkeys(r.layer for r in residents.groups))}
    homes = [homes_of(g, residents.names) for g in graphs]
    reads = reads_of(graphs, homes, times, target)
    crossbar, cost = target.crossbar, CostModel(target)
    interval, planes = cost.read_interval_cycles(), crossbar.slices() * crossbar.signs
    updates: dict[str, int] = {}
    for graph, home, count in zip(graphs, homes, times, strict=True):
        for node in graph.nodes:
            if isinstance(node.op, UpdateCells):
                name = home[node.inputs[0]]
                updates[name] = updates.get(name, 0) + count
    found: list[Demand] = []
    for r in residents.groups:
        if r.part is not None:
            turns = crossbar.transposed_turns(plane_columns=r.plane_columns)
            work = max(1, reads.get(r.name, Reads()).turns(turns))
            cells = updates.get(r.name, 0) * r.part.matrices * r.part.rows * r.part.cols * planes
            size = crossbars_of(r.part, crossbar, r.plane_columns)
            found.append(Demand(number[r.layer], size, work, interval, written=cost.write_energy(cells).total))
    return found


def iteration_rest(
    graphs: Sequence[Graph], times: Sequence[int], residents: Residents, target: Target, phases: Iterable[Phase]
) -> Rest:
    """What an iteration takes whatever the replicas, as far as it is known before there is a schedule: a write of all
    rows for each phase; reads of crossbars, outer products and the host link. Off-chip traffic is not in it.
    """
    cost = CostModel(target)
    joules = sum(count * _spent(graph, residents, cost) for graph, count in zip(graphs, times, strict=True) if count)
    writes = sum(p.steps for p in phases) * cost.write_cycles(target.crossbar.rows, crossbars_per_macro=1)
    macros = target.structure.crossbars // target.structure.crossbars_per_macro
    return Rest(writes, joules, cost.static_energy(1).total, macros)


def _spent(graph: Graph, residents: Residents, cost: CostModel) -> float:
    """Joules of reads, outer products and what comes over the host link in one run."""
    by_name, sizes = residents.by_name, sizes_of(graph, cost.target)
    homes: dict[Value, str] = {v: v.name for v in graph.constants if v.name in by_name}
    homes |= homes_of(graph, residents.names)
    data = set(data_of(graph, residents.names))
    spent = [cost.transfer_energy(sum(sizes[v] for v in graph.inputs if v.name in data), "host")]
    for node in graph.nodes:
        if not isinstance(node.op, Mvm | MvmT | Outer):
            continue
        for k, part in enumerate(node.op.parts):
            windows, shape = windows_of(node.op, part), (part.matrices, part.rows, part.cols)
            if isinstance(node.op, Outer):
                spent.append(cost.outer_energy(windows, *shape))
                continue
            occupancy = cost.occupancy(
                *shape[1:],
                matrices=part.matrices,
                transposed=isinstance(node.op, MvmT),
                plane_columns=by_name[homes[node.inputs[1 + k]]].plane_columns,
            )
            spent.append(cost.mvm_energy(windows, occupancy, **streamed_input(node)))
    return sum(e.total for e in spent)
