"""docs/paper.md from results: tables, ratios, and what each figure rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.paper.baselines import Baselines, Rate
from benchmarks.paper.cases import WORKLOADS, Result
from benchmarks.paper.loss import LossResult
from benchmarks.paper.peak import ISAAC_GOPS_PER_MM2, ISAAC_MM2, PUBLISHED_MACS_PER_S, PeakResult
from mgc.passes.streaming.dataflow import DEFAULT_DATAFLOW

_INTRO = """# The paper's claim, by the model

Liu & Liu (arXiv 1806.01775) report 2.8 times the speed and 6.1 times less energy than a GPU, 5.5 times and 1.4 times
against an FPGA accelerator. The abstract names neither networks nor machines, so this page cannot repeat their
experiment. It asks what the compiler's own model says of the DCGANs for which somebody published training rates.

`python -m benchmarks.paper` compiles everything below and writes this page. Nothing here was timed on a memristor chip:
times are those of schedules, energies sums over instructions, both from the constants in `targets/*.toml`, each of
which states its source. Those constants are the papers' of the targets; none was chosen or changed for these ratios.

- **measured**: timed by its authors on a real machine; **published**: stated in a paper or data sheet; **derived**:
  computed from such figures; **assumed**: chosen, with the reason; **modelled**: what the compiler says.
- A ratio above 1 means that the modelled chip is better.
- An iteration is D on real and fake samples, then G against the updated D, Adam, BatchNorm over the batch, 16-bit
  weights in the cells, 8-bit activations and errors (16 on both isaacs, puma and pipelayer, 6 on prime), with whatever
  the target's converters make of the sums. Whether training converges at those widths is not asked here
  ([training](training.md)).
- A system has the fewest chips that hold one copy of the weights; what is left over holds replicas. Energies are of all
  chips, off-chip memory and the host link; not of the host. The GPUs' energies are at their full board power, an upper
  bound that favours the chip.
- PyTorch's code computes the gradient of G in D's step and throws it away, and runs G again for its own step; the
  compiler does neither. Both are counted as one iteration.
"""


@dataclass(frozen=True)
class Results:
    """All that was compiled. `macs` are (G, D) multiply-accumulates of an image by workload; `losses` what the
    diff-block does for each loss, `peak` how near ISAAC comes to what it can do.
    """

    training: tuple[Result, ...]
    inference: tuple[Result, ...]
    budget: tuple[Result, ...]
    dataflow: tuple[tuple[str, Result], ...]
    sensitivity: tuple[tuple[str, str, Result], ...]
    macs: dict[str, tuple[float, float]]
    losses: tuple[LossResult, ...] = ()
    peak: tuple[PeakResult, ...] = ()

    def to_json_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    @staticmethod
    def from_json_dict(data: dict[str, Any]) -> Results:
        """The inverse of `to_json_dict`."""

        def read(rows: Iterable[dict[str, Any]]) -> tuple[Result, ...]:
            return tuple(Result(**row) for row in rows)

        return Results(
            read(data["training"]),
            read(data["inference"]),
            read(data["budget"]),
            tuple((flow, Result(**row)) for flow, row in data.get("dataflow", [])),
            tuple((what, why, Result(**row)) for what, why, row in data["sensitivity"]),
            {key: (g, d) for key, (g, d) in data["macs"].items()},
            tuple(LossResult(**row) for row in data.get("losses", [])),
            tuple(PeakResult(**row) for row in data.get("peak", [])),
        )


def page(results: Results, baselines: Baselines) -> str:
    """The whole page."""
    parts = [
        _INTRO,
        _claims(results, baselines),
        _reading(results, baselines),
        *(_training(results, baselines, w.key) for w in WORKLOADS),
        _fpga(results, baselines),
        _inference(results, baselines),
        _budget(results, baselines),
        _dataflow(results, baselines),
        _components(results),
        _peak(results),
        _losses(results),
        _endurance(results),
        _changes(results),
        _sensitivity(results, baselines),
        _sources(baselines),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Three digits: 0.00123, 12.3, 1,230."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratios(result: Result, rate: Rate, baselines: Baselines) -> tuple[float, float]:
    """(times faster, times less energy) than a platform."""
    return result.images_per_s / rate.images_per_s, baselines.joules_per_image(rate) / result.joules


def _claims(results: Results, baselines: Baselines) -> str:
    """Claims beside the span of the model's ratios."""
    rows: list[Sequence[object]] = []
    for claim in baselines.claims:
        rows.append((claim.work, claim.baseline, number(claim.speed), number(claim.energy), claim.mark))
    for workload in WORKLOADS:
        for rate in baselines.of(workload.key):
            own = [r for r in results.training if r.workload == workload.key]
            found = [_ratios(r, rate, baselines) for r in own]
            if not found:
                continue
            rows.append(
                (
                    f"this compiler: {rate.title}",
                    rate.platform,
                    f"{number(min(s for s, _ in found))} to {number(max(s for s, _ in found))}",
                    f"{number(min(e for _, e in found))} to {number(max(e for _, e in found))}",
                    "modelled",
                )
            )
    titles = ("", "baseline", "times faster", "times less energy", "mark")
    return "## Beside what papers claim\n\nThe span is over the targets, training, whole system.\n\n" + table(
        titles, rows
    )


