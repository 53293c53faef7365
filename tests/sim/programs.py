"""Random small programs for property tests: every instruction, many functions, several arithmetics.

@given(st.randoms(use_true_random=False))
def test(rng):
    program = random_program(rng)
    inputs = random_inputs(program, rng, samples=3)
"""

from __future__ import annotations

import random
from dataclasses import replace
from math import prod

import numpy as np
from builder import ProgramBuilder, dense_strides, quant_attributes, quant_dtype

from mgc.isa.crossbar import Arithmetic
from mgc.isa.functions import function_code
from mgc.isa.instructions import Piece, Ref
from mgc.isa.program import Program

SMOOTH = ("sigmoid", "tanh", "exp", "softplus", "gelu", "mish", "erf", "softsign", "sin", "atan", "silu")
PLAIN = ("relu", "neg", "abs", "floor", "round", "sign", "hard_swish")


def random_arithmetic(rng: random.Random) -> Arithmetic:
    """Small crossbars, packed either way; about half of them lose something in their ADCs."""
    input_bits = rng.choice([1, 2, 3, 4, 5, 8, 8, 8, 12, 16])
    drawn = Arithmetic(
        rows=rng.choice([2, 3, 4, 8, 16]),
        cols=rng.choice([4, 8, 16]),
        cell_bits=rng.choice([1, 2, 2, 3, 4, 8]),
        dac_bits=rng.randint(1, min(4, input_bits)),
        adc_bits=rng.choice([1, 3, 4, 5, 6, 8, 8, 12, 16]),
        adc_mode=rng.choice(["clip", "clip", "scale"]),
        encoding=rng.choice(["differential", "differential", "offset"]),
        weight_bits=rng.choice([2, 3, 4, 8, 8, 12, 16]),
        input_bits=input_bits,
    )
    packing = random.Random(repr(drawn))  # of its own: what follows in `rng` stays as it is
    return replace(drawn, plane_columns=packing.choice([0, packing.randint(1, drawn.cols)]))


