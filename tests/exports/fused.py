"""Whole models as ONNX Runtime's optimizer, its model builder and new exporters fuse them, made by hand; with
what each computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from exports.counts import (
    ATTENTION,
    ERF,
    FUSED,
    GATED,
    LAYERNORM,
    OTHER,
    PLAIN,
    QUICK,
    RELU,
    RMSNORM,
    ROPE,
    SEPARATE,
    SILU,
    TANH,
    Counts,
)
from exports.net import (
    DIM,
    HEAD,
    HEADS,
    HIDDEN,
    LAYERS,
    LONGEST,
    VOCABULARY,
    Net,
    Sizes,
    ids,
    normal,
    ones,
    padded,
)

FIRST, SECOND = {"batch": 2, "length": 5}, {"batch": 3, "length": 7}
TOKENS: list[int | str] = ["batch", "length"]
KEPT = 3
"""Tokens in a cache."""


@dataclass
class Fused:
    make: Callable[[], Net]
    counts: Counts
    sizes: tuple[Sizes, Sizes] = (FIRST, SECOND)


def lowest(net: Net) -> str:
    return net.constant(np.float32(np.finfo(np.float32).min))


def causal_bias(net: Net, tokens: str) -> str:
    """`[1, 1, length, length]` as exporters make it."""
    zero, one = net.constant(0, np.int64), net.constant(1, np.int64)
    length = net("Gather", net("Shape", tokens), one, axis=0)
    steps = net("Range", zero, length, one)
    seen = net("LessOrEqual", net("Unsqueeze", steps, net.ints(0)), net("Unsqueeze", steps, net.ints(1)))
    bias = net("Where", seen, net.constant(np.float32(0)), lowest(net))
    return net("Unsqueeze", bias, net.ints(0, 1))


def embedded(net: Net, kind: type = np.int64) -> tuple[str, str]:
    tokens = net.input("input_ids", kind, list(TOKENS), ids)
    return tokens, net("Gather", net.matrix(VOCABULARY, DIM), tokens, axis=0)


def head(net: Net, x: str) -> Net:
    net.output("logits", net("MatMul", x, net.matrix(DIM, VOCABULARY)), ["batch", "length", VOCABULARY])
    return net


def skip_norm(net: Net, x: str, skip: str, bias: str = "") -> list[str]:
    """(normalised, sum) of SkipLayerNormalization."""
    gain, shift = net.vector(DIM, 1), net.vector(DIM)
    made = net.ms("SkipLayerNormalization", x, skip, gain, shift, bias, outputs=4, epsilon=1e-5)
    return [made[0], made[3]]


def skip_rms(net: Net, x: str, skip: str) -> list[str]:
    made = net.ms("SkipSimplifiedLayerNormalization", x, skip, net.vector(DIM, 1), outputs=4, epsilon=1e-6)
    return [made[0], made[3]]


def bert(mask_of: str, activation: str, pooled: bool) -> Net:
    """`mask_of`: "lengths" (from EmbedLayerNormalization) or "keys"."""
    net = Net(17)
    tokens = net.input("input_ids", np.int32, list(TOKENS), ids)
    segments = net.input("token_type_ids", np.int32, list(TOKENS), lambda rng, s: rng.integers(0, 2, s))
    mask = net.input("attention_mask", np.int32, list(TOKENS), padded)
    tables = [net.matrix(size, DIM) for size in (VOCABULARY, LONGEST, 2)]
    x, lengths = net.ms(
        "EmbedLayerNormalization",
        tokens,
        segments,
        *tables,
        net.vector(DIM, 1),
        net.vector(DIM),
        mask,
        outputs=2,
        epsilon=1e-12,
    )
    for _ in range(LAYERS):
        context = net.ms(
            "Attention",
            x,
            net.matrix(DIM, 3 * DIM),
            net.vector(3 * DIM),
            lengths if mask_of == "lengths" else mask,
            num_heads=HEADS,
        )
        x = skip_norm(net, net("MatMul", context, net.matrix(DIM, DIM)), x, net.vector(DIM))[0]
        up = net("MatMul", x, net.matrix(DIM, HIDDEN))
        up = net.ms(activation, up, net.vector(HIDDEN))
        x = skip_norm(net, net("MatMul", up, net.matrix(HIDDEN, DIM)), x, net.vector(DIM))[0]
    net.output("hidden", x, ["batch", "length", DIM])
    if pooled:
        first = net("Gather", x, net.constant(0, np.int64), axis=1)
        weight, bias = net.matrix(DIM, DIM), net.vector(DIM)
        pooler = net.ms("FusedGemm", first, weight, bias, activation="Tanh", alpha=1.0, beta=1.0, transB=1)
        net.output("pooled", pooler, ["batch", DIM])
    return net


def gpt2(cached: bool, tied: bool) -> Net:
    net = Net()
    tokens, word = embedded(net)
    past_axis: list[int | str] = [2, "batch", HEADS, "past", HEAD]
    mask = net.input("attention_mask", np.int32, ["batch", "total" if cached else "length"], padded)
    places = net.input("position_ids", np.int64, list(TOKENS), lambda rng, s: rng.integers(0, LONGEST, s))
    x = net("Add", word, net("Gather", net.matrix(LONGEST, DIM), places, axis=0))
    normed = net.layer_norm(x)
    for i in range(LAYERS):
        past = net.input(f"past_{i}", np.float32, past_axis, normal) if cached else ""
        inputs = [normed, net.matrix(DIM, 3 * DIM), net.vector(3 * DIM), mask, past]
        context = net.ms("Attention", *inputs, outputs=2, num_heads=HEADS, unidirectional=1)
        if cached:
            net.output(f"present_{i}", context[1], [2, "batch", HEADS, "total", HEAD])
        normed, x = skip_norm(net, net("MatMul", context[0], net.matrix(DIM, DIM)), x, net.vector(DIM))
        up = net.ms("FastGelu", net("MatMul", normed, net.matrix(DIM, HIDDEN)), net.vector(HIDDEN))
        normed, x = skip_norm(net, net("MatMul", up, net.matrix(HIDDEN, DIM)), x, net.vector(DIM))
    if not tied:
        return head(net, normed)
    table = net.nodes[0].input[0]
    net.output("logits", net.ms("FusedMatMul", normed, table, transB=1), ["batch", "length", VOCABULARY])
    return net


def angles(net: Net, turned: int) -> list[str]:
    steps = np.arange(LONGEST)[:, None] * 100.0 ** -np.linspace(0, 1, turned // 2)[None]
    return [net.constant(f(steps), np.float32) for f in (np.cos, np.sin)]


def gated(net: Net, x: str, activation: str) -> str:
    gate, up = net.linear(x, DIM, HIDDEN, False), net.linear(x, DIM, HIDDEN, False)
    if activation == "silu":
        gate = net("Mul", gate, net("Sigmoid", gate))
    elif activation == "Swish":
        gate = net("Swish", gate)
    elif activation == "QuickGelu":
        gate = net.ms("QuickGelu", gate, alpha=1.0)
    else:
        gate = net.ms(activation, gate)
    return net.linear(net("Mul", gate, up), HIDDEN, DIM, False)


def lengths(net: Net, mask: str) -> list[str]:
    """seqlens_k and total_sequence_length, from the mask as the model builder makes them."""
    count = net("ReduceSum", mask, net.ints(1), keepdims=0)
    last = net("Cast", net("Sub", count, net.ints(1)), to=6)
    total = net("Gather", net("Shape", mask), net.constant(1, np.int64), axis=0)
    return [last, net("Cast", total, to=6)]


def llama(
    shared: int = 2,
    packed: bool = False,
    rotary: str = "inside",
    turned: int = HEAD,
    norms: bool = False,
    sink: bool = False,
    cached: bool = True,
    activation: str = "silu",
    **attrs: float,
) -> Net:
    """GroupQueryAttention as the model builder writes it; `rotary`: "inside", "outside" or "none"."""
    net = Net()
    _, x = embedded(net)
    mask = net.input("attention_mask", np.int64, ["batch", "total" if cached else "length"], ones)
    last, total = lengths(net, mask)
    tables = angles(net, turned)
    start = KEPT if cached else 0
    places = ""
    if rotary == "outside":
        places = net.input(
            "position_ids", np.int64, list(TOKENS), lambda rng, s: np.tile(np.arange(s[1]) + start, (s[0], 1))
        )
    normed = net("SimplifiedLayerNormalization", x, net.vector(DIM, 1), axis=-1, epsilon=1e-6, stash_type=1)
    cache: list[int | str] = ["batch", shared, "past", HEAD]
    for i in range(LAYERS):
        width = shared * HEAD
        if packed:
            qkv = [net.linear(normed, DIM, DIM + 2 * width, False), "", ""]
        else:
            qkv = [net.linear(normed, DIM, size, False) for size in (DIM, width, width)]
        if norms:
            for j, heads in enumerate((HEADS, shared)):
                apart = net("Reshape", qkv[j], net.ints(0, 0, heads, HEAD))
                unit = net("SimplifiedLayerNormalization", apart, net.vector(HEAD, 1), axis=-1, epsilon=1e-6)
                qkv[j] = net("Reshape", unit, net.ints(0, 0, heads * HEAD))
        if rotary == "outside":
            qkv[:2] = [net.ms("RotaryEmbedding", t, places, *tables) for t in qkv[:2]]
        inside = tables if rotary == "inside" else ["", ""]
        past = [net.input(f"past_{i}.{n}", np.float32, cache, normal) if cached else "" for n in "kv"]
        sinks = ["", "", net.vector(HEADS)] if sink else []
        context = net.ms(
            "GroupQueryAttention",
            *[*qkv, *past, last, total, *inside, *sinks],
            outputs=3,
            num_heads=HEADS,
            kv_num_heads=shared,
            do_rotary=int(rotary == "inside"),
            **attrs,
        )
        for n, value in zip("kv", context[1:]):
            if cached:
                net.output(f"present_{i}.{n}", value, ["batch", shared, "total", HEAD])
        normed, x = skip_rms(net, net.linear(context[0], DIM, DIM, False), x)
        normed, x = skip_rms(net, gated(net, normed, activation), x)
    return head(net, normed)


def parallel(heads: str, activation: str, turned: int) -> Net:
    """Attention and MLP from one norm, as Phi and Falcon: partial rotation, or one head of keys."""
    net = Net()
    tokens, x = embedded(net)
    places = net.input("position_ids", np.int64, list(TOKENS), lambda r, s: np.tile(np.arange(s[1]), (s[0], 1)))
    tables = angles(net, turned)
    for _ in range(LAYERS):
        normed = net.layer_norm(x)
        if heads == "one":
            mask = net("ConstantOfShape", net("Shape", tokens), value=_one())
            qkv = net.linear(normed, DIM, DIM + 2 * HEAD, False)
            inputs = [qkv, "", "", "", "", *lengths(net, mask), *tables]
            context = net.ms(
                "GroupQueryAttention", *inputs, outputs=3, num_heads=HEADS, kv_num_heads=1, do_rotary=1
            )[0]
        else:
            qkv = [net.linear(normed, DIM, DIM) for _ in range(3)]
            named = {"num_heads": HEADS, "rotary_embedding_dim": turned}
            qkv[:2] = [net.ms("RotaryEmbedding", t, places, *tables, **named) for t in qkv[:2]]
            context = net.ms("MultiHeadAttention", *qkv, num_heads=HEADS, unidirectional=1)
        up = net.ms(activation, net.linear(normed, DIM, HIDDEN))
        both = net("Add", net.linear(context, DIM, DIM), net.linear(up, HIDDEN, DIM))
        x = net("Add", both, x)
    return head(net, net.layer_norm(x))


def _one() -> object:
    from onnx import helper

    return helper.make_tensor("one", 7, [1], [1])


def decoder(kind: str) -> Net:
    """Self and cross attention by MultiHeadAttention: "whisper" or "t5" (relative bias, no scale, RMS norms)."""
    net = Net()
    tokens, x = embedded(net)
    memory = net.input("encoder_hidden_states", np.float32, ["batch", "source", DIM], normal)
    whisper = kind == "whisper"
    bias = ""
    if not whisper:
        free = net.input("position_bias", np.float32, [1, HEADS, "length", "length"], normal)
        bias = net("Add", free, causal_bias(net, tokens))

    def norm(value: str) -> str:
        if whisper:
            return net.layer_norm(value)
        return net("SimplifiedLayerNormalization", value, net.vector(DIM, 1), axis=-1, epsilon=1e-6)

    def attend(query: str, source: str, cross: bool) -> str:
        q, k, v = (net("MatMul", t, net.matrix(DIM, DIM)) for t in (query, source, source))
        together = net.vector(3 * DIM) if whisper else ""
        inputs = [q, k, v, together, "", "" if cross else bias]
        scale = None if whisper else 1.0
        return net.ms(
            "MultiHeadAttention",
            *inputs,
            num_heads=HEADS,
            scale=scale,
            unidirectional=int(whisper and not cross),
        )

    for _ in range(LAYERS):
        for cross in (False, True):
            normed = norm(x)
            context = attend(normed, memory if cross else normed, cross)
            x = net("Add", x, net.linear(context, DIM, DIM, whisper))
        up = net("MatMul", norm(x), net.matrix(DIM, HIDDEN))
        up = net.ms("BiasGelu", up, net.vector(HIDDEN)) if whisper else net("Relu", up)
        x = net("Add", x, net.linear(up, HIDDEN, DIM, whisper))
    return head(net, norm(x))


def cross_cached() -> Net:
    """Whisper's decoder with caches: keys of the encoder come ready, as `[batch, heads, length, head size]`."""
    net = Net()
    _, x = embedded(net)
    cache: list[int | str] = ["batch", HEADS, "past", HEAD]
    ready: list[int | str] = ["batch", HEADS, "source", HEAD]
    for i in range(LAYERS):
        normed = net.layer_norm(x)
        qkv = [net("MatMul", normed, net.matrix(DIM, DIM)) for _ in range(3)]
        past = [net.input(f"past_{i}.{n}", np.float32, cache, normal) for n in "kv"]
        inputs = [*qkv, net.vector(3 * DIM), "", "", *past]
        context = net.ms("MultiHeadAttention", *inputs, outputs=3, num_heads=HEADS, unidirectional=1)
        for n, value in zip("kv", context[1:]):
            net.output(f"present_{i}.{n}", value, ["batch", HEADS, "total", HEAD])
        x = net("Add", x, net.linear(context[0], DIM, DIM))
        query = net("MatMul", net.layer_norm(x), net.matrix(DIM, DIM))
        keys = [net.input(f"cross_{i}.{n}", np.float32, ready, normal) for n in "kv"]
        context = net.ms("MultiHeadAttention", query, *keys, net.vector(3 * DIM), num_heads=HEADS)
        x = net("Add", x, net.linear(context, DIM, DIM))
        up = net.ms("BiasGelu", net("MatMul", net.layer_norm(x), net.matrix(DIM, HIDDEN)), net.vector(HIDDEN))
        x = net("Add", x, net.linear(up, HIDDEN, DIM))
    return head(net, net.layer_norm(x))


