"""Rotary embedding, com.microsoft's and ai.onnx's, as exporters spell it: x·cos + turned(x)·sin."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .attend import END, apart, counted, extent, plus, whole, widened
from .parts import Kept, Parts, Results


def rotate(
    parts: Parts,
    x: gs.Tensor,
    cos: gs.Tensor,
    sin: gs.Tensor,
    size: int,
    part: str,
    *,
    interleaved: bool,
    head_axis: int,
) -> gs.Tensor:
    """Turns the first `size` channels of every head by angles `[batch or 1, length, size / 2]`; `x` has four
    dimensions, and its heads along `head_axis`, 1 or 2."""
    channels = parts.size(x, 3)
    rest = None
    if channels != size:
        if not channels:
            raise Kept("SPK404", "the size of its heads is not known")
        sizes = parts.ints(size, channels - size)
        x, rest = parts.add("Split", x, sizes, part=f"{part}_parts", outputs=2, axis=-1)
    cos, sin = (_spread(parts, angle, interleaved, head_axis) for angle in (cos, sin))
    turned = _interleaved(parts, x, size, part) if interleaved else _halves(parts, x, size, part)
    straight = parts.add("Mul", x, cos, part=f"{part}_cos")
    across = parts.add("Mul", turned, sin, part=f"{part}_sin")
    result = parts.add("Add", straight, across, part=f"{part}_rope")
    if rest is not None:
        result = parts.add("Concat", result, rest, part=f"{part}_whole", axis=-1)
    return result


def _spread(parts: Parts, angle: gs.Tensor, interleaved: bool, head_axis: int) -> gs.Tensor:
    """Angles of half the channels to all of them, with an axis for the heads."""

    def build() -> gs.Tensor:
        if interleaved:
            alone = parts.add("Unsqueeze", angle, parts.ints(3), part="angle_alone")
            pairs = parts.add("Concat", alone, alone, part="angle_pairs", axis=-1)
            full = parts.add("Reshape", pairs, parts.ints(0, 0, -1), part="angles")
        else:
            full = parts.add("Concat", angle, angle, part="angles", axis=-1)
        return parts.add("Unsqueeze", full, parts.ints(head_axis), part="angles_wide")

    return parts.once(("angles", id(angle), interleaved, head_axis), build)


def _halves(parts: Parts, x: gs.Tensor, size: int, part: str) -> gs.Tensor:
    half, last = parts.ints(size // 2), parts.ints(-1)
    low = parts.add("Slice", x, parts.ints(0), half, last, part=f"{part}_low")
    high = parts.add("Slice", x, half, parts.ints(END), last, part=f"{part}_high")
    minus = parts.add("Neg", high, part=f"{part}_minus")
    return parts.add("Concat", minus, low, part=f"{part}_turned", axis=-1)


def _interleaved(parts: Parts, x: gs.Tensor, size: int, part: str) -> gs.Tensor:
    end, last, two = parts.ints(END), parts.ints(-1), parts.ints(2)
    even = parts.add("Slice", x, parts.ints(0), end, last, two, part=f"{part}_even")
    odd = parts.add("Slice", x, parts.ints(1), end, last, two, part=f"{part}_odd")
    minus = parts.add("Neg", odd, part=f"{part}_minus")
    pair = [parts.add("Unsqueeze", t, parts.ints(4), part=f"{part}_alone") for t in (minus, even)]
    both = parts.add("Concat", *pair, part=f"{part}_pairs", axis=-1)
    return parts.add("Reshape", both, parts.ints(0, 0, 0, size), part=f"{part}_turned")


def looked_up(parts: Parts, table: gs.Tensor, positions: gs.Tensor) -> gs.Tensor:
    """Rows of a table of angles, shared by all who look up the same."""
    return parts.once(
        ("angle rows", id(table), id(positions)),
        lambda: parts.add("Gather", table, positions, part="angle", axis=0),
    )


def _embed(parts: Parts, x: gs.Tensor, cos: gs.Tensor, sin: gs.Tensor, heads: int) -> gs.Tensor:
    """`cos` and `sin` are `[batch or 1, length, half]`."""
    rank = parts.rank(x, "input")
    half = parts.size(cos, -1) or parts.size(sin, -1)
    size = int(parts.attr("rotary_embedding_dim", 0)) or (2 * half if half else 0)
    if not size:
        raise Kept("SPK404", "how many channels it rotates is not known")
    interleaved = bool(parts.attr("interleaved", 0))
    if rank == 4:
        return rotate(parts, x, cos, sin, size, "x", interleaved=interleaved, head_axis=1)
    if rank != 3:
        raise Kept("SPK402", f"its input has {rank} dimensions, not 3 or 4")
    hidden = parts.size(x, -1)
    if not heads and hidden:
        heads = hidden // size  # only a full rotation may leave the number of heads out
    if not heads:
        raise Kept("SPK404", "the number of its heads is not known")
    parted = apart(parts, x, heads, "x")
    turned = rotate(parts, parted, cos, sin, size, "x", interleaved=interleaved, head_axis=2)
    return parts.add("Reshape", turned, parts.ints(0, 0, hidden or -1), part="joined")


def microsoft(parts: Parts) -> Results:
    if parts.attr("is_packed_batching", 0):
        raise Kept("SPK402", "its batch is packed without padding")
    x, positions, cos, sin = (parts.need(i) for i in range(4))
    if parts.rank(positions, "position_ids") == 1:
        rank = parts.rank(x, "input")
        length = extent(parts, x, 1 if rank == 3 else 2)
        positions = plus(parts, counted(parts, length), whole(parts, positions), "position")
        positions = widened(parts, positions, 0, part="positions")
    rows = [looked_up(parts, table, positions) for table in (cos, sin)]
    return [_embed(parts, x, rows[0], rows[1], int(parts.attr("num_heads", 0)))]


def standard(parts: Parts) -> Results:
    """ai.onnx 23. A cache of batch 1 serves any batch here, though ONNX Runtime's kernel refuses it."""
    x, cos, sin, positions = parts.need(0), parts.need(1), parts.need(2), parts.given(3)
    if positions is not None:
        cos, sin = (looked_up(parts, table, positions) for table in (cos, sin))
    return [_embed(parts, x, cos, sin, int(parts.attr("num_heads", 0)))]


