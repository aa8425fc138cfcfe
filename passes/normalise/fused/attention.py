"""com.microsoft Attention (one packed projection) and MultiHeadAttention (projections outside)."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from . import masks
from .attend import attend, default_scale, extent, merge_heads, split_heads, total_bias, turned
from .parts import Kept, Parts, Results


def attention(parts: Parts) -> Results:
    x, weight, bias = parts.need(0), parts.need(1), parts.given(2)
    heads = int(parts.attr("num_heads"))
    if parts.attr("do_rotary", 0):
        raise Kept("SPK402", "it rotates its queries and keys by angles that it does not state")
    _refuse_shared_cache(parts, 6)
    product = parts.add("MatMul", x, weight, part="qkv")
    if bias is not None:
        product = parts.add("Add", product, bias, part="qkv_bias")
    width = parts.size(weight, -1) or (parts.size(bias, 0) if bias is not None else None)
    sizes = list(parts.attr("qkv_hidden_sizes", [])) or ([width // 3] * 3 if width else [])
    if sizes:
        split = parts.add("Split", product, parts.ints(*sizes), part="qkv_parts", outputs=3, axis=-1)
    else:
        split = parts.add("Split", product, part="qkv_parts", outputs=3, axis=-1, num_outputs=3)
    q, k, v = (split_heads(parts, t, heads, name) for t, name in zip(split, "qkv", strict=True))
    past, past_k, past_v = parts.given(4), None, None
    if past is not None:
        halves = parts.add("Split", past, part="past", outputs=2, axis=0, num_outputs=2)
        past_k, past_v = (
            parts.add("Squeeze", h, parts.ints(0), part=f"past_{n}") for h, n in zip(halves, "kv")
        )
        k = parts.add("Concat", past_k, k, part="all_k", axis=2)
        v = parts.add("Concat", past_v, v, part="all_v", axis=2)
    context, _ = _attend(parts, q, k, v, past_k, x, 1, 3, 5, square=True)
    present = None
    if parts.wanted(1):
        pair = [parts.add("Unsqueeze", t, parts.ints(0), part="present_alone") for t in (k, v)]
        present = parts.add("Concat", *pair, part="present", axis=0)
    return [merge_heads(parts, context), present]


def multi_head(parts: Parts) -> Results:
    query, key, value, bias = parts.need(0), parts.given(1), parts.given(2), parts.given(3)
    heads = int(parts.attr("num_heads"))
    _refuse_shared_cache(parts, 8, 9)
    rank = parts.rank(query, "query")
    ready = key is not None and parts.rank(key, "key") == 4
    biases: list[gs.Tensor | None] = [None, None, None]
    if bias is not None:
        biases = list(_cut_bias(parts, bias, query, value, heads))
    if key is None:
        if rank != 5:
            raise Kept("SPK402", "its key is missing, and its query is not packed with it")
        q, k, v = _packed(parts, query, 3, biases)
        source, axis = query, 1
    else:
        q = _head(parts, query, biases[0], heads, "q")
        if value is None:
            k, v = _packed(parts, key, 2, biases[1:])
            source, axis = key, 1
        elif ready:
            k, v, source, axis = key, value, key, 2  # a cache of another attention's keys, biased already
        else:
            k, v = _head(parts, key, biases[1], heads, "k"), _head(parts, value, biases[2], heads, "v")
            source, axis = key, 1
    square = key is None or masks.same_length(query, 1, source, axis)
    past_k, past_v = parts.given(6), parts.given(7)
    if past_k is not None and past_v is not None:
        k = parts.add("Concat", past_k, k, part="all_k", axis=2)
        v = parts.add("Concat", past_v, v, part="all_v", axis=2)
    context, scores = _attend(parts, q, k, v, past_k, source, axis, 4, 5, square=square, query=query)
    return [merge_heads(parts, context), k, v, scores]


def _attend(
    parts: Parts,
    q: gs.Tensor,
    k: gs.Tensor,
    v: gs.Tensor,
    past: gs.Tensor | None,
    source: gs.Tensor,
    axis: int,
    mask: int,
    extra: int,
    *,
    square: bool,
    query: gs.Tensor | None = None,
) -> tuple[gs.Tensor, gs.Tensor]:
    """(context, scores); the new keys are as many as `source` is long along `axis`."""
    asked = query if query is not None else source
    terms: list[gs.Tensor] = []
    padded, added = parts.given(mask), parts.given(extra)
    unidirectional = bool(parts.attr("unidirectional", 0))
    if padded is not None or unidirectional:
        length = extent(parts, asked, 1)
        before, total = masks.new_total(parts, past, source, axis)
        if padded is not None:
            terms.append(masks.padding(parts, padded, q, asked, length, before, total))
        if unidirectional and parts.size(asked, 1) != 1:
            terms.append(masks.causal(parts, q, length, before, total, square))
    if added is not None:
        terms.insert(0, added)
    made = attend(parts, q, k, v, default_scale(parts, parts.size(q, 3)), total_bias(parts, terms))
    return made.context, made.scores


def _head(parts: Parts, x: gs.Tensor, bias: gs.Tensor | None, heads: int, name: str) -> gs.Tensor:
    if bias is not None:
        x = parts.add("Add", x, bias, part=f"{name}_bias")
    return split_heads(parts, x, heads, name)


def _packed(parts: Parts, x: gs.Tensor, count: int, biases: list[gs.Tensor | None]) -> list[gs.Tensor]:
    """`[batch, length, heads, count, head size]` to `count` times `[batch, heads, length, head size]`."""
    names = "qkv"[-count:]
    pieces = parts.add("Split", x, part="packed", outputs=count, axis=3, num_outputs=count)
    made = []
    for piece, bias, name in zip(pieces, biases, names, strict=True):
        piece = parts.add("Squeeze", piece, parts.ints(3), part=f"{name}_piece")
        if bias is not None:
            shape = parts.ints(parts.size(x, 2) or 0, parts.size(x, 4) or -1)
            piece = parts.add(
                "Add", piece, parts.add("Reshape", bias, shape, part=f"{name}_rows"), part=f"{name}_bias"
            )
        made.append(turned(parts, piece, name))
    return made


def _cut_bias(
    parts: Parts, bias: gs.Tensor, query: gs.Tensor, value: gs.Tensor | None, heads: int
) -> list[gs.Tensor]:
    """The biases of query, key and value, which stand one after another."""
    width = parts.size(bias, 0)
    hidden = parts.size(query, -1)
    if hidden and len(query.shape or ()) == 5:
        hidden *= heads
    if not hidden and width and (value is None or len(value.shape or ()) == 5):
        hidden = width // 3
    if not hidden:
        raise Kept("SPK404", "its hidden size is not known, so its bias cannot be cut")
    last = width - 2 * hidden if width else hidden
    return parts.cut(bias, [hidden, hidden, last], "biases")


def _refuse_shared_cache(parts: Parts, *inputs: int) -> None:
    if parts.attr("past_present_share_buffer", 0) or any(parts.given(i) is not None for i in inputs):
        raise Kept("SPK402", "it writes its keys and values into a buffer shared with later runs")


FORMS = {
    ("com.microsoft", "Attention"): attention,
    ("com.microsoft", "MultiHeadAttention"): multi_head,
}
