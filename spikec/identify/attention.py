"""What the attentions of a model have in common: rotation, bias, masks, heads, and where keys come from."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx_graphsurgeon as gs

from ..ir import graph as graphs
from ..ir.program import Finding
from ..ir.weights import array
from .wiring import LOOK, Wiring, operands
from .words import Features

EVIDENCE = {
    "rope": "rotated queries and keys",
    "partial-rope": "only part of each head is rotated",
    "interleaved": "rotation of neighbouring channels",
    "qk-norm": "norms of queries and keys",
    "fused-qkv": "one product for query, key and value",
    "qkv-bias": "biases on query, key and value",
    "cross": "keys come from another sequence",
    "latent-keys": "keys are made from a narrow latent",
    "encoder": "queries see what comes after them",
    "causal": "causal masks",
    "sliding": "sliding windows",
    "padding": "padding masks",
    "alibi": "scores fall with distance (ALiBi)",
    "relative": "scores get a learned bias by distance",
    "softcap": "capped scores",
    "cache": "past keys and values come in",
    "parallel": "attention and MLP read the same norm or sum",
}
LARGEST = 1 << 20
"""Elements of a constant bias that are looked at."""
CAPS = {"softcap", "tanh", "clip"}
RARE = {"cross", "encoder", "sliding", "softcap"}
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
    if not seen["causal"] and any(f.facts.get("mask") for f in attentions):
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
        if any(not str(f.facts.get("pairs", "halves")).startswith("halves") for f in rotations):
            words.add("interleaved")
        if any(_part(f, query) for f in rotations):
            words.add("partial-rope")
    if kinds & {"layernorm", "rmsnorm"}:
        words.add("qk-norm")
    linears = [f for f in makers if _linear(f)]
    key_linears = [f for f in key_makers if _linear(f)]
    if linears and {id(f) for f in linears} == {id(f) for f in key_linears}:
        words.add("fused-qkv")
    elif _apart(query, key, wiring):
        words.add("cross")
    if any(_linear(g) for f in key_linears for g in wiring.linears(f.sources[:1])[0]):
        words.add("latent-keys")
    if any(_biased(f) for f in linears + key_linears):
        words.add("qkv-bias")
    words |= _mask_words(attention, wiring)
    if "rope" in words:
        words.discard("alibi")
    if facts.get("past"):
        words.add("cache")
    if facts.get("mask") and not words & {"causal", "cross", "cache"}:
        words.add("encoder")
    context = facts.get("context")
    if linears and isinstance(context, Finding) and _parallel(linears, attention, wiring):
        words.add("parallel")
    if facts.get("softcap"):
        words.add("softcap")
    return words


def _mask_words(attention: Finding, wiring: Wiring) -> set[str]:
    """The masks and the bias that were measured between scores and softmax."""
    told = set(attention.facts.get("mask") or ())
    words = told & {"causal", "sliding", "padding"}
    if "bias" in told:
        words.add("relative" if _learned_bias(attention, wiring) else "alibi")
    return words


def _learned_bias(attention: Finding, wiring: Wiring) -> bool:
    """Whether a table of numbers, looked up or constant, is what the scores get besides the products."""
    softmax = attention.facts.get("softmax")
    if not isinstance(softmax, Finding):
        return False
    products = {id(attention.facts["scores"].result), *(id(f.result) for f in attention.facts["more_scores"])}
    seen: set[int] = set()
    stack = [softmax.sources[0]]
    while stack and len(seen) < LOOK:
        tensor = stack.pop()
        node = graphs.producer(tensor)
        if node is None or id(tensor) in products or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op in ("Gather", "GatherND") and isinstance(node.inputs[0], gs.Constant):
            table = node.inputs[0]
            if len(table.shape) == 2 and table.dtype is not None and np.issubdtype(table.dtype, np.floating):
                return True
        if any(isinstance(i, gs.Constant) and _uneven(i) for i in operands(node)):
            return True
        stack.extend(operands(node))
    return False


def _uneven(constant: gs.Constant) -> bool:
    """Whether a constant bias for each pair of tokens does not fall evenly with their distance."""
    if len(constant.shape) < 3 or constant.shape[-1] < 3 or not 1 < math.prod(constant.shape) <= LARGEST:
        return False
    values = array(constant)
    if not np.issubdtype(values.dtype, np.floating):
        return False
    bends = np.diff(values.astype(np.float64), 2, axis=-1)
    return bool(np.mean(np.abs(bends) > 1e-3 * max(float(np.abs(values).max()), 1e-30)) > 0.5)


def _linear(finding: Finding) -> bool:
    return bool(finding.facts["label"] == "linear")


def _part(rotation: Finding, query: gs.Tensor) -> bool:
    """Whether the rotated channels are fewer than those the scores are made of."""
    low, high, width = rotation.facts.get("features", (0, 0, 0))
    if high - low < width:
        return True
    turned, whole = rotation.result.shape, query.shape
    sizes = [s[-1] for s in (turned, whole) if s and isinstance(s[-1], int)]
    return len(sizes) == 2 and sizes[0] < sizes[1]


def _apart(query: gs.Tensor, key: gs.Tensor, wiring: Wiring) -> bool:
    """Whether queries and keys are made from different values."""
    one, other = wiring.streams([query]), wiring.streams([key])
    return bool(one) and bool(other) and not one & other


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
            if _linear(up) and id(wiring.unnormed(up.sources[0])) in stream:
                return True
    return False


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
    number = f"{heads}" if kind == "MHA" else f"{heads}/{shared}"
    return f"{kind} {number} heads" + (f" of {size}" if size else "")
