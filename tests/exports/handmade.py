"""Whole tiny models in spellings that no exporter of ours gives, each with its counts made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .counts import FUSED, LAYERNORM, OTHER, PLAIN, RELU, RMSNORM, ROPE, SEPARATE, TANH, Counts

VOCABULARY, DIM, HEADS, SIZE, HIDDEN, LAYERS, LONGEST = 16, 24, 3, 8, 40, 2, 32
LOWEST = float(np.finfo(np.float32).min)
INT, REAL, BOOL = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
Value = onnx.ValueInfoProto


class Net:
    """Nodes and weights of a graph, by name; every method gives the name of what it adds."""

    def __init__(self, seed: int = 0, prefix: str = "") -> None:
        self.rng, self.prefix = np.random.default_rng(seed), prefix
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.count = 0

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{self.prefix}{stem}_{self.count}"

    def op(self, kind: str, *inputs: str, domain: str = "", name: str = "", **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, domain=domain, name=name, **attributes)[0]

    def ops(
        self, kind: str, outputs: int, *inputs: str, domain: str = "", name: str = "", **attributes: Any
    ) -> list[str]:
        name = name or self.fresh(kind.lower())
        made = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, made, name=f"n_{name}", domain=domain, **attributes))
        return made

    def const(self, value: Any, dtype: Any = None) -> str:
        if dtype is None and not isinstance(value, np.ndarray):
            dtype = np.float32 if isinstance(value, float) else np.int64
        return self.weight("c", np.asarray(value, dtype))

    def weight(self, stem: str, values: np.ndarray) -> str:
        name = self.fresh(stem)
        self.weights[name] = values
        return name

    def matrix(self, *shape: int, gain: float = 1.0, stem: str = "w") -> str:
        spread = gain / np.sqrt(shape[-2])
        return self.weight(stem, (spread * self.rng.standard_normal(shape)).astype(np.float32))

    def vector(self, size: int, mean: float = 0.0) -> str:
        return self.weight("v", (mean + 0.1 * self.rng.standard_normal(size)).astype(np.float32))

    def graph(self, inputs: Sequence[Value], outputs: Sequence[Value], name: str = "g") -> onnx.GraphProto:
        made = [numpy_helper.from_array(values, key) for key, values in self.weights.items()]
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), made)

    def model(
        self, inputs: Sequence[Value], outputs: Sequence[Value], opset: int = 18, **others: int
    ) -> onnx.ModelProto:
        imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(k, v) for k, v in others.items()]
        made = helper.make_model(self.graph(inputs, outputs), opset_imports=imports, ir_version=9)
        return made


IDS = helper.make_tensor_value_info("input_ids", INT, ["batch", "length"])
LOGITS = helper.make_tensor_value_info("logits", REAL, ["batch", "length", VOCABULARY])
MASK = helper.make_tensor_value_info("attention_mask", INT, ["batch", "length"])


# Pieces: each takes the net and a value, and gives a value


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


LAYER = 2 * LAYERNORM + SEPARATE + PLAIN + TANH
BASE = LAYERS * LAYER + LAYERNORM + OTHER


@dataclass
class Handmade:
    """A model, what must be found in it, and (when it is quantised) the real model it stands for."""

    make: Callable[[], onnx.ModelProto]
    counts: Counts
    reference: Callable[[], onnx.ModelProto] | None = None


def spelled(counts: Counts = BASE, inputs: Sequence[Value] = (IDS,), **changes: Any) -> Handmade:
    return Handmade(lambda: decoder(Spelling(**changes), inputs), counts)


PACKED = BASE - LAYERS * SEPARATE + LAYERS * FUSED

MODELS: dict[str, Handmade] = {
    "plain": spelled(),
    "no mask": spelled(attend=Attend(mask=no_mask, visible=None)),
    "padding mask": spelled(inputs=(IDS, MASK), attend=Attend(visible=padded)),
    "padding mask by multiplication": spelled(inputs=(IDS, MASK), attend=Attend(mask=multiplied_mask, visible=padded)),
    "sliding window": spelled(attend=Attend(visible=sliding)),
    "where after scale": spelled(attend=Attend(mask=where_mask)),
    "where before scale": spelled(attend=Attend(mask=where_mask, masked_first=True)),
    "bool mask with guard": spelled(attend=Attend(mask=where_mask, guard=True)),
    "scale before": spelled(attend=Attend(scale="before")),
    "scale split": spelled(attend=Attend(scale="split")),
    "scale divided": spelled(attend=Attend(scale="divided")),
    "scale absent": spelled(attend=Attend(scale="absent")),
    "soft cap": spelled(attend=Attend(cap=30.0)),
    "grouped queries": spelled(project=lambda n, x: separate(n, x, kv=1), kv=1),
    "packed split": spelled(PACKED, project=packed_split),
    "packed slice": spelled(PACKED, project=packed_slice),
    "packed gather": spelled(PACKED, project=packed_gather),
    "einsum": spelled(attend=einsum_attend, line=einsum_linear,
                      project=lambda n, x: separate(n, x, einsum_linear), feed=lambda n, x: mlp(n, x, einsum_linear)),
    "convolutions": spelled(line=conv_linear, project=lambda n, x: separate(n, x, conv_linear),
                            feed=lambda n, x: mlp(n, x, conv_linear)),
    "tensorflow": spelled(BASE - LAYERS * TANH + LAYERS * Counts(gelu_erf=1), norm=batchnorm_like, line=flat_linear,
                          project=lambda n, x: separate(n, x, flat_linear),
                          feed=lambda n, x: mlp(n, x, flat_linear, gelu_erf)),
    "gemm": spelled(line=gemm_linear, project=lambda n, x: separate(n, x, gemm_linear),
                    feed=lambda n, x: mlp(n, x, gemm_linear)),
    "bmm": spelled(attend=flat_attend),
    "rms norm": spelled(BASE - (2 * LAYERS + 1) * LAYERNORM + (2 * LAYERS + 1) * RMSNORM, norm=rms_norm),
    "gate and up in one": spelled(BASE - LAYERS * TANH + LAYERS * Counts(silu=1), feed=gated),
    "parallel residual": spelled(BASE - LAYERS * LAYERNORM, parallel=True),
    "experts": spelled(LAYERS * (2 * LAYERNORM + SEPARATE + Counts(linear=1, softmax=1) + 3 * (PLAIN + RELU))
                       + LAYERNORM + OTHER, feed=experts),
}  # fmt: skip


# Whole models in other words


def named(
    name: str, counts: Counts = BASE
) -> Callable[[Callable[[], onnx.ModelProto]], Callable[[], onnx.ModelProto]]:
    def declare(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
        MODELS[name] = Handmade(make, counts)
        return make

    return declare


@named("constants as nodes")
def constants_as_nodes() -> onnx.ModelProto:
    model = decoder()
    nodes = []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        kind = "float" if value.dtype == np.float32 else "int"
        attribute = {"value": tensor}
        if value.ndim == 0:
            attribute = {f"value_{kind}": value.item()}
        elif value.ndim == 1:
            attribute = {f"value_{kind}s": value.tolist()}
        nodes.append(helper.make_node("Constant", [], [tensor.name], **attribute))
    del model.graph.initializer[:]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@named("identities of initialisers")
def identities() -> onnx.ModelProto:
    model = decoder()
    nodes = []
    for tensor in model.graph.initializer:
        nodes.append(helper.make_node("Identity", [tensor.name], [f"{tensor.name}_copy"]))
        nodes.append(helper.make_node("Identity", [f"{tensor.name}_copy"], [f"{tensor.name}_again"]))
    for node in model.graph.node:
        initial = {tensor.name for tensor in model.graph.initializer}
        node.input[:] = [f"{i}_again" if i in initial else i for i in node.input]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@named("tied head")
def tied() -> onnx.ModelProto:
    n = Net()
    x = Spelling().body(n)
    table = next(name for name in n.weights if name.startswith("table"))
    n.op("MatMul", x, n.op("Transpose", table, perm=[1, 0]), name="logits")
    return n.model([IDS], [LOGITS])


@named("initialisers that are inputs")
def old_inputs() -> onnx.ModelProto:
    model = decoder()
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.ir_version = 3
    return model


@named("opset 11")
def opset_11() -> onnx.ModelProto:
    """Axes as attributes, softmax over the last axes together, LayerNorm spelled out."""
    n = Net()

    def norm(n: Net, x: str) -> str:
        apart = n.op("Sub", x, n.op("ReduceMean", x, axes=[-1]))
        spread = n.op("ReduceMean", n.op("Pow", apart, n.const(2.0)), axes=[-1])
        unit = n.op("Div", apart, n.op("Sqrt", n.op("Add", spread, n.const(1e-5))))
        return n.op("Add", n.op("Mul", unit, n.vector(DIM, 1)), n.vector(DIM))

    def attend(n: Net, q: str, k: str, v: str) -> str:
        place = positions(n)
        row, column = n.op("Unsqueeze", place, axes=[1]), n.op("Unsqueeze", place, axes=[0])
        hidden = n.op("Cast", n.op("Less", row, column), to=REAL)
        scores = n.op("Mul", n.op("MatMul", q, turned_keys(n, k)), n.const(SIZE**-0.5))
        scores = n.op("Add", scores, n.op("Mul", hidden, n.const(-10000.0)))
        return joined(n, n.op("MatMul", n.op("Dropout", n.op("Softmax", scores, axis=3), ratio=0.1), v))

    def project(n: Net, x: str) -> list[str]:
        parts = n.ops("Split", 3, linear(n, x, DIM, 3 * DIM), axis=2, split=[DIM] * 3)
        return [heads(n, n.op("Squeeze", n.op("Unsqueeze", part, axes=[0]), axes=[0])) for part in parts]

    head(n, Spelling(norm=norm, project=project, attend=attend).body(n))
    return n.model([IDS], [LOGITS], 11)


MODELS["opset 11"].counts = PACKED


def as_function(n: Net, name: str, inputs: list[str], output: str, **attributes: Any) -> onnx.FunctionProto:
    """The net's nodes as a function; its weights become Constant nodes inside."""
    constants = [
        helper.make_node("Constant", [], [key], value=numpy_helper.from_array(values, key))
        for key, values in n.weights.items()
    ]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    return helper.make_function(
        "local", name, inputs, [output], [*constants, *n.nodes], imports, **attributes
    )


