"""What is compiled: the DCGANs with published rates, on a target, for training and for inference."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import mgc
from benchmarks import networks
from mgc.compiler import compile_training
from mgc.isa.program import Program
from mgc.passes.mapping.partition import CapacityError
from mgc.passes.streaming.dataflow import DEFAULT_DATAFLOW
from mgc.report.views.summary import headline
from mgc.targets.codegen.bill import bill
from mgc.targets.cost import CostModel
from mgc.targets.description import Target
from mgc.targets.loader import load_target, target_names


@dataclass(frozen=True)
class Workload:
    """A DCGAN as somebody timed it: width d, colours, batch, generator updates for one of the discriminator."""

    key: str
    width: int
    colours: int
    batch: int
    generator_steps: int = 1


WORKLOADS = (
    Workload("dcgan64", 64, 1, 128),
    Workload("dcgan128", 128, 1, 128),
    Workload("dcgan64rgb", 64, 3, 64, 2),
)
ADAM = {"optimizer": "adam", "lr": 2e-4, "betas": (0.5, 0.999)}


@dataclass(frozen=True)
class Result:
    """What the compiler says of one workload on one target. Rates are images a second of the whole system, energies
    joules an image; `gap` is the schedule's, `split_gap` that of the allocation (estimated time over its bound);
    `link` the share of energy that links take, `busiest_link` the share of time that the busiest one works.
    `iterations` of `batch` images wear the cells out (0: none is written).
    """

    workload: str
    mode: str
    target: str
    chips: int
    crossbars: int
    needed: int
    images_per_s: float
    joules: float
    status: str
    gap: float
    split_gap: float
    link: float
    busiest_link: float
    components: Mapping[str, float]
    seconds: float
    tasks: int
    iterations: float = 0.0
    batch: int = 0

    @property
    def per_chip(self) -> float:
        """Images a second for each chip."""
        return self.images_per_s / self.chips

    def to_json_dict(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


def with_keys(target: Target, changes: Mapping[str, Any]) -> Target:
    """The target with some keys ("structure.chips") changed, as if its file had said so."""
    data = target.to_json_dict()
    for key, value in changes.items():
        *tables, name = key.split(".")
        place = data
        for table in tables:
            place = place[table]
        place[name] = value
    return Target.from_json_dict(data)


def train(workload: Workload, target: Target, dataflow: str = DEFAULT_DATAFLOW) -> Result:
    """Compiles an iteration: D on real and fake samples, then G, as often as the workload says. CapacityError."""
    program, seconds = trained(workload, target, dataflow)
    return of_program(workload, target, program, seconds)


def trained(workload: Workload, target: Target, dataflow: str = DEFAULT_DATAFLOW) -> tuple[Program, float]:
    """The program of `train`, and the seconds it took to compile."""
    phases = [f"generator=loss_g,steps={workload.generator_steps}"] if workload.generator_steps > 1 else []
    begin = time.perf_counter()
    program = compile_training(
        networks.generator(workload.width, colours=workload.colours).SerializeToString(),
        discriminator=networks.discriminator(workload.width, colours=workload.colours).SerializeToString(),
        loss="bce",
        phases=phases,
        target=target,
        batch=workload.batch,
        dataflow=dataflow,
        objective="time",
        **ADAM,
    )
    return program, time.perf_counter() - begin


def of_program(workload: Workload, target: Target, program: Program, seconds: float) -> Result:
    """What a training program says of itself. An iteration counts its batch once, as those who timed it did."""
    return _result(workload, "training", target, program, workload.batch, seconds)


def billed(workload: Workload, target: Target, program: Program) -> Result:
    """The same of a program that was compiled for a target that differs in energies alone."""
    meta = {**program.meta, **bill(program, CostModel(target))}
    return of_program(workload, target, replace(program, meta=meta), 0.0)


def infer(workload: Workload, target: Target) -> Result:
    """Compiles the generator for a stream of a batch."""
    begin = time.perf_counter()
    model = networks.generator(workload.width, colours=workload.colours).SerializeToString()
    program = mgc.compile(model, target=target, batch=workload.batch, calibrate="minmax")
    return _result(workload, "inference", target, program, workload.batch, time.perf_counter() - begin)


def on_fewest_chips(workload: Workload, target: Target) -> Result:
    """`train` on the fewest chips that hold the weights, none of which take turns."""
    try:
        program, seconds = trained(workload, target)
        if program.meta["rewriting"] is None:
            return of_program(workload, target, program, seconds)
        needed = sum(g.crossbars_per_replica for g in program.groups)
    except CapacityError as error:
        needed = error.needed
    chips = -(-needed // target.structure.crossbars_per_chip)
    return train(workload, with_keys(target, {"structure.chips": chips}))


def _result(workload: Workload, mode: str, target: Target, program: Program, images: int, seconds: float) -> Result:
    meta = program.meta
    busy = dict.fromkeys((u.id for u in program.units if u.kind == "link" and u.tile >= 0), 0)
    for entry in program.iteration:
        for instruction in program.instructions[entry.first : entry.stop]:
            if instruction.unit in busy:
                tasks = int((entry.schedule.starts[instruction.id - entry.first] >= 0).sum())
                busy[instruction.unit] += instruction.duration * tasks * entry.repeats
    plan = headline(program)["schedule"]
    span = max(1, plan["makespan_cycles"])
    return Result(
        workload=workload.key,
        mode=mode,
        target=target.name,
        chips=target.structure.chips,
        crossbars=meta["crossbars"]["used"],
        needed=sum(g.crossbars_per_replica for g in program.groups),
        images_per_s=images / meta["latency_s"],
        joules=meta["energy_j"] / images,
        status=plan["status"],
        gap=plan["gap"],
        split_gap=meta["allocation"]["gap"] if meta["allocation"] else 0.0,
        link=meta["energy"]["link"] / meta["energy_j"],
        busiest_link=max(busy.values(), default=0) / span,
        components=dict(meta["energy"]),
        seconds=seconds,
        tasks=plan["tasks"],
        iterations=meta["cost"]["endurance"]["runs"] or 0.0,
        batch=images,
    )


def targets() -> dict[str, Target]:
    """The targets of the tables: those that ship, and the default one with one copy of each weight, and with second
    copies of all weights (no transposed reads).
    """
    shipped = {name: load_target(name) for name in target_names()}
    second = with_keys(shipped["liu2018"], {"training.transposed_read": False, "name": "liu2018, second copy"})
    least = with_keys(shipped["liu2018"], {"training.copies": "least", "name": "liu2018, copies = least"})
    return {t.name: t for t in (shipped["liu2018"], least, second, *shipped.values())}


def macs(workload: Workload) -> tuple[float, float]:
    """(generator, discriminator) multiply-accumulates of one image, forward."""
    found: list[float] = []
    for make in (networks.generator, networks.discriminator):
        model = make(workload.width, colours=workload.colours).SerializeToString()
        found.append(mgc.compile(model, calibrate="none", target=_large()).meta["macs_useful"])
    return found[0], found[1]


def _large() -> Target:
    return with_keys(load_target("liu2018"), {"structure.chips": 4})
