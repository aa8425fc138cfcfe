"""What the attentions of a model have in common: rotation, bias, masks, heads, and where keys come from."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import onnx_graphsurgeon as gs

from ..ir.program import Finding
from .wiring import Wiring, value_of
from .words import Features

EVIDENCE = {
    "rope": "rotated queries and keys",
    "partial-rope": "only part of each head is rotated",
    "interleaved": "rotation of neighbouring channels",
    "qk-norm": "norms of queries and keys",
    "fused-qkv": "one product for query, key and value",
    "qkv-bias": "biases on query, key and value",
    "cross": "keys come from another sequence",
    "causal": "causal masks",
    "sliding": "sliding windows",
    "padding": "padding masks",
    "alibi": "scores fall with distance (ALiBi)",
    "relative": "scores get a learned bias by distance",
    "softcap": "capped scores",
    "parallel": "attention and MLP read the same norm or sum",
}
CAPS = {"softcap", "tanh"}
RARE = {"cross", "sliding", "softcap"}
"""What one attention of a model is enough to tell; all else must hold for most of them."""


def attention_features(out: Features, wiring: Wiring) -> None:
    attentions = wiring.program.of("attention")
    if not attentions:
        return
    seen: Counter[str] = Counter()
    for f in attentions:
        seen.update(_one_attention(f, wiring))
    for word, text in EVIDENCE.items():
        least = 1 if word in RARE else (len(attentions) + 1) // 2
        if seen[word] >= least:
            out.add(word, f"{text} ({seen[word]} of {len(attentions)})")
    if not seen["causal"]:
        out.add("two-way", "no causal mask")
    out.heads = _heads(attentions)
    if out.heads.startswith("MQA"):
        out.add("mqa", out.heads)
    if out.heads.startswith("GQA"):
        out.add("gqa", out.heads)


def _one_attention(attention: Finding, wiring: Wiring) -> set[str]:
    facts, words = attention.facts, set()
    query, key = (attention.sources + attention.sources)[:2]
    makers, passed = wiring.linears([query])
    key_makers, key_passed = wiring.linears([key])
    kinds = {f.kind for f in passed + key_passed}
    rotations = [f for f in passed + key_passed if f.kind == "rope"]
    if rotations:
        words.add("rope")
        if any(f.facts.get("interleaved") for f in rotations):
            words.add("interleaved")
        if any(f.facts.get("partial") or _part(f, query) for f in rotations):
            words.add("partial-rope")
    if kinds & {"layernorm", "rmsnorm"}:
        words.add("qk-norm")
    linears = [f for f in makers if f.kind == "linear"]
    key_linears = [f for f in key_makers if f.kind == "linear"]
    if linears and {id(f) for f in linears} == {id(f) for f in key_linears}:
        words.add("fused-qkv")
    elif facts.get("cross") or _apart(linears, key_linears):
        words.add("cross")
    if any(_biased(f) for f in linears + key_linears):
        words.add("qkv-bias")
    words |= _mask_words(facts)
    context = facts.get("context")
    if linears and isinstance(context, Finding) and _parallel(linears, attention, wiring):
        words.add("parallel")
    if facts.get("softcap"):
        words.add("softcap")
    return words


def _mask_words(facts: dict[str, Any]) -> set[str]:
    """The mask kinds a recogniser proved, in its own words."""
    told = " ".join(str(facts.get(key, "")) for key in ("masks", "mask", "mask_kinds", "bias")).lower()
    words = {word for word in ("alibi", "relative", "sliding", "padding") if word in told}
    if facts.get("causal") or "causal" in told:
        words.add("causal")
    return words


def _part(rotation: Finding, query: gs.Tensor) -> bool:
    """Whether the rotated channels are fewer than those the scores are made of."""
    turned, whole = rotation.result.shape, query.shape
    sizes = [s[-1] if s and isinstance(s[-1], int) else None for s in (turned, whole)]
    return None not in sizes and sizes[0] < sizes[1]


def _apart(query: list[Finding], key: list[Finding]) -> bool:
    """Whether queries and keys are projections of different values."""
    if not query or not key:
        return False
    return not {id(value_of(f.sources[0])) for f in query} & {id(value_of(f.sources[0])) for f in key}


def _biased(linear: Finding) -> bool:
    if "bias" in linear.facts:
        return linear.facts["bias"] is not None
    users = linear.result.outputs
    return any(
        user.op == "Add" and any(isinstance(i, gs.Constant) and math.prod(i.shape) > 1 for i in user.inputs)
        for user in users
    )


def _parallel(linears: list[Finding], attention: Finding, wiring: Wiring) -> bool:
    """Whether an activation of the same block works on the very stream that the attention reads."""
    stream = {id(wiring.unnormed(f.sources[0])) for f in linears}
    for activation in wiring.activations_of(attention.block):
        if activation.facts["label"] in CAPS:
            continue
        for up in wiring.linears([activation.sources[0]])[0]:
            if up.kind == "linear" and id(wiring.unnormed(up.sources[0])) in stream:
                return True
    return False


def _unnormed(tensor: gs.Tensor, wiring: Wiring) -> gs.Tensor:
    norm = wiring.by_result.get(id(tensor))
    if norm is None or norm.kind not in ("layernorm", "rmsnorm"):
        return tensor
    return norm.sources[0]


def _heads(attentions: list[Finding]) -> str:
    told = Counter(
        (f.facts["heads"], f.facts.get("kv_heads") or f.facts["heads"], f.facts.get("head_size"))
        for f in attentions
        if isinstance(f.facts.get("heads"), int)
    )
    if not told:
        return ""
    heads, shared, size = told.most_common(1)[0][0]
    kind = "MHA" if heads == shared else "MQA" if shared == 1 else "GQA"
    of = f" of {size}" if size else ""
    return f"{kind} {heads}{of}" if kind == "MHA" else f"{kind} {heads}/{shared}{of}"