@named("functions in functions")
def functions() -> onnx.ModelProto:
    """Every layer a function of its own, the norm a function with an attribute inside it."""
    inner = Net()
    node = helper.make_node("LayerNormalization", ["x", "gain", "shift"], ["y"], axis=-1)
    node.attribute.append(onnx.AttributeProto(name="epsilon", ref_attr_name="closeness", type=1))
    inner.nodes.append(node)
    made = [as_function(inner, "norm", ["x", "gain", "shift"], "y", attributes=["closeness"])]

    def norm(n: Net, x: str) -> str:
        return n.op("norm", x, n.vector(DIM, 1), n.vector(DIM), domain="local", closeness=1e-4)

    outer = Net()
    x = embed(outer)
    for i in range(LAYERS):
        n = Net(i + 1)
        result = Spelling(norm=norm).layer(n, "x")
        made.append(as_function(n, f"layer_{i}", ["x", "input_ids"], result))
        x = outer.op(f"layer_{i}", x, "input_ids", domain="local")
    head(outer, norm(outer, x))
    model = outer.model([IDS], [LOGITS], local=1)
    model.functions.extend(made)
    return model


def branch(spelling: Spelling, seed: int, output: str) -> onnx.GraphProto:
    n = Net(seed, f"{output}_")
    x = spelling.body(n)
    n.op("MatMul", x, n.matrix(DIM, VOCABULARY), name=output)
    return n.graph([], [helper.make_tensor_value_info(output, REAL, ["batch", "length", VOCABULARY])], output)