def _reading(results: Results, baselines: Baselines) -> str:
    """What the tables say of the paper's claim, in words that follow the figures."""
    claim = baselines.claims[0]
    found = [
        _ratios(r, rate, baselines)
        for r in results.training
        for rate in baselines.of(r.workload)
        if rate.platform == "GTX 1080 Ti"
    ]
    if not found:
        return ""
    speeds, energies = sorted(s for s, _ in found), sorted(e for _, e in found)
    faster = sum(s > 1 for s in speeds)
    return f"""## What that says

- Speed: {faster} of {len(found)} pairs of target and DCGAN train faster than the GTX 1080 Ti. The paper's
  {claim.speed:g} times is {_side(claim.speed, speeds)}.
- Energy: the paper's {claim.energy:g} times is {_side(claim.energy, energies)}. The model's ratios are large: the GPU
  is counted at full board power, the chip without its host. Half the GPU's power would halve them.
- Training is a chain: every BatchNorm waits for its whole batch, so most of the time one layer's crossbars work and the
  others stand still. What counts is how fast the slowest layers read: transposed reads take 2 turns on liu2018 (16
  where slices and signs lie side by side), which a second copy of the weights avoids; replicas help as far as crossbars
  reach.
- Inference has no such waits: samples stream through all layers at once, and the ratios are an order of magnitude
  higher than in training.
{_out_of_reach(results, baselines)}"""


def _out_of_reach(results: Results, baselines: Baselines) -> str:
    """The claims that nothing on the page comes near, as list items."""
    rate = baselines.of("dcgan64")[0]
    most = max(
        _ratios(r, rate, baselines)[0]
        for r in (*results.training, *(r for _, _, r in results.sensitivity), *(r for _, r in results.dataflow))
        if r.workload == "dcgan64"
    )
    return "".join(
        f"- {c.work} claims {c.speed:g} times the speed of a GPU: nothing below trains DCGAN d = 64 more than "
        f"{number(most)}\n  times as fast as this one.\n"
        for c in baselines.claims
        if c.baseline == "GPU" and c.speed > most
    )


def _side(value: float, found: Sequence[float]) -> str:
    """Where a value lies among sorted others, in words."""
    if value < found[0]:
        return f"below all of the model's ({number(found[0])} to {number(found[-1])})"
    if value > found[-1]:
        return f"above all of the model's ({number(found[0])} to {number(found[-1])})"
    return f"within the model's span ({number(found[0])} to {number(found[-1])})"


def _training(results: Results, baselines: Baselines, key: str) -> str:
    rates = baselines.of(key)
    rows = []
    for r in (r for r in results.training if r.workload == key):
        ratios = [f"{number(x)}" for rate in rates for x in _ratios(r, rate, baselines)]
        rows.append(
            (
                r.target,
                r.chips,
                f"{r.needed:,}",
                number(r.images_per_s),
                f"{r.joules * 1e3:.3g}",
                *ratios,
                f"{r.status} ({100 * r.gap:.1f} %)",
            )
        )
    heads = [f"times {what} than {rate.platform}" for rate in rates for what in ("faster", "less energy")]
    titles = ("target", "chips", "crossbars without replicas", "images/s", "mJ an image", *heads, "schedule (gap)")
    text = "; ".join(
        f"{rate.platform}: {rate.images_per_s:g} images/s ({rate.mark}), at most "
        f"{number(baselines.joules_per_image(rate) * 1e3)} mJ an image"
        for rate in rates
    )
    return f"## Training: {rates[0].title}\n\n{text}.\n\n{table(titles, rows)}"


