"""Builds small valid programs by hand: buffers, kernels, windowed products; dependencies and schedule come right."""

from __future__ import annotations

from dataclasses import fields as fields_of
from dataclasses import replace
from math import prod

import numpy as np

from mgc.functions.optimizers import OPTIMIZERS
from mgc.functions.windows import Layout, Windows
from mgc.isa.crossbar import Arithmetic, CrossbarGroup
from mgc.isa.dtypes import CODES
from mgc.isa.entry import Entry
from mgc.isa.functions import Operand, function_code, infer
from mgc.isa.instructions import (
    BUFFER,
    CONSTANT,
    REGISTER,
    Host,
    Load,
    Move,
    Mvm,
    MvmT,
    Outer,
    Piece,
    Ref,
    Result,
    Step,
    Store,
    Update,
    Vec,
    WriteCells,
)
from mgc.isa.memory import Buffer, Constant, HostSegment, Port
from mgc.isa.program import Program
from mgc.isa.schedule import Schedule, Unit
from mgc.isa.state import StatePiece, StoredState

UNITS = ("writer", "link", "dma", "vector", "host", "gradient", "diff")


def dense_strides(shape):
    """Strides in elements of a C-contiguous array."""
    return tuple(prod(shape[d + 1 :]) for d in range(len(shape)))


def changed_fields(instruction, **fields):
    """`replace` that also takes entries of windows (`taps`), and of layouts by their buffer (`src_shape`)."""
    homes = {f.name: ("windows", f.name) for f in fields_of(Windows)}
    for buffer, home in zip(getattr(instruction, "ends", ()), ("input", "output"), strict=False):
        homes |= {f"{buffer}_{name}": (home, name) for name in ("shape", "strides")}
    for name in [n for n in fields if n in homes]:
        home, entry = homes[name]
        whole = fields.get(home, getattr(instruction, home))
        fields[home] = replace(whole, **{entry: fields.pop(name)})
    return replace(instruction, **fields)


class Kernel:
    """A VEC kernel in the making: steps, then stores."""

    def __init__(self, builder):
        self.builder = builder
        self.steps: list[Step] = []
        self.types: list[Operand] = []
        self.stores: list[Result] = []

    def type(self, ref):
        return self.types[ref.index] if ref.space == REGISTER else self.builder.type(ref)

    def step(self, name, *args, attributes=()):
        """Adds a step; returns its register. Unary functions may leave out alpha and beta."""
        code = function_code(name)
        if code < 64 and not attributes:
            attributes = (0.0, 0.0)
        attributes = tuple(float(a) for a in attributes)
        self.types.append(infer(code, [self.type(a) for a in args], attributes))
        self.steps.append(Step(code, tuple(args), attributes))
        return Ref(REGISTER, len(self.steps) - 1)

    def store(self, ref, kind="real"):
        """Stores a value to a new buffer; returns the buffer's Ref."""
        operand = self.type(ref)
        buffer = self.builder.buffer(kind, operand.dtype.name, operand.shape)
        self.stores.append(Result(ref, buffer.index))
        return buffer

    def emit(self):
        self.builder.add(Vec, "vector", steps=tuple(self.steps), stores=tuple(self.stores))