def choice(n: Net, condition: str, then: onnx.GraphProto, other: onnx.GraphProto) -> None:
    n.op("If", condition, name="logits", then_branch=then, else_branch=other)


@named("a branch that is always taken")
def constant_if() -> onnx.ModelProto:
    n = Net()
    choice(n, n.const(np.asarray(False)), branch(Spelling(), 1, "a"), branch(Spelling(), 2, "b"))
    return n.model([IDS], [LOGITS])


@named("a branch by length", BASE - LAYERS * LAYERNORM - LAYERS * SEPARATE + LAYERS * (LAYERNORM + SEPARATE))
def dynamic_if() -> onnx.ModelProto:
    """The branch for short inputs has no mlp norm: the larger one counts."""
    n = Net()
    short = branch(Spelling(parallel=True), 1, "a")
    choice(n, n.op("Less", length_of(n), n.const(4)), short, branch(Spelling(), 2, "b"))
    return n.model([IDS], [LOGITS])


def shared_layer(trips: str | int) -> onnx.ModelProto:
    """One layer, run over and over."""
    n, inner = Net(), Net(1, "inner_")
    x = embed(n)
    result = Spelling().layer(inner, "x_in")
    inner.op("Identity", "going", name="goes_on")
    value = helper.make_tensor_value_info
    shape = ["batch", "length", DIM]
    body = inner.graph(
        [value("trip", INT, []), value("going", BOOL, []), value("x_in", REAL, shape)],
        [value("goes_on", BOOL, []), value(result, REAL, shape)],
        "body",
    )
    count = n.const(trips) if isinstance(trips, int) else trips
    x = n.op("Loop", count, n.const(np.asarray(True)), x, body=body)
    head(n, layer_norm(n, x))
    return n.model([IDS], [LOGITS])


