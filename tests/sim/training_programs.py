"""Small training programs by hand: a GAN of two matrices, and a random convolution with its three products."""

from __future__ import annotations

import random
from math import prod

import numpy as np
from builder import ProgramBuilder, dense_strides

from mgc.functions.codes import in_steps
from mgc.functions.optimizers import OPTIMIZERS
from mgc.isa.crossbar import Arithmetic
from mgc.isa.dtypes import CODES
from mgc.isa.instructions import Ref, Result
from mgc.isa.program import Program
from mgc.isa.state import StatePiece

EXACT = Arithmetic(16, 32, 2, 1, 12, "clip", "differential", 16, 8)
DENSE = dict.fromkeys(("count", "taps", "in_base", "in_stride", "in_dilation", "out_base", "out_stride"), ())


def scale_of(k, x: Ref, signed: bool, bits: int = 8) -> Ref:
    """The scale of a whole tensor in a kernel: max|x| / (2^(B-1) - 1), max x / (2^B - 1); 1 where x is all zero."""
    b = k.builder
    top = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    most = k.step("reduce_max", k.step("abs", x) if signed else x, attributes=(0, *range(len(k.type(x).shape))))
    zero = k.step("equal", most, b.constant(np.float32(0)))
    return k.step("where", zero, b.constant(np.float32(1)), k.step("div", most, b.constant(np.float32(top))))


def coded(b: ProgramBuilder, x: Ref, signed: bool = True, bits: int = 8) -> tuple[Ref, Ref]:
    """(codes, scale) of a tensor."""
    k = b.kernel()
    scale = scale_of(k, x, signed, bits)
    lo, hi = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    codes = k.store(k.step("quant_by", x, scale, attributes=(lo, hi, CODES["int8" if signed else "uint8"])), "code")
    scale = k.store(scale)
    k.emit()
    return codes, scale


def real_of(b: ProgramBuilder, acc: Ref, s1: Ref, s2: Ref | None, factor: float) -> Ref:
    """The real values that sums stand for."""
    k = b.kernel()
    one = b.constant(np.float32(1))
    y = k.store(k.step("dequant_by", acc, s1, s2 or one, attributes=(factor,)))
    k.emit()
    return y


