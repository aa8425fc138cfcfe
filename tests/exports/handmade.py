"""Whole tiny models in spellings that no exporter of ours gives, each with its counts made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from . import integers
from .counts import FUSED, LAYERNORM, OTHER, PLAIN, RELU, RMSNORM, ROPE, SEPARATE, TANH, Counts
from .net import (
    BOOL,
    DIM,
    HEADS,
    HIDDEN,
    IDS,
    INT,
    LAYERS,
    LOGITS,
    MASK,
    REAL,
    SIZE,
    VOCABULARY,
    Net,
    Value,
)
from .pieces import (
    Attend,
    Spelling,
    batchnorm_like,
    conv_linear,
    decoder,
    einsum_attend,
    einsum_linear,
    embed,
    experts,
    flat_attend,
    flat_linear,
    gated,
    gelu_erf,
    gemm_linear,
    head,
    heads,
    joined,
    layer_norm,
    length_of,
    linear,
    mlp,
    multiplied_mask,
    no_mask,
    packed_gather,
    packed_slice,
    packed_split,
    padded,
    positions,
    rms_norm,
    separate,
    sliding,
    turned_keys,
    where_mask,
)

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
    "padding mask by multiplication": spelled(
        inputs=(IDS, MASK), attend=Attend(mask=multiplied_mask, visible=padded)),
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
                      project=lambda n, x: separate(n, x, einsum_linear),
                      feed=lambda n, x: mlp(n, x, einsum_linear)),
    "convolutions": spelled(line=conv_linear, project=lambda n, x: separate(n, x, conv_linear),
                            feed=lambda n, x: mlp(n, x, conv_linear)),
    "tensorflow": spelled(BASE - LAYERS * TANH + LAYERS * Counts(gelu_erf=1),
                          norm=batchnorm_like, line=flat_linear,
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
        )
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


def with_integers(how: integers.Writing) -> Callable[[], onnx.ModelProto]:
    return lambda: integers.requantised(decoder(), how)


for name, how in {"with scales in the file": integers.qdq, "as it comes": integers.as_it_comes}.items():
    MODELS[f"quantised {name}"] = Handmade(with_integers(how), BASE, with_integers(integers.real))
MODELS["four bits in blocks"] = Handmade(with_integers(integers.in_blocks), BASE)