MODELS["a layer three times"] = Handmade(lambda: shared_layer(3), 3 * LAYER + LAYERNORM + OTHER)


@named("a layer as often as tokens", LAYER + LAYERNORM + OTHER)
def open_loop() -> onnx.ModelProto:
    model = shared_layer("count")
    model.graph.node.insert(0, helper.make_node("Size", ["input_ids"], ["count"]))
    return model


@named("layers scanned from stacks", 2 * (LAYERNORM + PLAIN + RELU) + LAYERS * LAYER + LAYERNORM + OTHER)
def scanned() -> onnx.ModelProto:
    """After the decoder's layers, two feed-forward layers whose weights are stacked, as jax writes them."""
    n, inner = Net(), Net(1, "inner_")
    x = embed(n)
    for _ in range(LAYERS):
        x = Spelling().layer(n, x)
    stacks = [
        n.matrix(2, DIM, HIDDEN), n.matrix(2, HIDDEN, DIM),
        n.weight("gain", np.ones((2, DIM), np.float32)), n.weight("shift", np.zeros((2, DIM), np.float32)),
    ]  # fmt: skip
    h = inner.op("LayerNormalization", "x_in", "gain_t", "shift_t", axis=-1)
    h = inner.op("MatMul", inner.op("Relu", inner.op("MatMul", h, "up_t")), "down_t")
    inner.op("Add", "x_in", h, name="x_out")
    value, shape = helper.make_tensor_value_info, ["batch", "length", DIM]
    given = [("up_t", [DIM, HIDDEN]), ("down_t", [HIDDEN, DIM]), ("gain_t", [DIM]), ("shift_t", [DIM])]
    body = inner.graph(
        [value("x_in", REAL, shape), *(value(name, REAL, size) for name, size in given)],
        [value("x_out", REAL, shape)],
        "body",
    )
    x = n.op("Scan", x, *stacks, body=body, num_scan_inputs=4)
    head(n, layer_norm(n, x))
    return n.model([IDS], [LOGITS])


