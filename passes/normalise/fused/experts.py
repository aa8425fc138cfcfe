"""com.microsoft MoE as every expert on every token, weighted by what the router gives it (mostly nothing)."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from .activations import gelu_tanh
from .parts import Kept, Parts, Results


def mixture(parts: Parts) -> Results:
    if parts.attr("use_sparse_mixer", 0):
        raise Kept("SPK402", "its router mixes sparsely, in a way of the kernel's own")
    x, scores = parts.need(0), parts.need(1)
    rank, hidden = parts.rank(x, "input"), parts.size(x, -1)
    rows = x if rank == 2 else parts.add("Reshape", x, parts.ints(-1, hidden or 0), part="tokens")
    if rank != 2 and not hidden:
        raise Kept("SPK404", "its hidden size is not known")
    shares = _shares(parts, scores)
    apart = parts.add("Unsqueeze", rows, parts.ints(0), part="tokens_alone")
    up = _experts(parts, apart, 2, 3, "up")
    inner = _activated(parts, up, apart)
    down = _experts(parts, inner, 4, 5, "down")
    weighted = parts.add("Mul", down, shares, part="weighted")
    mixed = parts.add("ReduceSum", weighted, parts.ints(0), part="mixed", keepdims=0)
    if rank != 2:
        mixed = parts.add("Reshape", mixed, parts.add("Shape", x, part="shape"), part="result")
    return [mixed]


def _shares(parts: Parts, scores: gs.Tensor) -> gs.Tensor:
    """`[experts, tokens, 1]`: the softmax of the k experts chosen, zero for all others."""
    weights = parts.add("Softmax", scores, part="softmax", axis=-1)
    count = parts.ints(int(parts.attr("k", 1)))
    best, chosen = parts.add("TopK", weights, count, part="chosen", outputs=2, axis=-1)
    if parts.attr("normalize_routing_weights", 0):
        best = parts.add(
            "Div", best, parts.add("ReduceSum", best, parts.ints(-1), part="sum", keepdims=1), part="best"
        )
    nothing = parts.add("Mul", weights, parts.like(0.0, weights), part="nothing")
    shares = parts.add("ScatterElements", nothing, chosen, best, part="shares", axis=1)
    turned = parts.add("Transpose", shares, part="shares_turned", perm=[1, 0])
    return parts.add("Unsqueeze", turned, parts.ints(2), part="shares_wide")


def _experts(parts: Parts, x: gs.Tensor, weight: int, bias: int, name: str) -> gs.Tensor:
    """`x` times every expert's matrix, which is stored `[out, in]`."""
    turned = parts.add("Transpose", parts.need(weight), part=f"{name}_turned", perm=[0, 2, 1])
    product = parts.add("MatMul", x, turned, part=name)
    given = parts.given(bias)
    if given is None:
        return product
    wide = parts.add("Unsqueeze", given, parts.ints(1), part=f"{name}_bias_wide")
    return parts.add("Add", product, wide, part=f"{name}_bias")


def _activated(parts: Parts, up: gs.Tensor, apart: gs.Tensor) -> gs.Tensor:
    kind = parts.attr("activation_type", "relu")
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind == "swiglu":
        return _swiglu(parts, up, apart)
    if kind == "relu":
        made = parts.add("Relu", up, part="relu")
    elif kind == "gelu":
        made = gelu_tanh(parts, up)
    elif kind == "silu":
        made = parts.add("Mul", up, parts.add("Sigmoid", up, part="sigmoid"), part="silu")
    elif kind == "identity":
        made = up
    else:
        raise Kept("SPK402", f"its activation {kind} is not known")
    if parts.given(6) is None:
        return made
    return parts.add("Mul", made, _experts(parts, apart, 6, 7, "gate"), part="gated")


def _swiglu(parts: Parts, up: gs.Tensor, apart: gs.Tensor) -> gs.Tensor:
    """gate · sigmoid(alpha · gate) · (value + beta), both clamped when there is a limit."""
    fusion = int(parts.attr("swiglu_fusion", 0))
    if fusion == 0:
        gate, value = up, _experts(parts, apart, 6, 7, "value")
    elif fusion == 1:
        last, end, two = parts.ints(-1), parts.ints(2**63 - 1), parts.ints(2)
        gate, value = (
            parts.add("Slice", up, parts.ints(start), end, last, two, part=name)
            for start, name in ((0, "gate"), (1, "value"))
        )
    else:
        gate, value = parts.add("Split", up, part="halves", outputs=2, axis=-1, num_outputs=2)
    limit = parts.attr("swiglu_limit")
    if limit is not None:
        high, low = parts.like(float(limit), up), parts.like(-float(limit), up)
        gate = parts.add("Min", gate, high, part="gate_capped")
        value = parts.add("Clip", value, low, high, part="value_capped")
    alpha, beta = float(parts.attr("activation_alpha", 1.0)), float(parts.attr("activation_beta", 0.0))
    inner = gate if alpha == 1 else parts.add("Mul", gate, parts.like(alpha, up), part="inner")
    silu = parts.add("Mul", gate, parts.add("Sigmoid", inner, part="sigmoid"), part="silu")
    if beta != 0:
        value = parts.add("Add", value, parts.like(beta, up), part="value_shifted")
    return parts.add("Mul", silu, value, part="gated")


FORMS = {("com.microsoft", "MoE"): mixture}
