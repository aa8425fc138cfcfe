"""Tiny transformers with seeded random weights, node by node as exporters spell them: no torch needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import parser
from tokenizers import Tokenizer, models, pre_tokenizers

VOCABULARY = 96
DIM, HEADS, HEAD_DIM, HIDDEN, LAYERS = 32, 4, 8, 48, 2
LONGEST = 64


class Weights:
    """Named initialisers; a matrix's spread keeps activations near one."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.arrays: dict[str, np.ndarray] = {}

    def matrix(self, name: str, fan_in: int, fan_out: int, gain: float = 1.0) -> str:
        spread = gain / np.sqrt(fan_in)
        return self.add(name, (spread * self.rng.standard_normal((fan_in, fan_out))).astype(np.float32))

    def vector(self, name: str, size: int, mean: float) -> str:
        return self.add(name, (mean + 0.1 * self.rng.standard_normal(size)).astype(np.float32))

    def add(self, name: str, values: np.ndarray | float | list[int]) -> str:
        dtype = (
            None if isinstance(values, np.ndarray) else np.float32 if isinstance(values, float) else np.int64
        )
        self.arrays[name] = np.asarray(values, dtype)
        return name


def build(inputs: str, output: str, body: str, weights: Weights) -> onnx.ModelProto:
    """The model of an ONNX text, with its weights and inferred shapes."""
    header = '<ir_version: 9, opset_import: ["": 18]>'
    model = parser.parse_model(f"{header} tiny ({inputs}) => ({output}) {{ {body} }}")
    for name, values in weights.arrays.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def common(w: Weights) -> None:
    for name, value in {
        "zero": 0,
        "one": 1,
        "axis_0": [0],
        "axis_1": [1],
        "axis_2": [2],
        "last": [-1],
    }.items():
        w.add(name, np.asarray(value, np.int64))
    w.add("split", [0, 0, HEADS, HEAD_DIM])
    w.add("joined", [0, 0, HEADS * HEAD_DIM])
    w.add("score_scale", float(HEAD_DIM**-0.5))


def attention(p: str, q: str, k: str, v: str, mask: str) -> str:
    """`[batch, heads, length, head size]` three times to `{p}_context` `[batch, length, dim]`."""
    return f"""
        {p}_turned = Transpose <perm = [0, 1, 3, 2]> ({k})
        {p}_raw = MatMul ({q}, {p}_turned)
        {p}_scaled = Mul ({p}_raw, score_scale)
        {p}_scores = Add ({p}_scaled, {mask})
        {p}_attention = Softmax <axis = -1> ({p}_scores)
        {p}_mixed = MatMul ({p}_attention, {v})
        {p}_back = Transpose <perm = [0, 2, 1, 3]> ({p}_mixed)
        {p}_context = Reshape ({p}_back, joined)"""


def heads(name: str, source: str, split: str = "split") -> str:
    return f"""
        {name}_split = Reshape ({source}, {split})
        {name} = Transpose <perm = [0, 2, 1, 3]> ({name}_split)"""


