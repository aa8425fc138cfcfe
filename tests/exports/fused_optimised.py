"""Models as ONNX Runtime's optimizer fuses them: Attention, MultiHeadAttention and the norms around them."""

from __future__ import annotations

import numpy as np
from exports.fused_net import DIM, HEAD, HEADS, HIDDEN, LAYERS, LONGEST, VOCABULARY, Net, ids, normal, padded
from exports.fused_pieces import TOKENS, causal_bias, embedded, head, skip_norm


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
    _, word = embedded(net)
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


def decoder(kind: str) -> Net:
    """Self and cross attention by MultiHeadAttention: "whisper" or "t5" (a bias, no scale, RMS norms)."""
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
    """Whisper's decoder with caches: keys of the encoder come ready, their heads apart."""
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
    bias = net(
        "Add", net("Mul", net("Unsqueeze", steps, net.ints(0, 1, 2)), slopes), causal_bias(net, tokens)
    )
    for _ in range(LAYERS):
        normed = net.layer_norm(x)
        qkv = net("Split", net.linear(normed, DIM, 3 * DIM, False), outputs=3, axis=-1, num_outputs=3)
        context = net.ms("MultiHeadAttention", *qkv, "", mask, bias, num_heads=HEADS)
        x = net("Add", x, net.linear(context, DIM, DIM, False))
        up = net.ms("Gelu", net.linear(net.layer_norm(x), DIM, HIDDEN, False))
        x = net("Add", x, net.linear(up, HIDDEN, DIM, False))
    return head(net, net.layer_norm(x))