def clip(vision: bool) -> Net:
    net = Net()
    if vision:
        image = net.input("pixel_values", np.float32, ["batch", 3, 8, 8], normal)
        kernel = net.constant(normal(net.rng, (DIM, 3, 4, 4)) / 7)
        patches = net("Conv", image, kernel, kernel_shape=[4, 4], strides=[4, 4])
        x = net("Transpose", net("Reshape", patches, net.ints(0, DIM, -1)), perm=[0, 2, 1])
        x = net("Add", x, net.constant(normal(net.rng, (1, 4, DIM))))
    else:
        _, x = embedded(net)
    for _ in range(LAYERS):
        normed = net.layer_norm(x)
        qkv = [net.linear(normed, DIM, DIM) for _ in range(3)]
        context = net.ms("MultiHeadAttention", *qkv, num_heads=HEADS, unidirectional=int(not vision))
        x = net("Add", x, net.linear(context, DIM, DIM))
        up = net.ms("QuickGelu", net.linear(net.layer_norm(x), DIM, HIDDEN), alpha=1.702)
        x = net("Add", x, net.linear(up, HIDDEN, DIM))
    net.output("hidden", net.layer_norm(x), ["batch", 4 if vision else "length", DIM])
    return net


def alibi() -> Net:
    """MPT: the distance's bias, and a mask of keys."""
    net = Net()
    tokens, x = embedded(net)
    mask = net.input("attention_mask", np.int32, list(TOKENS), padded)
    length = net("Gather", net("Shape", tokens), net.constant(1, np.int64), axis=0)
    steps = net("Cast", net("Range", net.constant(0, np.int64), length, net.constant(1, np.int64)), to=1)
    slopes = net.constant((2.0 ** -np.arange(1, HEADS + 1)).reshape(1, HEADS, 1, 1), np.float32)
    bias = net("Add", net("Mul", net("Unsqueeze", steps, net.ints(0, 1, 2)), slopes), causal_bias(net, tokens))
    for _ in range(LAYERS):
        normed = net.layer_norm(x)
        qkv = net("Split", net.linear(normed, DIM, 3 * DIM, False), outputs=3, axis=-1, num_outputs=3)
        context = net.ms("MultiHeadAttention", *qkv, "", mask, bias, num_heads=HEADS)
        x = net("Add", x, net.linear(context, DIM, DIM, False))
        up = net.ms("Gelu", net.linear(net.layer_norm(x), DIM, HIDDEN, False))
        x = net("Add", x, net.linear(up, HIDDEN, DIM, False))
    return head(net, net.layer_norm(x))