def llama(seed: int = 0, kv_heads: int = HEADS) -> onnx.ModelProto:
    """input_ids -> logits: RMSNorm spelled out, RoPE, causal mask, grouped-query attention, SiLU gate."""
    w = Weights(seed)
    common(w)
    w.add("kv_split", [0, 0, kv_heads, HEAD_DIM])
    w.add("kv_repeat", [1, 1, HEADS // kv_heads, 1, 1])
    w.add("kv_joined", [0, HEADS, -1, HEAD_DIM])
    w.add("lowest", float(np.finfo(np.float32).min))
    w.add("nothing", 0.0)
    w.add("two", 2.0)
    w.add("epsilon", 1e-5)
    w.add("half", [HEAD_DIM // 2])
    w.add("end", [HEAD_DIM])
    w.add("frequency", (100.0 ** -np.linspace(0, 1, HEAD_DIM // 2))[None].astype(np.float32))
    w.matrix("table", VOCABULARY, DIM, gain=VOCABULARY**0.5)
    body = """
        dims = Shape (input_ids)
        length = Gather <axis = 0> (dims, one)
        position = Range (zero, length, one)
        row = Unsqueeze (position, axis_1)
        column = Unsqueeze (position, axis_0)
        visible = LessOrEqual (column, row)
        mask = Where (visible, nothing, lowest)
        time = Cast <to = 1> (row)
        angle = Mul (time, frequency)
        angles = Concat <axis = -1> (angle, angle)
        cos = Cos (angles)
        sin = Sin (angles)
        x0 = Gather <axis = 0> (table, input_ids)"""

    def rms_norm(name: str, source: str) -> str:
        w.vector(f"{name}_gain", DIM, 1.0)
        return f"""
        {name}_square = Pow ({source}, two)
        {name}_mean = ReduceMean <keepdims = 1> ({name}_square, last)
        {name}_safe = Add ({name}_mean, epsilon)
        {name}_root = Sqrt ({name}_safe)
        {name}_inverse = Reciprocal ({name}_root)
        {name}_unit = Mul ({source}, {name}_inverse)
        {name} = Mul ({name}_gain, {name}_unit)"""

    def rope(name: str, source: str) -> str:
        return f"""
        {name}_low = Slice ({source}, axis_0, half, last)
        {name}_high = Slice ({source}, half, end, last)
        {name}_negative = Neg ({name}_high)
        {name}_rotated = Concat <axis = -1> ({name}_negative, {name}_low)
        {name}_straight = Mul ({source}, cos)
        {name}_turned = Mul ({name}_rotated, sin)
        {name} = Add ({name}_straight, {name}_turned)"""

    def shared(name: str, source: str) -> str:
        """Each key or value head serves several query heads."""
        return f"""
        {name}_apart = Unsqueeze ({source}, axis_2)
        {name}_copies = Expand ({name}_apart, kv_repeat)
        {name} = Reshape ({name}_copies, kv_joined)"""

    for i in range(LAYERS):
        p, x, y = f"l{i}", f"x{i}", f"x{i + 1}"
        for name, fan_out in (("q", DIM), ("k", kv_heads * HEAD_DIM), ("v", kv_heads * HEAD_DIM)):
            w.matrix(f"{p}_w{name}", DIM, fan_out, gain=1.5)
        for name, shape in (
            ("o", (DIM, DIM)),
            ("gate", (DIM, HIDDEN)),
            ("up", (DIM, HIDDEN)),
            ("down", (HIDDEN, DIM)),
        ):
            w.matrix(f"{p}_w{name}", *shape)
        body += rms_norm(f"{p}_n", x)
        body += "".join(f"\n        {p}_{a} = MatMul ({p}_n, {p}_w{a})" for a in "qkv")
        body += (
            heads(f"{p}_qh", f"{p}_q")
            + heads(f"{p}_kh", f"{p}_k", "kv_split")
            + heads(f"{p}_vh", f"{p}_v", "kv_split")
        )
        body += (
            rope(f"{p}_qr", f"{p}_qh")
            + rope(f"{p}_kr", f"{p}_kh")
            + shared(f"{p}_ks", f"{p}_kr")
            + shared(f"{p}_vs", f"{p}_vh")
        )
        body += attention(p, f"{p}_qr", f"{p}_ks", f"{p}_vs", "mask")
        body += f"""
        {p}_o = MatMul ({p}_context, {p}_wo)
        {p}_x = Add ({x}, {p}_o)"""
        body += rms_norm(f"{p}_m", f"{p}_x")
        body += f"""
        {p}_gate = MatMul ({p}_m, {p}_wgate)
        {p}_sigmoid = Sigmoid ({p}_gate)
        {p}_silu = Mul ({p}_gate, {p}_sigmoid)
        {p}_up = MatMul ({p}_m, {p}_wup)
        {p}_gated = Mul ({p}_silu, {p}_up)
        {p}_down = MatMul ({p}_gated, {p}_wdown)
        {y} = Add ({p}_x, {p}_down)"""
    body += rms_norm("final", f"x{LAYERS}")
    w.matrix("head", DIM, VOCABULARY, gain=2.0)
    body += "\n        logits = MatMul (final, head)"
    return build("int64[batch, length] input_ids", f"float[batch, length, {VOCABULARY}] logits", body, w)


def bert(seed: int = 0) -> onnx.ModelProto:
    """input_ids, attention_mask -> hidden: learned positions, LayerNorm after sums, biases, erf-GELU."""
    w = Weights(seed)
    common(w)
    for name, value in {
        "full": 1.0,
        "lowest": float(np.finfo(np.float32).min),
        "root_2": 2**0.5,
        "half": 0.5,
    }.items():
        w.add(name, value)
    w.matrix("table", VOCABULARY, DIM, gain=VOCABULARY**0.5)
    w.matrix("positions", LONGEST, DIM, gain=LONGEST**0.5)
    body = """
        dims = Shape (input_ids)
        length = Gather <axis = 0> (dims, one)
        range = Range (zero, length, one)
        place = Gather <axis = 0> (positions, range)
        word = Gather <axis = 0> (table, input_ids)
        both = Add (word, place)
        mask_1 = Unsqueeze (attention_mask, axis_1)
        mask_2 = Unsqueeze (mask_1, axis_2)
        kept = Cast <to = 1> (mask_2)
        padding = Sub (full, kept)
        mask = Mul (padding, lowest)"""

    def layer_norm(name: str, source: str) -> str:
        gain, shift = w.vector(f"{name}_gain", DIM, 1.0), w.vector(f"{name}_shift", DIM, 0.0)
        return (
            f"\n        {name} = LayerNormalization <axis = -1, epsilon = 1e-12> ({source}, {gain}, {shift})"
        )

    def linear(name: str, source: str, fan_in: int, fan_out: int) -> str:
        matrix, bias = w.matrix(f"{name}_w", fan_in, fan_out), w.vector(f"{name}_b", fan_out, 0.0)
        return f"""
        {name}_product = MatMul ({source}, {matrix})
        {name} = Add ({name}_product, {bias})"""

    body += layer_norm("x0", "both")
    for i in range(LAYERS):
        p, x = f"l{i}", f"x{i}"
        body += "".join(linear(f"{p}_{a}", x, DIM, DIM) + heads(f"{p}_{a}h", f"{p}_{a}") for a in "qkv")
        body += attention(p, f"{p}_qh", f"{p}_kh", f"{p}_vh", "mask")
        body += linear(f"{p}_o", f"{p}_context", DIM, DIM)
        body += f"\n        {p}_sum = Add ({p}_o, {x})" + layer_norm(f"{p}_x", f"{p}_sum")
        body += linear(f"{p}_up", f"{p}_x", DIM, HIDDEN)
        body += f"""
        {p}_ratio = Div ({p}_up, root_2)
        {p}_erf = Erf ({p}_ratio)
        {p}_shifted = Add ({p}_erf, full)
        {p}_whole = Mul ({p}_up, {p}_shifted)
        {p}_gelu = Mul ({p}_whole, half)"""
        body += linear(f"{p}_down", f"{p}_gelu", HIDDEN, DIM)
        body += f"\n        {p}_sum_2 = Add ({p}_down, {p}_x)" + layer_norm(f"x{i + 1}", f"{p}_sum_2")
    body += f"\n        hidden = Identity (x{LAYERS})"
    inputs = "int64[batch, length] input_ids, int64[batch, length] attention_mask"
    return build(inputs, f"float[batch, length, {DIM}] hidden", body, w)


MAKERS: dict[str, Callable[[], onnx.ModelProto]] = {
    "llama": llama,
    "gqa": lambda: llama(seed=1, kv_heads=2),
    "bert": bert,
}
"""The models most tests go through: plain heads, shared key and value heads, and an encoder."""


def tokenizer(size: int = VOCABULARY) -> Tokenizer:
    """A word-level tokenizer of the words w0, w1, ..."""
    made = Tokenizer(models.WordLevel({f"w{i}": i for i in range(size)}, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def text(words: int = 600, seed: int = 0) -> str:
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, words)
    return " ".join(f"w{i}" for i in ids)


def save(folder: Path, make: Callable[[], onnx.ModelProto] | onnx.ModelProto, size: int = VOCABULARY) -> Path:
    """The model with its tokenizer in `folder`; returns the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer(size).save(str(folder / "tokenizer.json"))
    onnx.save(make() if callable(make) else make, folder / "model.onnx")
    return folder / "model.onnx"