@named("merged decoder")
def merged() -> onnx.ModelProto:
    """With a cache or without, as a boolean input says; both branches give the keys and values."""
    value = helper.make_tensor_value_info
    parts = [f"{kind}.{i}" for i in range(LAYERS) for kind in ("key", "value")]

    def whole(output: str, cached: bool) -> onnx.GraphProto:
        n = Net(1, f"{output}_")
        given = iter(parts)
        presents: list[str] = []

        def attend(n: Net, q: str, k: str, v: str) -> str:
            pair = []
            for t in (k, v):
                name = next(given)
                kept = n.op("Concat", f"past.{name}", t, axis=2) if cached else n.op("Identity", t)
                presents.append(kept)
                pair.append(kept)
            return Attend(mask=no_mask, visible=None)(n, q, *pair)

        x = Spelling(attend=attend).body(n)
        n.op("MatMul", x, n.matrix(DIM, VOCABULARY), name=output)
        caches = [value(name, REAL, ["batch", HEADS, "total", SIZE]) for name in presents]
        return n.graph([], [value(output, REAL, ["batch", "length", VOCABULARY]), *caches], output)

    n = Net()
    n.nodes.append(
        helper.make_node(
            "If",
            ["use_cache_branch"],
            ["logits", *(f"present.{name}" for name in parts)],
            name="choice",
            then_branch=whole("a", True),
            else_branch=whole("b", False),
        )  # fmt: skip
    )
    pasts = [value(f"past.{name}", REAL, ["batch", HEADS, "past", SIZE]) for name in parts]
    presents = [value(f"present.{name}", REAL, ["batch", HEADS, "total", SIZE]) for name in parts]
    flag = value("use_cache_branch", BOOL, [1])
    return n.model([IDS, *pasts, flag], [LOGITS, *presents])


@named("additive mask from outside")
def given_mask() -> onnx.ModelProto:
    mask = helper.make_tensor_value_info("mask", REAL, ["batch", 1, "length", "length"])
    n = Net()
    attend = Attend(mask=lambda n, scores, visible: n.op("Add", scores, "mask"), visible=None)
    head(n, Spelling(attend=attend).body(n))
    return n.model([IDS, mask], [LOGITS])


