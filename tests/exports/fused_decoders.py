"""Decoders as model builders and exporters of opset 23 and 24 write them: grouped queries, rotations."""

from __future__ import annotations

import numpy as np
from exports.fused_net import DIM, HEAD, HEADS, HIDDEN, LAYERS, Net, normal, ones, padded
from exports.fused_pieces import KEPT, TOKENS, angles, embedded, gated, head, lengths, skip_rms


def llama(
    shared: int = 2,
    packed: bool = False,
    rotary: str = "inside",
    turned: int = HEAD,
    norms: bool = False,
    sink: bool = False,
    cached: bool = True,
    activation: str = "silu",
    experts: int = 0,
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
        mlp = mixed(net, normed, experts) if experts else gated(net, normed, activation)
        normed, x = skip_rms(net, mlp, x)
    return head(net, normed)


def mixed(net: Net, x: str, experts: int) -> str:
    """Two of so many experts, gated by SiLU; gate and value are one product, interleaved."""
    scores = net("Reshape", net.linear(x, DIM, experts, False), net.ints(-1, experts))
    up = net.constant(normal(net.rng, (experts, 2 * HIDDEN, DIM)) / DIM**0.5)
    down = net.constant(normal(net.rng, (experts, DIM, HIDDEN)) / HIDDEN**0.5)
    named = {"k": 2, "activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1}
    return net.ms("MoE", x, scores, up, "", down, **named)


def parallel(heads: str, activation: str, turned: int) -> Net:
    """Attention and MLP from one norm, as Phi and Falcon: partial rotation, or one head of keys."""
    net = Net()
    tokens, x = embedded(net)
    places = net.input(
        "position_ids", np.int64, list(TOKENS), lambda r, s: np.tile(np.arange(s[1]), (s[0], 1))
    )
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


def modern(opset: int, flat: bool, shared: int, mask: str, cached: bool = False, softcap: float = 0.0) -> Net:
    """ai.onnx's own Attention, RotaryEmbedding and RMSNormalization, as exporters of opset 23 and 24 do."""
    net = Net(opset)
    _, x = embedded(net)
    total = "total" if cached else "length"
    seen = ""
    if mask:
        keys = net("Cast", net.input("attention_mask", np.int64, ["batch", total], padded), to=9)
        seen = net("Unsqueeze", keys, net.ints(1, 2))
        shape = net("Concat", net.ints(1, 1), net("Shape", "input_ids", start=1, end=2), net.ints(1), axis=0)
        seen = net("Expand", seen, shape)
    places = net.input(
        "position_ids", np.int64, list(TOKENS), lambda r, s: np.tile(np.arange(s[1]), (s[0], 1))
    )
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