def _fpga(results: Results, baselines: Baselines) -> str:
    rate = baselines.of("dcgan64")[0]
    rows = []
    for r in (r for r in results.training if r.workload == "dcgan64"):
        speed, energy = _ratios(r, rate, baselines)
        each = ((speed * f.slower_than_gpu, energy / f.less_energy_than_gpu) for f in baselines.relatives)
        cells = [number(x) for both in each for x in both]
        rows.append((r.target, *cells))
    heads = [f"times {what} than {f.platform}" for f in baselines.relatives for what in ("faster", "less energy")]
    text = (
        "No rate of an FPGA accelerator on a network that can be compiled here is published. Two papers compare\n"
        "with both a GPU and an FPGA; their ratios give an FPGA beside a GPU (derived). So these columns are the\n"
        "GPU's times a factor, DCGAN d = 64, and say no more than that factor.\n"
    )
    return f"## Against an FPGA\n\n{text}\n{table(('target', *heads), rows)}"


def _inference(results: Results, baselines: Baselines) -> str:
    text = (
        "The sources have no inference rates. The GPU's column is derived: the generator at the\n"
        "multiply-accumulates a second that the GPU reached in training (work of 8 forward passes of D and 6 of G an\n"
        "image in PyTorch's code), which is assumed to hold in inference. A batch of 128 streams through one sample\n"
        "at a time.\n"
    )
    rows = []
    for r in results.inference:
        rate = baselines.of(r.workload)[0]
        g, d = results.macs[r.workload]
        gpu = rate.images_per_s * (8 * d + 6 * g) / g
        joules = baselines.power(rate).power_w / gpu
        rows.append(
            (
                rate.title.split(",")[0],
                r.target,
                r.chips,
                number(r.images_per_s),
                number(r.joules * 1e6),
                number(gpu),
                number(r.images_per_s / gpu),
                number(joules / r.joules),
            )
        )
    titles = (
        "generator",
        "target",
        "chips",
        "images/s",
        "µJ an image",
        "GTX 1080 Ti, images/s (derived)",
        "times faster",
        "times less energy",
    )
    return f"## Inference\n\n{text}\n{table(titles, rows)}"


def _budget(results: Results, baselines: Baselines) -> str:
    text = (
        "A chip of ISAAC's class has 16,128 crossbars. The layers are split over chips ([mapping](mapping.md)),\n"
        "replicas are allotted on each chip, every value that another chip needs is sent once over a link of\n"
        "6.4 GB/s at 1.6 nJ a byte. `split` is how far the estimated time of the chosen split is, at most, from the\n"
        "best possible one: the bound takes all crossbars as one chip and links as free. A layer stays on one chip,\n"
        "so with many chips the largest layers cannot use the others' crossbars, and the bound, which knows no\n"
        "borders, is far away. `link` is how busy the busiest link is. On one chip the weights of d = 128 do not\n"
        "fit and take turns on the crossbars: cells are rewritten within each iteration (no bound is known of that).\n"
    )
    rows = []
    for r in results.budget:
        rate = baselines.of(r.workload)[0]
        rows.append(
            (
                rate.title.split(",")[0],
                r.target,
                r.chips,
                f"{r.needed:,}",
                number(r.images_per_s),
                number(r.per_chip),
                number(rate.images_per_s),
                number(r.per_chip / rate.images_per_s),
                "turns" if r.needed > r.crossbars else f"{100 * r.split_gap:.1f} %",
                f"{100 * r.busiest_link:.1f} %",
            )
        )
    titles = (
        "training",
        "target",
        "chips",
        "crossbars without replicas",
        "images/s",
        "a chip",
        "GTX 1080 Ti",
        "a chip over the GPU",
        "split",
        "link",
    )
    return f"## Several chips of ISAAC's size\n\n{text}\n{table(titles, rows)}" if rows else ""