class ProgramBuilder:
    """Collects buffers, constants, groups and instructions; `build` makes a verified program."""

    def __init__(self, micro_batch=1, micro_batches=3, batched=True, name="hand-made"):
        self.name = name
        self.micro_batch, self.micro_batches, self.batched = micro_batch, micro_batches, batched
        self.buffers: list[Buffer] = []
        self.constants: list[Constant] = []
        self.groups: list[CrossbarGroup] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.drafts: list[tuple] = []  # (class, unit name, fields)
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.segments: list[HostSegment] = []
        self.states: list[StoredState] = []
        self.crossbars = 0

    def add(self, cls, unit, **fields):
        self.drafts.append((cls, unit, fields))

    def type(self, ref):
        if ref.space == BUFFER:
            return Operand(np.dtype(self.buffers[ref.index].dtype), self.buffers[ref.index].shape)
        tensor = self.tensors[self.constants[ref.index].tensor]
        return Operand(tensor.dtype, tensor.shape)

    def buffer(self, kind, dtype, shape, alias_of=-1, persistent=False):
        index = len(self.buffers)
        slots = 1 if persistent else 1 + index % 2
        self.buffers.append(
            Buffer(index, f"b{index}", kind, dtype, tuple(shape), offset=64 * index, slots=slots, alias_of=alias_of,
                   persistent=persistent)
        )  # fmt: skip
        return Ref(BUFFER, index)

    def state(self, name, kind, initial, pieces, phase="p"):
        """A state with a first value and its pieces (or one group index or buffer Ref that holds all of it)."""
        initial = np.array(initial, order="C")
        if isinstance(pieces, Ref):
            pieces = (StatePiece.dense(initial.shape, buffer=pieces.index),)
        elif isinstance(pieces, int):
            pieces = (StatePiece.dense(initial.shape, group=pieces),)
        self.tensors[f"state.{name}"] = initial
        self.states.append(StoredState(len(self.states), name, kind, phase, f"state.{name}", tuple(pieces)))

    def kept(self, name, kind, initial):
        """A persistent buffer that holds a state."""
        initial = np.array(initial, order="C")
        ref = self.buffer("real", initial.dtype.name, initial.shape, persistent=True)
        self.state(name, kind, initial, ref)
        return ref

    def alias(self, ref, shape):
        b = self.buffers[ref.index]
        return self.buffer(b.kind, b.dtype, shape, alias_of=ref.index, persistent=b.persistent)

    def constant(self, array):
        index = len(self.constants)
        self.tensors[f"const.{index}"] = np.array(array, order="C")
        self.constants.append(Constant(index, f"c{index}", f"const.{index}"))
        return Ref(CONSTANT, index)

    def input(self, shape, dtype="float32", batched=True, buffer_dtype=None, name=None):
        """An input port of `shape` (of one micro-batch), loaded into a buffer."""
        ref = self.buffer("real", buffer_dtype or dtype, shape)
        name = name or f"in{len(self.inputs)}"
        self.inputs.append(Port(name, ref.index, dtype, tuple(shape), batched, ("N", *map(str, shape[1:]))))
        self.add(Load, "link", port=len(self.inputs) - 1, dst=ref.index)
        return ref

    def output(self, ref, batched=True, dtype=None, name=None):
        operand = self.type(ref)
        name = name or f"out{len(self.outputs)}"
        buffer = ref.index if ref.space == BUFFER else -1
        self.outputs.append(Port(name, buffer, dtype or operand.dtype.name, operand.shape, batched))
        self.add(Store, "link", src=ref, port=len(self.outputs) - 1)

    def kernel(self):
        return Kernel(self)

    def group(self, weights, real, arithmetic: Arithmetic, replicas=1, weight_scale=0.0):
        """Crossbars with weights [matrices, rows, cols], programmed at the start; returns the group's index."""
        index = len(self.groups)
        self.tensors[f"group.{index}.weights"] = np.ascontiguousarray(weights)
        self.tensors[f"group.{index}.real"] = np.ascontiguousarray(real, np.float32)
        group = CrossbarGroup(
            id=index, name=f"g{index}", matrices=weights.shape[0], rows=weights.shape[1], cols=weights.shape[2],
            arithmetic=arithmetic, weights=f"group.{index}.weights", real_weights=f"group.{index}.real",
            replicas=replicas, tiles=(0,), crossbars=(), weight_scale=weight_scale,
        )  # fmt: skip
        count = replicas * group.crossbars_per_replica
        ids = tuple(range(self.crossbars, self.crossbars + count))
        self.crossbars += count
        self.groups.append(CrossbarGroup(**{**group.__dict__, "crossbars": ids}))
        self.add(WriteCells, "writer", group=index)
        return index

    def mvm(self, group, src, dst, signed, *, src_shape=None, src_strides=None, dst_shape=None, dst_strides=None,
            count, taps, in_base, in_stride, in_dilation, out_base, out_stride, tap_fastest=True):  # fmt: skip
        layouts = {
            "input": self.layout(src, src_shape, src_strides),
            "output": self.layout(dst, dst_shape, dst_strides),
        }
        windows = Windows(*map(tuple, (count, taps, in_base, in_stride, in_dilation, out_base, out_stride)))
        self.add(Mvm, f"group{group}", group=group, src=src.index, dst=dst.index, signed=signed, windows=windows,
                 tap_fastest=tap_fastest, **layouts)  # fmt: skip

    def layout(self, ref, shape=None, strides=None):
        shape = tuple(shape or self.type(ref).shape)
        return Layout(shape, tuple(strides)) if strides else Layout.nchw(shape)

    def mvm_t(self, group, src, dst, signed, accumulate=False, tap_fastest=True, **windows):
        """MVM_T that undoes the MVM with the same windows, whose source and destination are `dst` and `src` here."""
        self.add(MvmT, f"group{group}", group=group, src=src.index, dst=dst.index, signed=signed,
                 accumulate=accumulate, tap_fastest=tap_fastest, input=self.layout(dst), output=self.layout(src),
                 windows=Windows(**{n: tuple(v) for n, v in windows.items()}))  # fmt: skip

    def outer(self, x, dy, dst, scales=(), runs=0, tap_fastest=True, **windows):
        at = [s.index for s in scales] or [-1, -1]
        scales = {"x_scale": at[0], "dy_scale": at[1], "runs": runs}
        self.add(Outer, "gradient", x=x.index, dy=dy.index, dst=dst.index, **scales, tap_fastest=tap_fastest,
                 input=self.layout(x), output=self.layout(dy),
                 windows=Windows(**{n: tuple(v) for n, v in windows.items()}))  # fmt: skip

    def update(self, optimizer, hyper, gradient, moments=(), group=-1, parameter=None, step=None, clip=None):
        lo, hi = clip or (-np.inf, np.inf)
        self.add(
            Update, "gradient", optimizer=OPTIMIZERS[optimizer].code, hyper=tuple(map(float, hyper)), group=group,
            parameter=-1 if parameter is None else parameter.index, gradient=gradient.index,
            moments=tuple(m.index for m in moments), step=-1 if step is None else step.index, lo=float(lo),
            hi=float(hi),
        )  # fmt: skip

    def move(self, pieces, shape, dtype, kind="real"):
        dst = self.buffer(kind, dtype, shape)
        self.add(Move, "dma", pieces=tuple(pieces), dst=dst.index)
        return dst

    def transpose(self, ref, axes):
        shape = self.type(ref).shape
        strides = dense_strides(shape)
        out = tuple(shape[a] for a in axes)
        piece = Piece(ref, out, 0, tuple(strides[a] for a in axes), 0, dense_strides(out))
        return self.move([piece], out, self.type(ref).dtype.name, self.buffers[ref.index].kind)

    def host(self, model: bytes, args, result_types, op_types=("Identity",)):
        """A host segment; `result_types` are (kind, dtype, shape)."""
        index = len(self.segments)
        self.tensors[f"host.{index}"] = np.frombuffer(model, np.uint8)
        self.segments.append(HostSegment(index, f"host.{index}", "for a test", tuple(op_types)))
        results = [self.buffer(*t) for t in result_types]
        self.add(Host, "host", segment=index, args=tuple(args), results=tuple(r.index for r in results))
        return results

    def build(self) -> Program:
        names = [*UNITS, *(f"group{g.id}" for g in self.groups)]
        units = tuple(Unit(k, n, n if n in UNITS else "crossbar") for k, n in enumerate(names))
        roots = list(range(len(self.buffers)))
        for b in self.buffers:
            if b.alias_of >= 0:
                roots[b.id] = roots[b.alias_of]
        writers: dict[int, list[int]] = {}
        users: dict[int, list[int]] = {}
        plain = []
        self.drafts.sort(key=lambda draft: draft[0] is not WriteCells)
        for k, (cls, unit, fields) in enumerate(self.drafts):
            duration = 0 if cls is WriteCells else 3 + (7 * k) % 11
            plain.append(cls(k, names.index(unit), duration, (), (), k, **fields))
            for b in plain[k].writes():
                if not self.buffers[b].persistent:
                    writers.setdefault(roots[b], []).append(k)
            for b in (*plain[k].reads(), *plain[k].writes()):
                if not self.buffers[b].persistent:
                    users.setdefault(roots[b], []).append(k)
        instructions = []
        for i, (cls, _, fields) in zip(plain, self.drafts, strict=True):
            after = {w for b in i.reads() for w in writers.get(roots[b], ())}
            after |= {j.id for j in plain[: i.id] if self._conflict(i, j, roots)}
            if getattr(i, "accumulate", False):
                after |= {writers[roots[i.dst]][0]}
            free = sorted({(u, self.buffers[roots[b]].slots) for b in i.writes()
                           if not self.buffers[b].persistent for u in users[roots[b]] if u != i.id})  # fmt: skip
            instructions.append(cls(i.id, i.unit, i.duration, tuple(sorted(after)), tuple(free), i.source, **fields))
        starts, makespan, bound = self._schedule(instructions)
        setup = sum(isinstance(i, WriteCells) for i in instructions)
        entry = Entry(0, "training" if self.states else "testing", "train" if self.states else "test", setup,
                      len(instructions), 1, self.micro_batch, self.micro_batches, self.batched,
                      Schedule(starts[setup:], "FEASIBLE", makespan, bound))  # fmt: skip
        program = Program(
            name=self.name, target={"name": "test", "crossbar": {"rows": 4, "adc_mode": "clip"}},
            instructions=tuple(instructions), buffers=tuple(self.buffers), constants=tuple(self.constants),
            groups=tuple(self.groups), units=units, inputs=tuple(self.inputs), outputs=tuple(self.outputs),
            host_segments=tuple(self.segments), entries=(entry,), clock_ns=1.0,
            sources=tuple((f"node{k}",) for k in range(len(instructions))), absorbed={"Identity_0": "identity"},
            tensors=self.tensors, meta={"seed": 0, "scales": [0.5, 1e-9]}, states=tuple(self.states),
        )  # fmt: skip
        program.verify()
        return program

    def _conflict(self, i, j, roots):
        """Whether two instructions use something that persists, and one changes it."""

        def uses(k):
            writes = {("g", g) for g in k.writes_groups()} if not isinstance(k, WriteCells) else set()
            writes |= {("b", roots[b]) for b in k.writes() if self.buffers[b].persistent}
            reads = {("g", g) for g in k.reads_groups()}
            return writes, reads | {("b", roots[b]) for b in k.reads() if self.buffers[b].persistent}

        (i_writes, i_reads), (j_writes, j_reads) = uses(i), uses(j)
        return bool(i_writes & (j_writes | j_reads) or j_writes & i_reads)

    def _schedule(self, instructions):
        starts = np.full((len(instructions), self.micro_batches), -1, np.int64)
        free: dict[int, int] = {}
        load: dict[int, int] = {}
        for k in range(self.micro_batches):
            for i in instructions:
                if isinstance(i, WriteCells):
                    continue
                needs = [(j, k) for j in i.after] + [(j, k - lag) for j, lag in i.after_previous if k >= lag]
                ends = [int(starts[j, m]) + instructions[j].duration for j, m in needs]
                starts[i.id, k] = max([free.get(i.unit, 0), *ends])
                free[i.unit] = int(starts[i.id, k]) + i.duration
                load[i.unit] = load.get(i.unit, 0) + i.duration
        return starts, max(free.values(), default=0), max(load.values(), default=0)


def quant_dtype(bits, signed):
    """The smallest element type that holds codes of `bits`."""
    return ("int8" if bits <= 8 else "int16") if signed else ("uint8" if bits <= 8 else "uint16")


def quant_attributes(scale, arithmetic, signed):
    """Attributes of a quant step to the whole range of an arithmetic's inputs."""
    lo, hi = arithmetic.code_range(signed)
    return (scale, lo, hi, CODES[quant_dtype(arithmetic.input_bits, signed)], 0)