class TinyGan:
    """x[B, n] and z[B, m]; G(z) = z @ g + b, D(x) = x @ d; least squares; Adam for d, momentum for g, SGD for b.

    One iteration: D's step on real and fake, then G's step against the new D. `iterate` is the same in NumPy.
    """

    LR = 0.05

    def __init__(self, seed: int = 0, batch: int = 4, n: int = 5, m: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.g = (rng.standard_normal((m, n)) / 2).astype(np.float32)
        self.d = (rng.standard_normal((n, 1)) / 2).astype(np.float32)
        self.b = (rng.standard_normal(n) / 10).astype(np.float32)
        self.batch, self.n, self.m = batch, n, m
        self.scale = {"g": float(np.abs(self.g).max()) * 2 / 32767, "d": float(np.abs(self.d).max()) * 2 / 32767}
        self.program = self._build()

    def inputs(self, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        shapes = {"x": (self.batch, self.n), "z": (self.batch, self.m)}
        return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}

    def _group(self, b: ProgramBuilder, name: str) -> int:
        w = getattr(self, name)
        steps = in_steps(w, self.scale[name], 16).astype(np.int16)[None]
        index = b.group(steps, w[None], EXACT, weight_scale=self.scale[name])
        b.state(name, "parameter", w, index)
        return index

    def _kept(self, b: ProgramBuilder, name: str, suffix: str) -> Ref:
        """A moment in the layout of a group; its state has the model's shape."""
        shape = getattr(self, name).shape
        ref = b.buffer("real", "float32", (1, *shape), persistent=True)
        piece = StatePiece.dense(shape, buffer=ref.index)
        b.state(f"{name}.{suffix}", "moment", np.zeros(shape, np.float32), (piece,))
        return ref

    def _read(self, b: ProgramBuilder, name: str, group: int, x: tuple[Ref, Ref]) -> Ref:
        acc = b.buffer("acc", "int64", (self.batch, getattr(self, name).shape[1]))
        b.mvm(group, x[0], acc, True, **DENSE)
        return real_of(b, acc, x[1], None, self.scale[name])

    def _gradient(self, b: ProgramBuilder, name: str, x: tuple[Ref, Ref], dy: tuple[Ref, Ref]) -> Ref:
        acc = b.buffer("acc", "int64", (1, *getattr(self, name).shape))
        b.outer(x[0], dy[0], acc, **DENSE)
        return real_of(b, acc, x[1], dy[1], 1.0)

    def _loss(self, b: ProgramBuilder, scores: Ref, target: float) -> tuple[Ref, Ref]:
        """(mean((s - target)^2), its gradient)."""
        k = b.kernel()
        off = k.step("sub", scores, b.constant(np.float32(target)))
        loss = k.store(k.step("reduce_mean", k.step("mul", off, off), attributes=(0, 0, 1)))
        delta = k.store(k.step("mul", off, b.constant(np.float32(2 / self.batch))))
        k.emit()
        return loss, delta

    def _sum(self, b: ProgramBuilder, x: Ref, y: Ref) -> Ref:
        k = b.kernel()
        z = k.store(k.step("add", x, y))
        k.emit()
        return z

    def _build(self) -> Program:
        b = ProgramBuilder(micro_batch=self.batch, micro_batches=1, batched=False, name="tiny-gan")
        x = b.input((self.batch, self.n), name="x", batched=False)
        z = b.input((self.batch, self.m), name="z", batched=False)
        groups = {name: self._group(b, name) for name in ("g", "d")}
        bias = b.kept("b", "parameter", self.b)
        count = b.kept("steps", "counter", np.int64(0))
        k = b.kernel()
        k.stores.append(Result(k.step("add", count, b.constant(np.int64(1))), count.index))
        k.emit()
        codes_x, codes_z = coded(b, x), coded(b, z)
        fake = self._sum(b, self._read(b, "g", groups["g"], codes_z), bias)
        codes_fake = coded(b, fake)
        # the discriminator's step
        on_real, delta_real = self._loss(b, self._read(b, "d", groups["d"], codes_x), 1.0)
        on_fake, delta_fake = self._loss(b, self._read(b, "d", groups["d"], codes_fake), 0.0)
        b.output(self._sum(b, on_real, on_fake), batched=False, name="loss_d")
        gradient = self._sum(
            b,
            self._gradient(b, "d", codes_x, coded(b, delta_real)),
            self._gradient(b, "d", codes_fake, coded(b, delta_fake)),
        )
        moments = [self._kept(b, "d", "adam.m"), self._kept(b, "d", "adam.v")]
        b.update("adam", (self.LR, 0.5, 0.999, 1e-8), gradient, moments, group=groups["d"], step=count)
        # the generator's, against the new discriminator
        loss, delta = self._loss(b, self._read(b, "d", groups["d"], codes_fake), 1.0)
        b.output(loss, batched=False, name="loss_g")
        errors = coded(b, delta)
        acc = b.buffer("acc", "int64", (self.batch, self.n))
        b.mvm_t(groups["d"], errors[0], acc, True, **DENSE)
        back = real_of(b, acc, errors[1], None, self.scale["d"])
        gradient = self._gradient(b, "g", codes_z, coded(b, back))
        b.update("momentum", (self.LR, 0.9), gradient, [self._kept(b, "g", "momentum")], group=groups["g"])
        k = b.kernel()
        total = k.store(k.step("reduce_sum", back, attributes=(0, 0)))
        k.emit()
        b.update("sgd", (self.LR,), total, parameter=bias, clip=(-0.2, 0.2))
        return b.build()


class RandomConvolution:
    """A convolution y = conv(x, w) of random shape, and the products of its training: dx, dw, an update of w.

    Inputs x and dy are codes (of `arithmetic.input_bits`); outputs are the sums of MVM, MVM_T and OUTER as reals. The
    state "w" has the shape [matrices * cols, channels, *taps] of a model; the rows of the group are in either order.
    With `backward` windows and taps may go backward over the input, with `spare` it may have a channel more.
    """

    def __init__(
        self,
        rng: random.Random,
        arithmetic: Arithmetic,
        optimizer: str | None = "sgd",
        backward: bool = True,
        spare: bool = True,
    ) -> None:
        self.np = np.random.Generator(np.random.PCG64(rng.getrandbits(32)))
        self.arithmetic, dims = arithmetic, rng.randint(0, 3)

        def each(lo, hi):
            return tuple(rng.randint(lo, hi) for _ in range(dims))

        self.count, self.taps, base = each(1, 3), each(1, 3), each(-2, 1)
        self.windows = {
            "count": self.count, "taps": self.taps, "in_base": base,
            "in_stride": tuple(d or 1 for d in each(-backward, 2)),
            "in_dilation": tuple(d or 1 for d in each(-2 * backward, 2)),
            "out_base": each(0, 1), "out_stride": each(1, 2), "tap_fastest": rng.random() < 0.5,
        }  # fmt: skip
        self.matrices, self.channels, self.cols = rng.randint(1, 2), rng.randint(1, 3), rng.randint(1, 4)
        self.rows = self.channels * prod(self.taps)
        self.batch = rng.randint(1, 3)
        self.src = (self.batch, self.matrices * self.channels + spare * rng.randint(0, 1), *each(1, 5))
        spans = zip(self.windows["out_base"], self.count, self.windows["out_stride"], strict=True)
        self.dst = (self.batch, self.matrices * self.cols, *(o + (q - 1) * s + 1 + rng.randint(0, 1)
                                                             for o, q, s in spans))  # fmt: skip
        self.signed = rng.random() < 0.5
        self.scale = rng.choice([0.01, 2**-9, 0.3])
        most = arithmetic.weight_range[1]
        self.steps = self.np.integers(-most, most, (self.matrices, self.rows, self.cols), endpoint=True)
        self.real = (self.steps * self.scale).astype(np.float32)
        self.program = self._build(rng, optimizer)

    def piece(self, **home: int) -> StatePiece:
        """Where the entries [matrix, column, channel, *taps] of a state live in [matrices, rows, cols]."""
        taps = prod(self.taps)
        extents = (self.matrices, self.cols, self.channels, *self.taps)
        across = dense_strides(self.taps)
        by_channel = (1, *(self.channels * s for s in across))
        rows = (taps, *across) if self.windows["tap_fastest"] else by_channel
        strides = (self.rows * self.cols, 1, *(r * self.cols for r in rows))
        home = {"group": -1, "buffer": -1, **home}
        return StatePiece(extents=extents, base=0, strides=dense_strides(extents), home_base=0, home_strides=strides,
                          **home)  # fmt: skip

    def in_model(self, weights: np.ndarray) -> np.ndarray:
        """[matrices, rows, cols] as a state's value."""
        shape = (self.matrices * self.cols, self.channels, *self.taps)
        return np.ascontiguousarray(self.piece(group=0).of_home(np.ascontiguousarray(weights))).reshape(shape)

    def _code_input(self, b: ProgramBuilder, name: str, shape: tuple[int, ...], signed: bool) -> Ref:
        x = b.input(shape, name=name, batched=False)
        k = b.kernel()
        lo, hi = self.arithmetic.code_range(signed)
        dtype = CODES[("int" if signed else "uint") + ("8" if self.arithmetic.input_bits <= 8 else "16")]
        codes = k.store(k.step("quant_by", x, b.constant(np.float32(1)), attributes=(lo, hi, dtype)), "code")
        k.emit()
        return codes

    def _build(self, rng: random.Random, optimizer: str | None) -> Program:
        b = ProgramBuilder(micro_batch=self.batch, micro_batches=1, batched=False, name="random-convolution")
        x, dy = self._code_input(b, "x", self.src, self.signed), self._code_input(b, "dy", self.dst, True)
        group = b.group(self.steps.astype(np.int16), self.real, self.arithmetic, weight_scale=self.scale)
        b.state("w", "parameter", self.in_model(self.real), (self.piece(group=group),))
        acc = {name: b.buffer("acc", "int64", shape) for name, shape in
               (("y", self.dst), ("dx", self.src), ("dw", (self.matrices, self.rows, self.cols)))}  # fmt: skip
        b.mvm(group, x, acc["y"], self.signed, **self.windows)
        b.mvm_t(group, dy, acc["dx"], True, **self.windows)
        b.outer(x, dy, acc["dw"], **self.windows)
        one = b.constant(np.float32(1))
        real = {name: real_of(b, ref, one, None, 1.0) for name, ref in acc.items()}
        for name, ref in real.items():
            b.output(ref, batched=False, name=name)
        if optimizer is None:
            return b.build()
        hyper = {"sgd": (0.1,), "momentum": (0.1, 0.9), "adam": (1e-3, 0.5, 0.99, 1e-8),
                 "rmsprop": (0.01, 0.9, 1e-8, 0.5, 1.0)}[optimizer]  # fmt: skip
        moments = []
        for name in OPTIMIZERS[optimizer].moments(hyper):
            moments.append(b.buffer("real", "float32", (self.matrices, self.rows, self.cols), persistent=True))
            zero = np.zeros_like(self.in_model(self.real))
            b.state(f"w.{name}", "moment", zero, (self.piece(buffer=moments[-1].index),))
        step = b.kept("t", "counter", np.int64(0)) if optimizer == "adam" else None
        if step is not None:
            k = b.kernel()
            k.stores.append(Result(k.step("add", step, b.constant(np.int64(1))), step.index))
            k.emit()
        clip = (-0.5, 0.5) if rng.random() < 0.3 else None
        b.update(optimizer, hyper, real["dw"], moments, group=group, step=step, clip=clip)
        return b.build()

    def inputs(self) -> dict[str, np.ndarray]:
        """Codes of the whole range."""
        drawn = {"x": (self.src, self.signed), "dy": (self.dst, True)}
        return {
            name: self.np.integers(*self.arithmetic.code_range(signed), shape, endpoint=True).astype(np.float32)
            for name, (shape, signed) in drawn.items()
        }