def _dataflow(results: Results, baselines: Baselines) -> str:
    text = (
        "Training of DCGAN d = 64 on liu2018 with a second copy of all weights. `cyclic` counts from one iteration to\n"
        "the next, the others one iteration by itself; `shared` lets G's step see D as it was before D's update,\n"
        "which is another algorithm. The tables above and below have the compiler's default, `{default}`.\n"
    )
    rate = baselines.of("dcgan64")[0]
    rows = [
        (
            f"`{flow}`",
            number(r.images_per_s),
            f"{r.joules * 1e3:.3g}",
            *map(number, _ratios(r, rate, baselines)),
            f"{r.status} ({100 * r.gap:.1f} %)",
        )
        for flow, r in results.dataflow
    ]
    titles = ("data flow", "images/s", "mJ an image", "times faster", "times less energy", "schedule (gap)")
    return f"## Data flows\n\n{text.format(default=DEFAULT_DATAFLOW)}\n{table(titles, rows)}"


def _components(results: Results) -> str:
    rows = []
    for r in (r for r in results.training if r.workload == "dcgan64"):
        total = sum(r.components.values())
        parts = sorted(((v, k) for k, v in r.components.items()), reverse=True)[:5]
        rows.append((r.target, ", ".join(f"{name} {100 * v / total:.0f} %" for v, name in parts if v / total >= 0.005)))
    return f"## Where the energy goes\n\nTraining, DCGAN d = 64.\n\n{table(('target', 'largest parts'), rows)}"


def _peak(results: Results) -> str:
    if not results.peak:
        return ""
    text = (
        f"ISAAC's paper states {ISAAC_GOPS_PER_MM2:g} GOPS/mm2 on {ISAAC_MM2:g} mm2 (from memory), that is\n"
        f"{PUBLISHED_MACS_PER_S / 1e12:.1f} T multiply-accumulates a second. The chip's peak is that of full\n"
        "crossbars read without a pause. VGG-A's convolutions, random weights, one image after the other; `channel`\n"
        "is the share of the time that off-chip memory takes by itself.\n"
    )
    rows = [
        (
            r.target,
            f"{r.macs / 1e9:.2f}",
            number(r.images_per_s),
            f"{r.peak_macs_per_s / 1e12:.1f}",
            number(r.peak_macs_per_s / r.macs),
            f"{100 * r.of_peak:.1f} %",
            f"{100 * r.channel:.0f} %",
        )
        for r in results.peak
    ]
    titles = ("target", "GMAC an image", "images/s", "peak, TMAC/s", "images/s at peak", "of peak", "channel")
    return f"## VGG-A beside ISAAC's peak\n\n{text}\n{table(titles, rows)}"


def _losses(results: Results) -> str:
    if not results.losses:
        return ""
    text = (
        "The paper's third claim is a unit of its own for the loss and the error delta. One iteration of DCGAN\n"
        "d = 64, batch 128, on liu2018: with the loss in diff-blocks, and with its ops and their derivatives as\n"
        "kernels of the vector units, compiled and scheduled alike. What the block saves is the difference; below 0\n"
        "it takes more. 128 scores are little work for either, so what is saved is saved by the order of work.\n"
    )
    rows = [
        (
            f"`{r.loss}`",
            f"{r.busy:,}",
            number(r.spent * 1e9),
            f"{r.cycles:,}",
            f"{r.vector_cycles:,}",
            f"{100 * (1 - r.cycles / r.vector_cycles):.4f} %",
            f"{r.joules * 1e3:,.1f}",
            f"{100 * (1 - r.joules / r.vector_joules):.4f} %",
        )
        for r in results.losses
    ]
    titles = (
        "loss",
        "cycles of the block",
        "nJ of the block",
        "cycles with it",
        "cycles without",
        "saved",
        "mJ with it",
        "saved",
    )
    return f"## The diff-block\n\n{text}\n{table(titles, rows)}"