@named("rotary", LAYERS * (LAYER + ROPE) + LAYERNORM + OTHER)
def rotary() -> onnx.ModelProto:
    n = Net()
    time = n.op("Unsqueeze", n.op("Cast", positions(n), to=REAL), n.const([1]))
    angle = n.op(
        "Mul", time, n.weight("speed", (100.0 ** -np.linspace(0, 1, SIZE // 2))[None].astype(np.float32))
    )
    angles = n.op("Concat", angle, angle, axis=-1)
    cos, sin = n.op("Cos", angles), n.op("Sin", angles)

    def turn(n: Net, x: str) -> str:
        low, high = n.ops("Split", 2, x, n.const([SIZE // 2] * 2), axis=-1)
        turned = n.op("Concat", n.op("Neg", high), low, axis=-1)
        return n.op("Add", n.op("Mul", x, cos), n.op("Mul", turned, sin))

    def attend(n: Net, q: str, k: str, v: str) -> str:
        return Attend()(n, turn(n, q), turn(n, k), v)

    head(n, Spelling(attend=attend).body(n))
    return n.model([IDS], [LOGITS])


# Quantised: the same model with integers in it, and the real one it stands for


def rounded(bits: int = 8) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Symmetric steps and scale of every column."""

    def apply(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        top = 2 ** (bits - 1) - 1
        scale = (np.abs(values).max(axis=0) / top).astype(np.float32)
        return np.clip(np.rint(values / scale), -top, top).astype(np.int8), scale

    return apply


def requantised(
    how: Callable[[onnx.NodeProto, np.ndarray, onnx.ModelProto], list[onnx.NodeProto]],
) -> onnx.ModelProto:
    """Every product with constant weights as `how` writes it."""
    model = decoder()
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        weighs = node.op_type == "MatMul" and node.input[1] in arrays
        nodes += how(node, arrays[node.input[1]], model) if weighs else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def give(model: onnx.ModelProto, **weights: np.ndarray) -> list[str]:
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in weights.items())
    return list(weights)


def real(node: onnx.NodeProto, values: np.ndarray, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    steps, scale = rounded()(values)
    give(model, **{f"{node.name}.w": steps.astype(np.float32) * scale})
    return [helper.make_node("MatMul", [node.input[0], f"{node.name}.w"], node.output, name=node.name)]


def qdq(node: onnx.NodeProto, values: np.ndarray, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    steps, scale = rounded()(values)
    p = node.name
    x = [node.input[0], *give(model, **{f"{p}.xs": np.float32(0.05), f"{p}.xz": np.uint8(128)})]
    w = give(model, **{f"{p}.w": steps, f"{p}.ws": scale, f"{p}.wz": np.zeros(len(scale), np.int8)})
    return [
        helper.make_node("QuantizeLinear", x, [f"{p}.q"], name=f"{p}.Q"),
        helper.make_node("DequantizeLinear", [f"{p}.q", *x[1:]], [f"{p}.x"], name=f"{p}.DQ"),
        helper.make_node("DequantizeLinear", w, [f"{p}.d"], name=f"{p}.DW", axis=1),
        helper.make_node("MatMul", [f"{p}.x", f"{p}.d"], node.output, name=p),
    ]


def as_it_comes(node: onnx.NodeProto, values: np.ndarray, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """What dynamic quantisation writes; per column."""
    steps, scale = rounded()(values)
    p = node.name
    give(model, **{f"{p}.w": steps, f"{p}.ws": scale})
    return [
        helper.make_node(
            "DynamicQuantizeLinear", [node.input[0]], [f"{p}.q", f"{p}.s", f"{p}.z"], name=f"{p}.D"
        ),
        helper.make_node("MatMulInteger", [f"{p}.q", f"{p}.w", f"{p}.z"], [f"{p}.i"], name=f"{p}.M"),
        helper.make_node("Cast", [f"{p}.i"], [f"{p}.r"], name=f"{p}.C", to=REAL),
        helper.make_node("Mul", [f"{p}.s", f"{p}.ws"], [f"{p}.t"], name=f"{p}.S"),
        helper.make_node("Mul", [f"{p}.r", f"{p}.t"], node.output, name=p),
    ]


def in_blocks(node: onnx.NodeProto, values: np.ndarray, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Four bits, blocks of 16 inputs, with zero points."""
    fan_in, fan_out, block, p = *values.shape, 16, node.name
    count = -(-fan_in // block)
    padded = np.zeros((fan_out, count * block), np.float32)
    padded[:, :fan_in] = values.T
    groups = padded.reshape(fan_out, count, block)
    low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
    scale = ((high - low) / 15).astype(np.float32)
    zero = np.rint(-low / scale).astype(np.uint8)
    steps = np.clip(np.rint(groups / scale[..., None]) + zero[..., None], 0, 15).astype(np.uint8)
    zeros = np.pad(zero, ((0, 0), (0, count % 2)))
    give(
        model,
        **{
            f"{p}.w": steps[..., 0::2] | steps[..., 1::2] << 4,
            f"{p}.s": scale.reshape(-1),
            f"{p}.z": (zeros[:, 0::2] | zeros[:, 1::2] << 4).reshape(-1),
        },
    )
    inputs = [node.input[0], f"{p}.w", f"{p}.s", f"{p}.z"]
    attributes = {"K": fan_in, "N": fan_out, "bits": 4, "block_size": block}
    return [
        helper.make_node("MatMulNBits", inputs, node.output, name=p, domain="com.microsoft", **attributes)
    ]


MODELS["quantised with scales in the file"] = Handmade(
    lambda: requantised(qdq), BASE, lambda: requantised(real)
)
MODELS["quantised as it comes"] = Handmade(lambda: requantised(as_it_comes), BASE, lambda: requantised(real))
MODELS["four bits in blocks"] = Handmade(lambda: requantised(in_blocks), BASE)
