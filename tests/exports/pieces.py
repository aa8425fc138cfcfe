"""The parts of a decoder in every spelling: each takes the net and a value, and gives a value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from .net import (
    BOOL,
    DIM,
    HEADS,
    HIDDEN,
    IDS,
    LAYERS,
    LOGITS,
    LONGEST,
    LOWEST,
    REAL,
    SIZE,
    VOCABULARY,
    Net,
    Value,
)


def embed(n: Net) -> str:
    table = n.matrix(VOCABULARY, DIM, gain=4, stem="table")
    places = n.matrix(LONGEST, DIM, gain=3, stem="places")
    return n.op("Add", n.op("Gather", table, "input_ids"), n.op("Gather", places, positions(n)))


def length_of(n: Net) -> str:
    return n.op("Gather", n.op("Shape", "input_ids"), n.const(1))


def positions(n: Net) -> str:
    return n.op("Range", n.const(0), length_of(n), n.const(1))


def layer_norm(n: Net, x: str) -> str:
    return n.op("LayerNormalization", x, n.vector(DIM, 1), n.vector(DIM), axis=-1)


def rms_norm(n: Net, x: str) -> str:
    square = n.op("ReduceMean", n.op("Mul", x, x), n.const([-1]))
    root = n.op("Sqrt", n.op("Add", square, n.const(1e-6)))
    return n.op("Mul", n.op("Div", x, root), n.vector(DIM, 1))


def batchnorm_like(n: Net, x: str) -> str:
    """As TensorFlow spells layer normalisation: x·s + (shift - mean·s)."""
    mean = n.op("ReduceMean", x, n.const([-1]))
    apart = n.op("Sub", x, mean)
    spread = n.op("ReduceMean", n.op("Mul", apart, apart), n.const([-1]))
    inverse = n.op("Pow", n.op("Add", spread, n.const(1e-6)), n.const(-0.5))
    scale = n.op("Mul", inverse, n.vector(DIM, 1))
    return n.op("Add", n.op("Mul", x, scale), n.op("Sub", n.vector(DIM), n.op("Mul", mean, scale)))


def linear(n: Net, x: str, fan_in: int, fan_out: int) -> str:
    return n.op("Add", n.op("MatMul", x, n.matrix(fan_in, fan_out)), n.vector(fan_out))


def einsum_linear(n: Net, x: str, fan_in: int, fan_out: int) -> str:
    return n.op(
        "Add", n.op("Einsum", x, n.matrix(fan_in, fan_out), equation="bld,de->ble"), n.vector(fan_out)
    )


def conv_linear(n: Net, x: str, fan_in: int, fan_out: int) -> str:
    """A convolution over one position is a linear layer."""
    weight = n.weight("w", (n.rng.standard_normal((fan_out, fan_in, 1)) / np.sqrt(fan_in)).astype(np.float32))
    turned = n.op("Transpose", x, perm=[0, 2, 1])
    return n.op(
        "Transpose", n.op("Conv", turned, weight, n.vector(fan_out), kernel_shape=[1]), perm=[0, 2, 1]
    )


def flat_linear(n: Net, x: str, fan_in: int, fan_out: int) -> str:
    """On rows, as TensorFlow does: reshaped to two dimensions and back."""
    flat = n.op("Reshape", x, n.const([-1, fan_in]))
    product = n.op("Add", n.op("MatMul", flat, n.matrix(fan_in, fan_out)), n.vector(fan_out))
    shape = n.op("Slice", n.op("Shape", x), n.const([0]), n.const([2]))
    return n.op("Reshape", product, n.op("Concat", shape, n.const([fan_out]), axis=0))


def gemm_linear(n: Net, x: str, fan_in: int, fan_out: int) -> str:
    flat = n.op("Reshape", x, n.const([-1, fan_in]))
    weight = n.weight("w", (n.rng.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in)).astype(np.float32))
    product = n.op("Gemm", flat, weight, n.vector(fan_out), transB=1)
    shape = n.op("Slice", n.op("Shape", x), n.const([0]), n.const([2]))
    return n.op("Reshape", product, n.op("Concat", shape, n.const([fan_out]), axis=0))


def heads(n: Net, x: str, count: int = HEADS, perm: Sequence[int] = (0, 2, 1, 3)) -> str:
    return n.op("Transpose", n.op("Reshape", x, n.const([0, 0, count, SIZE])), perm=list(perm))


def joined(n: Net, x: str) -> str:
    return n.op("Reshape", n.op("Transpose", x, perm=[0, 2, 1, 3]), n.const([0, 0, DIM]))


Linear = Callable[[Net, str, int, int], str]


def separate(n: Net, x: str, line: Linear = linear, kv: int = HEADS) -> list[str]:
    return [heads(n, line(n, x, DIM, count * SIZE), count) for count in (HEADS, kv, kv)]


def packed_split(n: Net, x: str) -> list[str]:
    parts = n.ops("Split", 3, linear(n, x, DIM, 3 * DIM), n.const([DIM] * 3), axis=-1)
    return [heads(n, part) for part in parts]


def packed_slice(n: Net, x: str) -> list[str]:
    whole = linear(n, x, DIM, 3 * DIM)
    cuts = [(i * DIM, (i + 1) * DIM) for i in range(3)]
    return [heads(n, n.op("Slice", whole, n.const([a]), n.const([b]), n.const([-1]))) for a, b in cuts]


def packed_gather(n: Net, x: str) -> list[str]:
    whole = n.op("Reshape", linear(n, x, DIM, 3 * DIM), n.const([0, 0, 3, HEADS, SIZE]))
    turned = n.op("Transpose", whole, perm=[2, 0, 3, 1, 4])
    return [n.op("Gather", turned, n.const(i), axis=0) for i in range(3)]


def shared_heads(n: Net, x: str, kv: int) -> str:
    """Keys or values of `kv` heads, each for several queries."""
    apart = n.op("Unsqueeze", x, n.const([2]))
    copies = n.op("Expand", apart, n.const([1, 1, HEADS // kv, 1, 1]))
    return n.op("Reshape", copies, n.const([0, HEADS, -1, SIZE]))


def turned_keys(n: Net, k: str) -> str:
    return n.op("Transpose", k, perm=[0, 1, 3, 2])


def causal(n: Net) -> str:
    """True where a position may be looked at."""
    place = positions(n)
    row, column = n.op("Unsqueeze", place, n.const([1])), n.op("Unsqueeze", place, n.const([0]))
    return n.op("LessOrEqual", column, row)


def sliding(n: Net) -> str:
    place = positions(n)
    row, column = n.op("Unsqueeze", place, n.const([1])), n.op("Unsqueeze", place, n.const([0]))
    near = n.op("Less", n.op("Sub", row, column), n.const(3))
    return n.op("And", near, n.op("LessOrEqual", column, row))


def padded(n: Net) -> str:
    kept = n.op("Unsqueeze", "attention_mask", n.const([1, 2]))
    return n.op("Cast", kept, to=BOOL)


def add_mask(n: Net, scores: str, visible: str) -> str:
    return n.op("Add", scores, n.op("Where", visible, n.const(0.0), n.const(LOWEST)))


def where_mask(n: Net, scores: str, visible: str) -> str:
    return n.op("Where", visible, scores, n.const(LOWEST))


def multiplied_mask(n: Net, scores: str, visible: str) -> str:
    """1 - mask, times the lowest number, added."""
    hidden = n.op("Sub", n.const(1.0), n.op("Cast", visible, to=REAL))
    return n.op("Add", scores, n.op("Mul", hidden, n.const(-10000.0)))


def no_mask(n: Net, scores: str, visible: str) -> str:
    return scores


Mask = Callable[[Net, str, str], str]


@dataclass
class Attend:
    """Softmax attention of `q`, `k`, `v`, with its scale and mask wherever they stand."""

    scale: str = "after"
    mask: Mask = add_mask
    visible: Callable[[Net], str] | None = causal
    guard: bool = False
    masked_first: bool = False
    cap: float = 0

    def __call__(self, n: Net, q: str, k: str, v: str) -> str:
        factor = SIZE**-0.5
        if self.scale == "before":
            q = n.op("Mul", q, n.const(factor))
        if self.scale == "split":
            q, k = (n.op("Mul", t, n.const(float(factor**0.5))) for t in (q, k))
        scores = n.op("MatMul", q, turned_keys(n, k))
        if self.masked_first:
            scores = self._masked(n, scores)
        if self.scale == "after":
            scores = n.op("Mul", scores, n.const(factor))
        if self.scale == "divided":
            scores = n.op("Div", scores, n.const(SIZE**0.5))
        if self.cap:
            scores = n.op("Mul", n.op("Tanh", n.op("Div", scores, n.const(self.cap))), n.const(self.cap))
        if not self.masked_first:
            scores = self._masked(n, scores)
        weights = n.op("Softmax", scores, axis=-1)
        if self.guard:
            weights = n.op("Where", n.op("IsNaN", weights), n.const(0.0), weights)
        return joined(n, n.op("MatMul", weights, v))

    def _masked(self, n: Net, scores: str) -> str:
        return self.mask(n, scores, self.visible(n) if self.visible else "")


def einsum_attend(n: Net, q: str, k: str, v: str) -> str:
    scores = n.op("Mul", n.op("Einsum", q, k, equation="bhqd,bhkd->bhqk"), n.const(SIZE**-0.5))
    weights = n.op("Softmax", add_mask(n, scores, causal(n)), axis=-1)
    return joined(n, n.op("Einsum", weights, v, equation="bhqk,bhkd->bhqd"))


def flat_attend(n: Net, q: str, k: str, v: str) -> str:
    """Batch and heads as one dimension, as bmm takes them."""
    q, k, v = (n.op("Reshape", t, n.op("Concat", n.const([-1]), n.op("Unsqueeze", length_of(n), n.const([0])),
                                       n.const([SIZE]), axis=0)) for t in (q, k, v))  # fmt: skip
    scores = n.op("Mul", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 2, 1])), n.const(SIZE**-0.5))
    weights = n.op("Softmax", add_mask(n, scores, causal(n)), axis=-1)
    back = n.op(
        "Concat", n.const([-1, HEADS]), n.op("Unsqueeze", length_of(n), n.const([0])), n.const([SIZE]), axis=0
    )
    return joined(n, n.op("Reshape", n.op("MatMul", weights, v), back))


def gelu_tanh(n: Net, x: str) -> str:
    cube = n.op("Mul", n.op("Mul", x, x), x)
    inner = n.op(
        "Mul", n.op("Add", x, n.op("Mul", cube, n.const(0.044715))), n.const(float(np.sqrt(2 / np.pi)))
    )
    return n.op("Mul", n.op("Mul", x, n.const(0.5)), n.op("Add", n.op("Tanh", inner), n.const(1.0)))


def gelu_erf(n: Net, x: str) -> str:
    shifted = n.op("Add", n.op("Erf", n.op("Mul", x, n.const(float(2**-0.5)))), n.const(1.0))
    return n.op("Mul", n.op("Mul", shifted, n.const(0.5)), x)


def relu(n: Net, x: str) -> str:
    return n.op("Relu", x)


def mlp(n: Net, x: str, line: Linear = linear, act: Callable[[Net, str], str] = gelu_tanh) -> str:
    return line(n, act(n, line(n, x, DIM, HIDDEN)), HIDDEN, DIM)


def gated(n: Net, x: str) -> str:
    """Gate and up in one product."""
    gate, up = n.ops("Split", 2, linear(n, x, DIM, 2 * HIDDEN), n.const([HIDDEN] * 2), axis=-1)
    return linear(n, n.op("Mul", n.op("Mul", gate, n.op("Sigmoid", gate)), up), HIDDEN, DIM)


def experts(n: Net, x: str) -> str:
    """Three experts, all computed, mixed by a softmax router."""
    shares = n.op("Softmax", n.op("MatMul", x, n.matrix(DIM, 3)), axis=-1)
    mixed = ""
    for i in range(3):
        share = n.op("Slice", shares, n.const([i]), n.const([i + 1]), n.const([-1]))
        part = n.op("Mul", mlp(n, x, act=relu), share)
        mixed = part if not mixed else n.op("Add", mixed, part)
    return mixed


@dataclass
class Spelling:
    """How the layers of a decoder are spelled."""

    norm: Callable[[Net, str], str] = layer_norm
    project: Callable[[Net, str], list[str]] = separate
    kv: int = HEADS
    attend: Callable[[Net, str, str, str], str] = field(default_factory=Attend)
    line: Linear = linear
    feed: Callable[[Net, str], str] = mlp
    parallel: bool = False

    def layer(self, n: Net, x: str) -> str:
        h = self.norm(n, x)
        q, k, v = self.project(n, h)
        if self.kv < HEADS:
            k, v = (shared_heads(n, t, self.kv) for t in (k, v))
        attended = self.line(n, self.attend(n, q, k, v), DIM, DIM)
        if self.parallel:
            return n.op("Add", n.op("Add", attended, self.feed(n, h)), x)
        x = n.op("Add", x, attended)
        return n.op("Add", x, self.feed(n, self.norm(n, x)))

    def body(self, n: Net) -> str:
        x = embed(n)
        for _ in range(LAYERS):
            x = self.layer(n, x)
        return self.norm(n, x)


def head(n: Net, x: str) -> None:
    n.op("MatMul", x, n.matrix(DIM, VOCABULARY), name="logits")


def decoder(spelling: Spelling | None = None, inputs: Sequence[Value] = (IDS,)) -> onnx.ModelProto:
    n = Net()
    head(n, (spelling or Spelling()).body(n))
    return n.model(inputs, [LOGITS])
