"""Pieces of fused models: embeddings, masks, residual norms, gated MLPs, heads."""

from __future__ import annotations

import numpy as np
from exports.fused_net import DIM, HIDDEN, LONGEST, VOCABULARY, Net, ids

TOKENS: list[int | str] = ["batch", "length"]
KEPT = 3
"""Tokens in a cache."""


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
