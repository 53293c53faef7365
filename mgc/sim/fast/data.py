"""PROGRAM, LOAD, STORE and HOST in a plan."""

from __future__ import annotations

import numpy as np

from mgc.isa.instructions import Host, Load, Store, WriteCells
from mgc.sim.fast.builder import PlanBuilder
from mgc.sim.fast.items import LoadItem, StoreItem


def lower_write_cells(builder: PlanBuilder, write: WriteCells) -> None:
    """Nothing: plans hold weights, not cells."""


def lower_load(builder: PlanBuilder, load: Load) -> None:
    """A slot for what comes in."""
    port, buffer = builder.program.inputs[load.port], builder.program.buffers[load.dst]
    opaque = buffer.kind == "opaque"
    dtype = np.dtype(object) if opaque else builder.dtype(load.dst)
    slot = builder.slot(buffer.shape, dtype, port.batched and not opaque, opaque)
    builder.loads.append(LoadItem(port.name, slot))
    builder.hold(load.dst, slot.id)


def lower_store(builder: PlanBuilder, store: Store) -> None:
    """What goes out."""
    builder.stores.append(StoreItem(store.port, builder.content_of(store.src)))


def lower_host(builder: PlanBuilder, host: Host) -> None:
    """As the reference: one micro-batch after the other."""
    builder.as_reference([host], "runs on the host")