def modern(opset: int, flat: bool, shared: int, mask: str, cached: bool = False, softcap: float = 0.0) -> Net:
    """ai.onnx's own Attention, RotaryEmbedding and RMSNormalization, as exporters of opset 23 and 24 write."""
    net = Net(opset)
    _, x = embedded(net)
    total = "total" if cached else "length"
    seen = ""
    if mask:
        keys = net("Cast", net.input("attention_mask", np.int64, ["batch", total], padded), to=9)
        seen = net("Unsqueeze", keys, net.ints(1, 2))
        shape = net("Concat", net.ints(1, 1), net("Shape", "input_ids", start=1, end=2), net.ints(1), axis=0)
        seen = net("Expand", seen, shape)
    places = net.input("position_ids", np.int64, list(TOKENS), lambda r, s: np.tile(np.arange(s[1]), (s[0], 1)))
    tables = angles(net, HEAD)
    width = shared * HEAD
    cache: list[int | str] = ["batch", shared, "past", HEAD]
    for i in range(LAYERS):
        normed = net("RMSNormalization", x, net.vector(DIM, 1), axis=-1, epsilon=1e-6)
        qkv = [net.linear(normed, DIM, size, False) for size in (DIM, width, width)]
        if flat:
            counts = {"q_num_heads": HEADS, "kv_num_heads": shared}
            qkv[:2] = [
                net("RotaryEmbedding", t, *tables, places, num_heads=n)
                for t, n in zip(qkv[:2], counts.values())
            ]
        else:
            counts = {}
            qkv = [
                net("Transpose", net("Reshape", t, net.ints(0, 0, n, HEAD)), perm=[0, 2, 1, 3])
                for t, n in zip(qkv, (HEADS, shared, shared))
            ]
            qkv[:2] = [net("RotaryEmbedding", t, *tables, places) for t in qkv[:2]]
        past = [net.input(f"past_{i}.{n}", np.float32, cache, normal) for n in "kv"] if cached else []
        context = net(
            "Attention",
            *[*qkv, seen, *past],
            outputs=3 if cached else 1,
            is_causal=1,
            softcap=softcap or None,
            **counts,
        )
        if cached:
            for n, value in zip("kv", context[1:]):
                net.output(f"present_{i}.{n}", value, ["batch", shared, "total", HEAD])
            context = context[0]
        if not flat:
            context = net("Reshape", net("Transpose", context, perm=[0, 2, 1, 3]), net.ints(0, 0, DIM))
        x = net("Add", x, net.linear(context, DIM, DIM, False))
        normed = net("RMSNormalization", x, net.vector(DIM, 1), axis=-1, epsilon=1e-6)
        x = net("Add", x, gated(net, normed, "Swish" if opset >= 24 else "silu"))
    return head(net, net("RMSNormalization", x, net.vector(DIM, 1), axis=-1, epsilon=1e-6))


