"""ai.onnx Attention (opset 23 on), in three or four dimensions, with its caches, masks and windows."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .attend import (
    attend,
    counted,
    default_scale,
    extent,
    filled,
    lowest,
    merge_heads,
    plus,
    repeat_heads,
    split_heads,
    widened,
)
from .masks import new_total
from .parts import Kept, Parts, Results


def standard(parts: Parts) -> Results:
    q, k, v = (parts.need(i) for i in range(3))
    flat = parts.rank(q, "query") == 3
    if flat:
        counts = int(parts.attr("q_num_heads")), int(parts.attr("kv_num_heads"))
        q = split_heads(parts, q, counts[0], "q")
        k, v = split_heads(parts, k, counts[1], "k"), split_heads(parts, v, counts[1], "v")
    heads, shared = parts.size(q, 1), parts.size(k, 1)
    if not heads or not shared:
        raise Kept("SPK404", "the number of its heads is not known")
    past_k, past_v = parts.given(4), parts.given(5)
    new = k
    if past_k is not None and past_v is not None:
        k = parts.add("Concat", past_k, k, part="all_k", axis=2)
        v = parts.add("Concat", past_v, v, part="all_v", axis=2)
    keys, values = (repeat_heads(parts, t, heads // shared, heads, n) for t, n in ((k, "k"), (v, "v")))
    bias, dead = _bias(parts, q, new, past_k)
    made = attend(
        parts,
        q,
        keys,
        values,
        default_scale(parts, parts.size(q, 3)),
        bias,
        softcap=float(parts.attr("softcap", 0.0)),
        dead=dead,
        precision=int(parts.attr("softmax_precision", 0)),
    )
    modes = (made.raw, made.capped, made.scores, made.weights)
    mode = int(parts.attr("qk_matmul_output_mode", 0))
    result = merge_heads(parts, made.context) if flat else made.context
    return [result, k, v, modes[mode]]


def _bias(
    parts: Parts, q: gs.Tensor, new: gs.Tensor, past: gs.Tensor | None
) -> tuple[gs.Tensor | None, gs.Tensor | None]:
    """(what is added to the scores, where a query sees no key at all)."""
    mask = parts.given(3)
    seen = _seen(parts, q, new, past)
    if mask is None and seen is None:
        return None, None
    low = lowest(parts, q)
    if mask is not None:
        mask = _full(parts, mask, q, new)
        if parts.dtype(mask) == np.bool_:
            seen = mask if seen is None else plus(parts, mask, seen, "seen", "And")
            mask = None
    bias: gs.Tensor
    if mask is None:
        assert seen is not None
        bias = filled(parts, seen, low, q, invert=True)
    elif seen is None:
        bias = mask
    else:
        given, allowed = mask, seen
        bias = parts.once(
            ("masked", id(mask), id(seen)),
            lambda: parts.add("Where", allowed, given, parts.like(low, q), part="bias"),
        )
    if parts.given(3) is None and parts.given(6) is None:
        return bias, None  # causal alone: a query sees itself

    def find() -> gs.Tensor:
        best = parts.add("ReduceMax", bias, parts.ints(-1), part="best", keepdims=1)
        return parts.add("LessOrEqual", best, parts.like(low, q), part="dead")

    return bias, parts.once(("dead", id(bias)), find)


def _full(parts: Parts, mask: gs.Tensor, q: gs.Tensor, new: gs.Tensor) -> gs.Tensor:
    """A mask that ends before the keys do hides the rest."""
    have, need = parts.size(mask, -1), parts.size(new, 2)
    if have is None or need is None or parts.given(4) is not None or have in (1, need):
        return mask
    rest = [0] * parts.rank(mask, "mask")
    ends = parts.ints(*rest, *rest[:-1], need - have)
    if parts.dtype(mask) == np.bool_:
        return parts.add("Pad", mask, ends, parts.constant(False, np.bool_), part="mask_whole")
    return parts.add("Pad", mask, ends, parts.like(lowest(parts, q), q), part="mask_whole")


def _seen(parts: Parts, q: gs.Tensor, new: gs.Tensor, past: gs.Tensor | None) -> gs.Tensor | None:
    """True where causality, the windows and the number of valid keys let a query see a key; None when they
    all do."""
    causal = bool(parts.attr("is_causal", 0))
    left, right = int(parts.attr("left_window_size", -1)), int(parts.attr("right_window_size", -1))
    if causal:
        right = 0 if right < 0 else min(right, 0)
    valid = parts.given(6)
    if left < 0 and right < 0 and valid is None:
        return None
    length = extent(parts, q, 2)
    before, total = new_total(parts, past, new, 2)

    def build() -> gs.Tensor:
        columns = widened(parts, counted(parts, total), 0)
        tests = []
        rows = widened(parts, counted(parts, length), 1)
        if valid is not None:
            count = parts.add("Reshape", valid, parts.ints(-1, 1, 1, 1), part="valid")
            tests.append(parts.add("Less", columns, count, part="is_valid"))
            rows = parts.add("Add", rows, parts.add("Sub", count, length, part="offset"), part="row")
        elif past is not None:
            rows = plus(parts, rows, before, "row")
        if right >= 0:
            edge = (
                rows if right == 0 else parts.add("Add", rows, parts.constant(right, np.int64), part="right")
            )
            tests.append(parts.add("LessOrEqual", columns, edge, part="not_later"))
        if left >= 0:
            edge = parts.add("Sub", rows, parts.constant(left, np.int64), part="left")
            tests.append(parts.add("GreaterOrEqual", columns, edge, part="not_far"))
        result = tests[0]
        for test in tests[1:]:
            result = parts.add("And", result, test, part="seen")
        return result

    return parts.once(("seen", id(length), id(before), id(total), left, right, id(valid)), build)


FORMS = {("", "Attention"): standard}
