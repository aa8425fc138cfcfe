"""com.microsoft GroupQueryAttention: few key heads, a ragged cache, rotation and windows inside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from . import rotary
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
    total_bias,
    whole,
    widened,
)
from .norms import rms_norm
from .parts import Kept, Parts, Results


@dataclass
class Lengths:
    """int64 values; `past` is 0 without a cache, else `[batch, 1]`: keys that stand before the new ones."""

    new: gs.Tensor
    past: gs.Tensor
    total: gs.Tensor
    cached: bool


def group_query(parts: Parts) -> Results:
    if parts.attr("sliding_window_cache", 0):
        raise Kept("SPK402", "its cache holds only a window, and drops keys by itself")
    if any(parts.given(i) is not None for i in (12, 13)):
        raise Kept("SPK402", "its cache is quantised")
    heads, shared = int(parts.attr("num_heads")), int(parts.attr("kv_num_heads"))
    q, k, v = _projections(parts, heads, shared)
    source = parts.need(0)
    lengths = _lengths(parts, source)
    if parts.given(14) is not None and parts.given(15) is not None:
        epsilon = float(parts.attr("qk_norm_epsilon", 1e-6))
        q = rms_norm(parts, q, parts.need(14), epsilon, "q_norm")[0]
        k = rms_norm(parts, k, parts.need(15), epsilon, "k_norm")[0]
    if parts.attr("do_rotary", 0):
        q, k = _rotated(parts, q, k, lengths)
    present_k, present_v, k, v = _with_past(parts, k, v, lengths)
    keys, values = (repeat_heads(parts, t, heads // shared, heads, n) for t, n in ((k, "k"), (v, "v")))
    hidden = _hidden(parts, lengths)
    terms = [parts.need(10)] if parts.given(10) is not None else []
    if hidden is not None:
        terms.append(filled(parts, hidden, lowest(parts, q), q))
    made = attend(
        parts,
        q,
        keys,
        values,
        default_scale(parts, parts.size(q, 3)),
        total_bias(parts, terms),
        softcap=float(parts.attr("softcap", 0.0)),
        sink=_sink(parts, q),
    )
    scores = None
    if parts.wanted(3):
        mode = int(parts.attr("qk_output", 0))
        if mode not in (1, 2):
            raise Kept("SPK403", f"its output 3 is read, in the unknown mode {mode}")
        scores = made.weights if mode == 2 else made.raw
        if mode == 1:
            scores = (
                made.scores
                if hidden is None
                else parts.add("Where", hidden, parts.like(0.0, q), made.scores, part="seen_scores")
            )
    return [merge_heads(parts, made.context), present_k, present_v, scores]


def _projections(parts: Parts, heads: int, shared: int) -> list[gs.Tensor]:
    query, key, value = parts.need(0), parts.given(1), parts.given(2)
    if key is None or value is None:
        width = parts.size(query, -1)
        if not width:
            raise Kept("SPK404", "its packed width is not known")
        size = width // (heads + 2 * shared)
        sizes = parts.ints(heads * size, shared * size, shared * size)
        query, key, value = parts.add("Split", query, sizes, part="qkv_parts", outputs=3, axis=-1)
    return [
        split_heads(parts, tensor, count, name)
        for tensor, count, name in ((query, heads, "q"), (key, shared, "k"), (value, shared, "v"))
    ]


def _lengths(parts: Parts, source: gs.Tensor) -> Lengths:
    """A sequence's past is what its length (input 5: less one) leaves before the new tokens; a prompt, even a
    padded one, has none."""
    new = extent(parts, source, 1)
    cached = parts.given(3) is not None
    if not cached:
        return Lengths(new, parts.constant(0, np.int64), new, False)

    def past() -> gs.Tensor:
        ends = parts.add("Reshape", whole(parts, parts.need(5)), parts.ints(-1, 1), part="last")
        old = parts.add("Sub", plus(parts, ends, parts.ints(1), "ends"), new, part="old")
        return parts.add("Max", old, parts.constant(0, np.int64), part="past")

    total = parts.once(
        ("total", id(parts.need(6))),
        lambda: parts.add("Reshape", whole(parts, parts.need(6)), parts.constant([], np.int64), part="total"),
    )
    return Lengths(new, parts.once(("past", id(parts.need(5)), id(new)), past), total, True)


def _rotated(parts: Parts, q: gs.Tensor, k: gs.Tensor, lengths: Lengths) -> tuple[gs.Tensor, gs.Tensor]:
    cos, sin = parts.need(7), parts.need(8)
    half = parts.size(cos, -1) or parts.size(sin, -1)
    if not half:
        raise Kept("SPK404", "how many channels it rotates is not known")
    rows = [rotary.looked_up(parts, table, _positions(parts, lengths)) for table in (cos, sin)]
    interleaved = bool(parts.attr("rotary_interleaved", 0))
    turned = [
        rotary.rotate(parts, t, rows[0], rows[1], 2 * half, name, interleaved=interleaved, head_axis=1)
        for t, name in ((q, "q"), (k, "k"))
    ]
    return turned[0], turned[1]


def _positions(parts: Parts, lengths: Lengths) -> gs.Tensor:
    """`[batch or 1, length]`: after the past; or as given, though a prompt only counts on from the first."""
    steps = widened(parts, counted(parts, lengths.new), 0)
    own = plus(parts, lengths.past, steps, "positions") if lengths.cached else steps
    given = parts.given(9)
    if given is None:
        return own

    def build() -> gs.Tensor:
        first = parts.add("Slice", given, parts.ints(0, 0), parts.ints(1, 1), parts.ints(0, 1), part="first")
        onward = parts.add("Add", first, steps, part="onward")
        if not lengths.cached:
            return onward
        prompt = parts.add("Equal", lengths.total, lengths.new, part="prompt")
        return parts.add("Where", prompt, onward, given, part="chosen")

    return parts.once(("given positions", id(given), id(lengths.total), id(lengths.new)), build)


def _with_past(
    parts: Parts, k: gs.Tensor, v: gs.Tensor, lengths: Lengths
) -> tuple[gs.Tensor, gs.Tensor, gs.Tensor, gs.Tensor]:
    """(present key, present value, keys, values): new ones stand right after each sequence's own past, and a
    cache that is longer than all tokens stays as long."""
    if not lengths.cached:
        return k, v, k, v
    buffer = parts.need(3)
    room = extent(parts, buffer, 2)
    longest = plus(parts, lengths.total, room, "longest", "Max")
    key = (id(lengths.past), id(longest), id(room), id(lengths.new))

    def index() -> gs.Tensor:
        slots = widened(parts, counted(parts, longest), 0)
        old = parts.add("Less", slots, lengths.past, part="is_old")
        moved = parts.add("Add", parts.add("Sub", slots, lengths.past, part="step"), room, part="moved")
        place = parts.add("Where", old, slots, moved, part="place")
        place = parts.add("Where", written(), place, parts.constant(0, np.int64), part="row")
        return parts.add("Unsqueeze", place, parts.ints(2), part="rows")

    def written() -> gs.Tensor:
        def build() -> gs.Tensor:
            end = plus(parts, lengths.past, lengths.new, "end")
            return parts.add("Less", widened(parts, counted(parts, longest), 0), end, part="written")

        return parts.once(("written", *key), build)

    rows = parts.once(("rows", *key), index)
    kept = widened(parts, written(), 1, 3)
    presents, all_rows = [], []
    stop = widened(parts, lengths.total, 0)
    for past, new, name in ((buffer, k, "k"), (parts.need(4), v, "v")):
        joined = parts.add("Concat", past, new, part=f"all_{name}", axis=2)
        first = parts.add("Transpose", joined, part=f"{name}_first", perm=[0, 2, 1, 3])
        found = parts.add("GatherND", first, rows, part=f"{name}_found", batch_dims=1)
        back = parts.add("Transpose", found, part=f"{name}_found_back", perm=[0, 2, 1, 3])
        back.shape = [joined.shape[0], joined.shape[1], None, joined.shape[3]] if joined.shape else None
        present = parts.add("Where", kept, back, parts.like(0.0, new), part=f"present_{name}")
        presents.append(present)
        all_rows.append(parts.add("Slice", present, parts.ints(0), stop, parts.ints(2), part=f"seen_{name}"))
    return presents[0], presents[1], all_rows[0], all_rows[1]


def _hidden(parts: Parts, lengths: Lengths) -> gs.Tensor | None:
    """`[batch or 1, 1, length, total]` or `[length, total]`, true where a query does not see a key."""
    window, is_causal = int(parts.attr("local_window_size", -1)), bool(parts.attr("causal", 1))
    source = parts.need(0)

    def build() -> gs.Tensor:
        keys = widened(parts, counted(parts, lengths.total), 0)
        if not is_causal:
            ends = parts.add("Reshape", whole(parts, parts.need(5)), parts.ints(-1, 1, 1, 1), part="last")
            return parts.add("Greater", keys, ends, part="hidden")
        steps = widened(parts, counted(parts, lengths.new), 1)
        if lengths.cached:
            steps = parts.add("Add", widened(parts, lengths.past, 2), steps, part="row")
            steps = parts.add("Unsqueeze", steps, parts.ints(1), part="rows_wide")
        hidden = parts.add("Greater", keys, steps, part="later")
        if window > 0:
            edge = parts.add("Sub", steps, parts.constant(window, np.int64), part="edge")
            hidden = parts.add("Or", hidden, parts.add("LessOrEqual", keys, edge, part="far"), part="hidden")
        return hidden

    if is_causal and not lengths.cached and window <= 0 and parts.size(source, 1) == 1:
        return None
    return parts.once(
        ("hidden", is_causal, window, id(lengths.new), id(lengths.past), id(lengths.total))
        + (() if is_causal else (id(parts.need(5)),)),
        build,
    )


def _sink(parts: Parts, q: gs.Tensor) -> gs.Tensor | None:
    """`[1, heads, 1, 1]`: one more score of each head (0 for the smooth softmax), or None."""
    sink = parts.given(11)
    if sink is not None:
        return parts.add("Reshape", sink, parts.ints(1, -1, 1, 1), part="sink_scores")
    if parts.attr("smooth_softmax", 0) == 1:
        return parts.constant(np.zeros((1, 1, 1, 1)), parts.dtype(q))
    return None


FORMS = {("com.microsoft", "GroupQueryAttention"): group_query}