ENCODER = FUSED + PLAIN + 2 * LAYERNORM
GQA = SEPARATE + GATED + 2 * RMSNORM
CACHED = tuple({**s, "past": KEPT, "total": s["length"] + KEPT} for s in (FIRST, SECOND))
TOKEN = tuple({"batch": b, "length": 1, "past": KEPT, "total": KEPT + 1} for b in (2, 3))
CROSS = tuple({**s, "source": 6} for s in (FIRST, SECOND))
CROSS_CACHED = tuple({**s, "source": 6} for s in CACHED)
ANY = TANH + OTHER  # activation and head

MODELS: dict[str, Fused] = {
    "bert": Fused(
        lambda: bert("lengths", "BiasGelu", True), LAYERS * (ENCODER + ERF) + LAYERNORM + OTHER
    ),
    "bert_keys": Fused(
        lambda: bert("keys", "FastGelu", False), LAYERS * (ENCODER + TANH) + LAYERNORM
    ),
    "gpt2": Fused(lambda: gpt2(False, False), LAYERS * (ENCODER + TANH) + LAYERNORM + OTHER),
    "gpt2_tied": Fused(lambda: gpt2(False, True), LAYERS * (ENCODER + TANH) + LAYERNORM + OTHER),
    "gpt2_past": Fused(
        lambda: gpt2(True, False), LAYERS * (ENCODER + TANH) + LAYERNORM + OTHER, CACHED
    ),
    "llama": Fused(llama, LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER, TOKEN),
    "llama_prompt": Fused(
        lambda: llama(cached=False), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER
    ),
    "llama_packed": Fused(
        lambda: llama(packed=True),
        LAYERS * (FUSED + GATED + 2 * RMSNORM + ROPE + SILU) + RMSNORM + OTHER,
        TOKEN,
    ),
    "llama_outside": Fused(
        lambda: llama(rotary="outside"), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER, TOKEN
    ),
    "llama_quick": Fused(
        lambda: llama(cached=False, activation="QuickGelu"),
        LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER,
    ),
    "qwen3": Fused(
        lambda: llama(norms=True), LAYERS * (GQA + 2 * RMSNORM + ROPE + SILU) + RMSNORM + OTHER, TOKEN
    ),
    "gemma2": Fused(
        lambda: llama(activation="FastGelu", softcap=2.0, local_window_size=4),
        LAYERS * (GQA + ROPE + TANH) + RMSNORM + OTHER,
        TOKEN,
    ),
    "gpt_oss": Fused(
        lambda: llama(sink=True, cached=False, local_window_size=3),
        LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER,
    ),
    "phi": Fused(
        lambda: parallel("each", "FastGelu", HEAD // 2),
        LAYERS * (SEPARATE + PLAIN + LAYERNORM + ROPE + TANH) + LAYERNORM + OTHER,
    ),
    "falcon": Fused(
        lambda: parallel("one", "Gelu", HEAD),
        LAYERS * (FUSED + PLAIN + LAYERNORM + ROPE + ERF) + LAYERNORM + OTHER,
    ),
    "whisper_decoder": Fused(
        lambda: decoder("whisper"),
        LAYERS * (2 * SEPARATE + PLAIN + 3 * LAYERNORM + ERF) + LAYERNORM + OTHER,
        CROSS,
    ),
    "whisper_decoder_past": Fused(
        cross_cached,
        LAYERS * (SEPARATE + ATTENTION + 2 * PLAIN + 3 * LAYERNORM + ERF) + LAYERNORM + OTHER,
        CROSS_CACHED,
    ),
    "t5_decoder": Fused(
        lambda: decoder("t5"), LAYERS * (2 * SEPARATE + PLAIN + 3 * RMSNORM + RELU) + RMSNORM + OTHER, CROSS
    ),
    "clip_text": Fused(
        lambda: clip(False), LAYERS * (SEPARATE + PLAIN + 2 * LAYERNORM + QUICK) + LAYERNORM
    ),
    "clip_vision": Fused(
        lambda: clip(True), LAYERS * (SEPARATE + PLAIN + 2 * LAYERNORM + QUICK) + LAYERNORM + OTHER
    ),
    "mpt": Fused(alibi, LAYERS * (FUSED + PLAIN + 2 * LAYERNORM + ERF) + LAYERNORM + OTHER),
    "llama_23": Fused(
        lambda: modern(23, True, 2, ""), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER
    ),
    "llama_23_heads": Fused(
        lambda: modern(23, False, HEADS, "keys"), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER
    ),
    "llama_23_past": Fused(
        lambda: modern(23, True, 2, "keys", True), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER, CACHED
    ),
    "llama_24": Fused(
        lambda: modern(24, False, 1, "keys", softcap=3.0), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER
    ),
}  # fmt: skip