class RandomProgram:
    """Grows a program by random layers on real values [batch, channels, *spatial]."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.np = np.random.Generator(np.random.PCG64(rng.getrandbits(32)))
        self.b = ProgramBuilder(micro_batch=rng.choice([1, 1, 2]), micro_batches=rng.randint(1, 3))
        self.arithmetic = random_arithmetic(rng)
        self.spatial = rng.choice([1, 2, 2, 2, 3])

    def shape(self, ref: Ref) -> tuple[int, ...]:
        return self.b.type(ref).shape

    def noise(self, *shape: int) -> np.ndarray:
        return self.np.standard_normal(shape).astype(np.float32)

    def weights(self, matrices: int, rows: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
        """Integer weights (some columns small, so that they are exact where others are not) and real ones."""
        lo, hi = self.arithmetic.weight_range
        spread = self.np.choice([0.02, 0.2, 1.0], size=(matrices, 1, cols)) * max(abs(lo), hi)
        weights = np.clip(np.rint(self.np.standard_normal((matrices, rows, cols)) * spread), lo, hi)
        if self.rng.random() < 0.2:
            weights[..., 0] = lo
        return weights.astype(np.int8 if lo >= -128 else np.int16), (weights / 64).astype(np.float32)

    def group(self, matrices: int, rows: int, cols: int) -> int:
        if self.rng.random() < 0.2:
            self.arithmetic = random_arithmetic(self.rng)
        return self.b.group(*self.weights(matrices, rows, cols), self.arithmetic, replicas=self.rng.randint(1, 2))

    def quantised(self, x: Ref) -> tuple[Ref, bool]:
        """Codes of x, sometimes moved or pooled on the way."""
        signed = self.rng.random() < 0.5
        k = self.b.kernel()
        if not signed:
            x = k.step("relu", x)
        scale = float(np.float32(2.0 ** self.rng.randint(-3, 0) / self.arithmetic.code_range(signed)[1 - signed]))
        scale = abs(scale) or 1.0
        code = k.step("quant", x, attributes=quant_attributes(scale, self.arithmetic, signed))
        if self.rng.random() < 0.2 and all(n >= 2 for n in k.type(code).shape[2:]):
            n = len(k.type(code).shape) - 2
            code = k.step("pool_max", code, attributes=(n, *[2] * n, *[1] * n, *[0] * n, *[1] * n, *[1] * n, 0))
        codes = k.store(code, "code")
        k.emit()
        if self.rng.random() < 0.2:
            codes = self.padded(codes, "code")
        return codes, signed

    def dequantised(self, acc: Ref) -> Ref:
        """Real values of accumulators [batch, channels, *spatial], with a function after it."""
        shape = self.shape(acc)
        channel = (shape[1], *(1,) * (len(shape) - 2))
        a = self.arithmetic
        scale = np.abs(self.np.standard_normal(channel)) * a.factor / 2 ** (a.weight_bits + a.input_bits - 2) + 1e-9
        bias = self.np.standard_normal(channel)
        real = self.rng.choice([np.float32, np.float64])
        k = self.b.kernel()
        constants = [self.b.constant(c) for c in (scale.astype(real), bias.astype(real), bias.astype(np.float32))]
        y = k.step("dequant", acc, *constants)
        match self.rng.randrange(5):
            case 0:
                y = k.step("leaky_relu", y, attributes=(0.2, 0.0))
            case 1:
                y = self.lookup(k, y)
            case 2:
                y = k.step("relu", y)
        stored = k.store(y)
        k.emit()
        return stored

    def lookup(self, k, x: Ref) -> Ref:
        name = self.rng.choice(["sigmoid", "tanh"])
        n = self.rng.choice([1, 4, 32])
        lo, step = -4.0, 8.0 / n
        grid = lo + step * np.arange(n + 1)
        f = 1 / (1 + np.exp(-grid)) if name == "sigmoid" else np.tanh(grid)
        values, slopes = f[:-1].astype(np.float32), (np.diff(f) / step).astype(np.float32)
        attributes = (function_code(name), 0.0, 0.0, lo, step)
        return k.step("lookup", x, self.b.constant(values), self.b.constant(slopes), attributes=attributes)

    # layers: Ref -> Ref

    def conv(self, x: Ref) -> Ref:
        """A convolution with stride, pads, dilation and groups; channel- or tap-major rows."""
        codes, signed = self.quantised(x)
        n, c, *spatial = self.shape(codes)
        matrices = self.rng.choice([g for g in (1, 2, 3) if c % g == 0])
        cols = self.rng.randint(1, 5)
        taps = [self.rng.randint(1, 3) for _ in spatial]
        stride = [self.rng.randint(1, 2) for _ in spatial]
        dilation = [self.rng.randint(1, 2) for _ in spatial]
        base = [-self.rng.randint(0, 2) for _ in spatial]
        count = [
            max(1, (e - b + self.rng.randint(0, 2) - d * (t - 1) - 1) // s + 1)
            for e, b, d, t, s in zip(spatial, base, dilation, taps, stride, strict=True)
        ]
        group = self.group(matrices, c // matrices * prod(taps), cols)
        codes, signed = self.fits(codes, signed)
        acc = self.b.buffer("acc", "int64", (n, matrices * cols, *count))
        self.b.mvm(group, codes, acc, signed, count=count, taps=taps, in_base=base, in_stride=stride,
                   in_dilation=dilation, out_base=[0] * len(count), out_stride=[1] * len(count),
                   tap_fastest=self.rng.random() < 0.5)  # fmt: skip
        return self.dequantised(acc)

    def conv_transpose(self, x: Ref) -> Ref:
        """A transposed convolution of stride 2 as interleaved residue classes, some of which may have no taps."""
        codes, signed = self.quantised(x)
        n, c, *spatial = self.shape(codes)
        cols, kernel, stride = self.rng.randint(1, 4), self.rng.randint(1, 4), self.rng.choice([1, 2, 2, 3])
        codes, signed = self.fits(codes, signed)
        dims = len(spatial)
        out = [stride * (e - 1) + kernel for e in spatial]
        acc = self.b.buffer("acc", "int64", (n, cols, *out))
        for residue in np.ndindex(*[stride] * dims):
            # output r + stride*q = stride*i + k: tap t reads input q - t through kernel entry r + stride*t
            taps = [-(-(kernel - r) // stride) for r in residue]
            count = [-(-(o - r) // stride) for o, r in zip(out, residue, strict=True)]
            if min(taps) < 1 or min(count) < 1:
                continue
            arithmetic = self.arithmetic
            group = self.b.group(*self.weights(1, c * prod(taps), cols), arithmetic)
            self.b.mvm(group, codes, acc, signed, count=count, taps=taps, in_base=[0] * dims, in_stride=[1] * dims,
                       in_dilation=[-1] * dims, out_base=residue, out_stride=[stride] * dims)  # fmt: skip
        return self.dequantised(acc)

    def dense(self, x: Ref) -> Ref:
        """A matrix product over rows [batch, tokens, K], channel stride 1."""
        codes, signed = self.quantised(x)
        n, c, *spatial = self.shape(codes)
        tokens, k, cols = c, prod(spatial), self.rng.randint(1, 6)
        group = self.group(1, k, cols)
        codes, signed = self.fits(codes, signed)
        acc = self.b.buffer("acc", "int64", (n, tokens, cols))
        self.b.mvm(group, codes, acc, signed, src_shape=(n, k, tokens), src_strides=(tokens * k, 1, k),
                   dst_shape=(n, cols, tokens), dst_strides=(tokens * cols, 1, cols), count=[tokens], taps=[1],
                   in_base=[0], in_stride=[1], in_dilation=[1], out_base=[0], out_stride=[1])  # fmt: skip
        view = self.b.alias(acc, (n, tokens, cols, *(1,) * (len(spatial) - 1)))
        return self.dequantised(view)

    def fits(self, codes: Ref, signed: bool) -> tuple[Ref, bool]:
        """The codes again, requantised if the group has got another input width since."""
        if self.b.type(codes).dtype.name == quant_dtype(self.arithmetic.input_bits, signed) and (
            self.code_bits(codes) == self.arithmetic.input_bits
        ):
            return codes, signed
        k = self.b.kernel()
        lo, hi = self.arithmetic.code_range(signed)
        real = k.step("cast", codes, attributes=(1,))
        codes = k.store(k.step("quant", real, attributes=quant_attributes(1.0, self.arithmetic, signed)), "code")
        k.emit()
        assert lo <= hi
        return codes, signed

    def code_bits(self, codes: Ref) -> int:
        """Input bits that the codes of a buffer were made for (0: unknown)."""
        for cls, _, fields in self.b.drafts:
            for store in fields.get("stores", ()):
                if store.dst == codes.index:
                    quants = [s.attributes for s in fields["steps"] if s.function == function_code("quant")]
                    return int(quants[-1][2] - quants[-1][1]).bit_length() if quants else 0
            if cls.mnemonic == "move" and fields["dst"] == codes.index:
                return self.code_bits(fields["pieces"][0].src)
        return 0

    def padded(self, ref: Ref, kind: str = "real") -> Ref:
        """The value with a border (zero for codes, a constant's value else), by MOVE."""
        operand = self.b.type(ref)
        pads = [(0, 0), (0, 0), *((self.rng.randint(0, 2), self.rng.randint(0, 1)) for _ in operand.shape[2:])]
        shape = tuple(e + lo + hi for e, (lo, hi) in zip(operand.shape, pads, strict=True))
        strides = dense_strides(shape)
        inner = Piece(ref, operand.shape, 0, dense_strides(operand.shape),
                      sum(lo * s for (lo, _), s in zip(pads, strides, strict=True)), strides)  # fmt: skip
        pieces = [inner]
        if kind == "real":
            fill = self.b.constant(self.noise(1))
            pieces = [Piece(fill, shape, 0, (0,) * len(shape), 0, strides), inner]
        return self.b.move(pieces, shape, operand.dtype.name, kind)

    def flipped(self, x: Ref) -> Ref:
        shape = self.shape(x)
        strides = dense_strides(shape)
        piece = Piece(x, shape, (shape[-1] - 1) * strides[-1], (*strides[:-1], -strides[-1]), 0, strides)
        return self.b.move([piece], shape, "float32")

    def concatenated(self, x: Ref) -> Ref:
        n, c, *rest = self.shape(x)
        shape = (n, 2 * c, *rest)
        strides, inner = dense_strides(shape), dense_strides((n, c, *rest))
        pieces = [Piece(x, (n, c, *rest), 0, inner, at * strides[1], strides) for at in (0, c)]
        return self.b.move(pieces, shape, "float32")

    def swapped(self, x: Ref) -> Ref:
        axes = list(range(len(self.shape(x))))
        axes[1], axes[-1] = axes[-1], axes[1]
        return self.b.transpose(x, axes)

    def kernel(self, x: Ref) -> Ref:
        """A kernel of a few random steps."""
        k = self.b.kernel()
        for _ in range(self.rng.randint(1, 4)):
            x = self.random_step(k, x)
        stored = k.store(x)
        k.emit()
        return stored

    def random_step(self, k, x: Ref) -> Ref:
        shape = k.type(x).shape
        dims = len(shape) - 2
        channel = (shape[1], *(1,) * dims)
        match self.rng.randrange(13):
            case 0:
                return k.step(self.rng.choice(PLAIN), x)
            case 1:
                return k.step(self.rng.choice(SMOOTH), x, attributes=(1.0, 0.0))
            case 2:
                return k.step(self.rng.choice(["add", "sub", "mul", "max", "min"]), x,
                              self.b.constant(self.noise(*channel)))  # fmt: skip
            case 3:
                name = self.rng.choice(["reduce_mean", "reduce_sum", "reduce_max", "reduce_variance"])
                axes = sorted(self.rng.sample(range(1, len(shape)), self.rng.randint(1, len(shape) - 1)))
                return k.step("sub", x, k.step(name, x, attributes=(1, *axes)))
            case 4:
                mean = k.step("reduce_mean", x, attributes=(1, *range(2, len(shape))))
                centred = k.step("sub", x, mean)
                variance = k.step("reduce_variance", x, attributes=(1, *range(2, len(shape))))
                scale = k.step("sqrt", k.step("add", variance, self.b.constant(np.float32(0.01))))
                return k.step("div", centred, scale)
            case 5:
                axis = self.rng.randrange(2, len(shape))
                if shape[axis] > 16:
                    return x
                matrix = self.noise(self.rng.randint(1, 6), shape[axis]) * (self.np.random(shape[axis]) < 0.5)
                return k.step("axis_map", x, self.b.constant(matrix.astype(np.float32)), attributes=(axis,))
            case 6:
                if shape[-1] > 16:
                    return x
                return k.step("matmul", x, self.b.constant(self.noise(shape[-1], self.rng.randint(1, 4))))
            case 7:
                axis = self.rng.randrange(1, len(shape))
                indices = self.np.integers(-shape[axis], shape[axis], self.rng.randint(1, 5))
                return k.step("gather", x, self.b.constant(indices), attributes=(axis,))
            case 8:
                low = k.step("less", x, self.b.constant(np.float32(0)))
                return k.step("where", low, k.step("mul", x, x), x)
            case 9:
                size = [self.rng.randint(1, min(2, e)) for e in shape[2:]]
                attributes = (dims, *size, *[self.rng.randint(1, 2) for _ in size], *[0] * dims,
                              *[s - 1 for s in size], *[1] * dims, self.rng.randint(0, 1))  # fmt: skip
                return k.step(self.rng.choice(["pool_max", "pool_average"]), x, attributes=attributes)
            case 10:
                whole = k.step("cast", x, attributes=(self.rng.choice([6, 7, 3, 2]),))
                return k.step("cast", whole, attributes=(1,))
            case 11:
                return k.step("prelu", x, self.b.constant(np.abs(self.noise(*channel))))
            case _:
                return self.lookup(k, x)

    def build(self) -> Program:
        rng, b = self.rng, self.b
        spatial = [rng.randint(1, 5) for _ in range(self.spatial)]
        x = b.input((b.micro_batch, rng.randint(1, 6), *spatial))
        if rng.random() < 0.2:
            other = b.input(self.shape(x), batched=True)
            k = b.kernel()
            x = k.store(k.step("add", x, other))
            k.emit()
        layers = [self.conv] * 4 + [self.conv_transpose] * 3 + [self.dense] * 2 + [self.kernel] * 4
        layers += [self.padded, self.flipped, self.concatenated, self.swapped]
        for _ in range(rng.randint(1, 4)):
            layer = rng.choice(layers)
            if prod(self.shape(x)) > 400 and layer in (self.conv_transpose, self.concatenated, self.padded):
                layer = self.kernel
            previous, x = x, layer(x)
            if rng.random() < 0.15:
                b.output(previous)
        if rng.random() < 0.2:
            n, c, *rest = self.shape(x)
            x = b.alias(x, (n, c * prod(rest)))
        b.output(x)
        return b.build()


def random_program(rng: random.Random) -> Program:
    """A verified random program of one to four layers with real input and output."""
    return RandomProgram(rng).build()


def random_inputs(program: Program, rng: random.Random, samples: int) -> dict[str, np.ndarray]:
    """Noise for the inputs of a batched program, with a few large values."""
    generator = np.random.Generator(np.random.PCG64(rng.getrandbits(32)))
    arrays = {}
    for port in program.inputs:
        rows = port.shape[0] // program.entry.micro_batch
        noise = generator.standard_normal((samples * rows, *port.shape[1:]))
        noise *= generator.choice([1, 1, 1, 4], noise.shape)
        arrays[port.name] = noise.astype(port.dtype)
    return arrays


def plan_of(simulator):
    """The fast engine's plan of the entry for testing."""
    return simulator._run_of(simulator._tested).engine.plan
