"""Programs made by hand: what a report shows must be right for any program, whatever compiled it."""

from __future__ import annotations

import numpy as np

from mgc.functions.windows import Layout, Windows
from mgc.isa.crossbar import Arithmetic, CrossbarGroup
from mgc.isa.entry import Entry
from mgc.isa.instructions import BUFFER, CONSTANT, Host, Load, Move, Mvm, Piece, Ref, Result, Store, Vec, WriteCells
from mgc.isa.memory import Buffer, Constant, HostSegment, Port
from mgc.isa.program import Program
from mgc.isa.schedule import Schedule, Unit

ARITHMETIC = Arithmetic(
    rows=128,
    cols=128,
    cell_bits=2,
    dac_bits=1,
    adc_bits=8,
    adc_mode="clip",
    encoding="differential",
    weight_bits=8,
    input_bits=8,
)


def chain(layers: int = 2, micro_batches: int = 3, host: bool = False) -> Program:
    """load -> (vec -> mvm) x layers [-> host] -> store, pipelined over the micro-batches by a plain list schedule."""
    units = [Unit(0, "io", "link"), Unit(1, "writer", "writer")]
    buffers = [Buffer(0, "z", "real", "float32", (1, 100))]
    groups: list[CrossbarGroup] = []
    instructions: list = []
    tensors: dict[str, np.ndarray] = {"const.0": np.ones(4, np.float32)}
    sources: list[tuple[str, ...]] = [()]
    for layer in range(layers):
        tensors[f"group.{layer}.weights"] = np.zeros((1, 100, 10), np.int8)
        tensors[f"group.{layer}.real"] = np.zeros((1, 100, 10), np.float32)
        sources.append((f"/gen/conv{layer}/ConvTranspose",))
        groups.append(
            CrossbarGroup(
                id=layer,
                name=f"conv{layer}",
                matrices=1,
                rows=100,
                cols=10 * (layer + 1),
                arithmetic=ARITHMETIC,
                weights=f"group.{layer}.weights",
                real_weights=f"group.{layer}.real",
                replicas=1,
                tiles=(layer,),
                crossbars=(layer,),
                sources=sources[-1],
            )
        )
        instructions.append(WriteCells(len(instructions), 1, 128, (), (), len(sources) - 1, group=layer))

    def add(cls, unit, duration, source, **fields):
        after = (instructions[-1].id,) if instructions and not isinstance(instructions[-1], WriteCells) else ()
        instructions.append(cls(len(instructions), unit, duration, after, (), source, **fields))

    add(Load, 0, 10, 0, port=0, dst=0)
    for layer in range(layers):
        last = len(buffers) - 1
        units += [Unit(len(units), f"vector.{layer}", "vector"), Unit(len(units) + 1, f"conv{layer}.xbars", "crossbar")]
        buffers.append(Buffer(last + 1, f"code{layer}", "code", "uint8", (1, 100), offset=400 * layer, slots=2))
        buffers.append(Buffer(last + 2, f"sum{layer}", "acc", "int64", (1, 100), offset=4096 + 800 * layer))
        add(Vec, len(units) - 2, 20 + 5 * layer, layer + 1, steps=(), stores=(Result(Ref(BUFFER, last), last + 1),))
        add(
            Mvm,
            len(units) - 1,
            90 + 30 * (layer % 3),
            layer + 1,
            group=layer,
            src=last + 1,
            dst=last + 2,
            signed=False,
            tap_fastest=True,
            input=Layout.nchw((1, 100)),
            output=Layout.nchw((1, 100)),
            windows=Windows((), (), (), (), (), (), ()),
        )
    segments: tuple[HostSegment, ...] = ()
    if host:
        units.append(Unit(len(units), "host", "host"))
        tensors["host.0"] = np.zeros(8, np.uint8)
        segments = (HostSegment(0, "host.0", "the chip has no sorting unit", ("TopK",)),)
        sources.append(("/gen/TopK",))
        buffers.append(Buffer(len(buffers), "sorted", "real", "float32", (1, 100), space="dram"))
        last = len(buffers) - 1
        add(Host, len(units) - 1, 40, len(sources) - 1, segment=0, args=(Ref(BUFFER, last - 1),), results=(last,))
    last = len(buffers) - 1
    buffers.append(Buffer(last + 1, "image.view", "real", "float32", (1, 10, 10), alias_of=last))
    piece = Piece(Ref(BUFFER, last), (4,), 0, (1,), 0, (1,))
    fill = Piece(Ref(CONSTANT, 0), (4,), 0, (0,), 4, (1,))
    buffers.append(Buffer(last + 2, "padded", "real", "float32", (1, 100)))
    units.append(Unit(len(units), "tile0.dma", "dma"))
    add(Move, len(units) - 1, 8, 0, pieces=(piece, fill), dst=last + 2)
    add(Store, 0, 12, 0, src=Ref(BUFFER, last + 2), port=0)

    starts, makespan = _list_schedule(instructions, micro_batches)
    setup = sum(isinstance(i, WriteCells) for i in instructions)
    schedule = Schedule(starts[setup:], "OPTIMAL", makespan, makespan - 1)
    return Program(
        name="chain",
        target={"name": "liu2018"},
        instructions=tuple(instructions),
        buffers=tuple(buffers),
        constants=(Constant(0, "fill", "const.0"),),
        groups=tuple(groups),
        units=tuple(units),
        inputs=(Port("z", 0, "float32", (1, 100), True, ("N", "100")),),
        outputs=(Port("image", last + 2, "float32", (1, 100), True, ("N", "100")),),
        host_segments=segments,
        entries=(Entry(0, "testing", "test", setup, len(instructions), 1, 1, micro_batches, True, schedule),),
        clock_ns=1.0,
        sources=tuple(sources),
        absorbed={"/gen/Identity": "identity"},
        tensors=tensors,
        meta={
            "macs_useful": 1000 * layers,
            "macs_mapped": 1000 * layers,
            "latency_s": makespan * 1e-9,
            "energy_j": 3.5e-7,
            "samples_per_s": micro_batches / (makespan * 1e-9),
            "crossbars": {"used": layers, "available": 16128},
        },
    )


def _list_schedule(instructions, micro_batches):
    starts = np.full((len(instructions), micro_batches), -1, np.int64)
    free: dict[int, int] = {}
    for k in range(micro_batches):
        for i in instructions:
            if not isinstance(i, WriteCells):
                ready = max((starts[a, k] + instructions[a].duration for a in i.after), default=0)
                starts[i.id, k] = max(ready, free.get(i.unit, 0))
                free[i.unit] = int(starts[i.id, k]) + i.duration
    return starts, max(free.values())