def three_streams(parts: Parts) -> Results:
    """com.microsoft MRotaryEmbedding: positions `[3, batch, length]` (time, height, width), each for its own
    channels."""
    if parts.attr("is_packed_batching", 0):
        raise Kept("SPK402", "its batch is packed without padding")
    x, positions, cos, sin = (parts.need(i) for i in range(4))
    _, tall, wide = sections = [int(size) for size in parts.attr("mrope_section")]
    channel = np.arange(sum(sections))
    if parts.attr("mrope_layout", 0):
        of = [channel % 3 == stream for stream in range(3)]
        chosen = [of[1] & (channel < 3 * tall), of[2] & (channel < 3 * wide)]
    else:
        ends = np.cumsum(sections)
        chosen = [(ends[0] <= channel) & (channel < ends[1]), ends[1] <= channel]

    def own(table: gs.Tensor) -> gs.Tensor:
        rows = looked_up(parts, table, positions)
        streams = parts.add("Split", rows, part="streams", outputs=3, axis=0, num_outputs=3)
        mixed, *rest = (parts.add("Squeeze", s, parts.ints(0), part="stream") for s in streams)
        for stream, where in zip(rest, chosen):
            mixed = parts.add("Where", parts.constant(where, np.bool_), stream, mixed, part="mixed")
        return mixed

    key = (id(positions), tuple(sections), bool(parts.attr("mrope_layout", 0)))
    rows = [parts.once(("streams", id(t), *key), lambda t=t: own(t)) for t in (cos, sin)]  # type: ignore[misc]
    return [_embed(parts, x, rows[0], rows[1], int(parts.attr("num_heads", 0)))]


def gemma(parts: Parts) -> Results:
    """com.microsoft GemmaRotaryEmbedding: angles, two values and what their halves turned give."""
    angle = parts.need(0)
    cos, sin = (
        parts.add("Unsqueeze", parts.add(op, angle, part=op.lower()), parts.ints(1), part="wide")
        for op in ("Cos", "Sin")
    )
    results: list[gs.Tensor] = []
    for index, name in ((1, "q"), (3, "k")):
        straight = parts.add("Mul", parts.need(index), cos, part=f"{name}_cos")
        across = parts.add("Mul", parts.need(index + 1), sin, part=f"{name}_sin")
        results.append(parts.add("Add", straight, across, part=f"{name}_rope"))
    return results


FORMS = {
    ("com.microsoft", "RotaryEmbedding"): microsoft,
    ("com.microsoft", "MRotaryEmbedding"): three_streams,
    ("com.microsoft", "GemmaRotaryEmbedding"): gemma,
    ("", "RotaryEmbedding"): standard,
}