def _endurance(results: Results) -> str:
    rows = [
        (r.target, r.chips, number(r.iterations), f"{r.iterations * r.batch / r.images_per_s / 86400:,.1f}")
        for r in results.training
        if r.workload == "dcgan64" and r.iterations
    ]
    text = (
        "Every iteration writes the cells of all weights once, in every replica. A chip lasts as many iterations as\n"
        "its most written cell has writes (`cell.endurance_writes`: 1e9, assumed; reports for oxide cells go from 1e6\n"
        "to 1e12). Every cell is counted as written; verified writes skip those whose level stays. Training of DCGAN\n"
        "d = 64 without a pause.\n"
    )
    return f"## Endurance\n\n{text}\n{table(('target', 'chips', 'iterations', 'days'), rows)}" if rows else ""


FIRST_RATES = {"liu2018": 466, "isaac": 1807, "prime": 1282, "pipelayer": 3722, "puma": 2310}
"""Images/s of DCGAN d = 64 in training that this page had at first, when its schedules knew no off-chip channel."""


def _changes(results: Results) -> str:
    now = {r.target: r for r in results.training if r.workload == "dcgan64"}
    rows = [
        (name, number(first), number(now[name].images_per_s), f"{now[name].images_per_s / first:.2f}")
        for name, first in FIRST_RATES.items()
        if name in now
    ]
    text = (
        "This page first had other rates. They were too high where an iteration moves much: the off-chip channel\n"
        "was no resource of training schedules (pipelayer moved 55 ms of bytes in an iteration of 34 ms). It is one\n"
        "now, in schedules, bounds and the verifier. So are write drivers, which two groups in one macro used at one\n"
        "moment: prime, whose macros have 128 crossbars, had 1,770 images/s before that, the others are within 2 %.\n"
        "They were too low where reads are slow: since then transposed\n"
        "reads take 2 turns instead of 16 (planes), sums are worked on as they come and never stored, masks are\n"
        "bits, a BatchNorm has one barrier each way, values are spilled by the traffic that they cost, and copies,\n"
        "replicas and the cut of the batch are chosen together. No constant of a target was changed. DCGAN d = 64,\n"
        "batch 128, both modelled:\n"
    )
    return f"## What changed\n\n{text}\n{table(('target', 'at first, images/s', 'now', 'ratio'), rows)}" if rows else ""


def _sensitivity(results: Results, baselines: Baselines) -> str:
    rate = baselines.of("dcgan64")[0]
    rows = []
    for what, why, r in results.sensitivity:
        speed, energy = _ratios(r, rate, baselines)
        cells = (r.chips, number(r.images_per_s), f"{r.joules * 1e3:.3g}", number(speed), number(energy))
        rows.append((f"`{what}`" if "." in what or "=" in what else what, why, *cells))
    text = (
        "Training of DCGAN d = 64, batch 128, on liu2018, against the GTX 1080 Ti; one key of the target's file is\n"
        "changed at a time, and compiled anew where that changes times.\n"
    )
    titles = ("change", "why that value", "chips", "images/s", "mJ an image", "times faster", "times less energy")
    return f"## How the ratios move with the assumptions\n\n{text}\n{table(titles, rows)}"


def _sources(baselines: Baselines) -> str:
    rows: list[Sequence[object]] = []
    for rate in baselines.rates:
        rows.append((f"{rate.platform}: {rate.title}", f"{rate.images_per_s:g} images/s", rate.mark, rate.source))
    for p in baselines.platforms:
        rows.append((f"{p.name}: power", f"{p.power_w:g} W", p.power_mark, p.power_source))
    for c in baselines.claims:
        rows.append((f"{c.work} against {c.baseline}", f"{c.speed:g}x, {c.energy:g}x", c.mark, c.source))
    for f in baselines.relatives:
        figure = f"{f.slower_than_gpu:g}x slower than the GPU, {f.less_energy_than_gpu:g}x less energy"
        rows.append((f.platform, figure, f.mark, f.source))
    text = "The figures of other machines (`benchmarks/paper/baselines.toml`). Ours are all modelled.\n"
    return f"## Sources\n\n{text}\n{table(('what', 'figure', 'mark', 'source'), rows)}"
