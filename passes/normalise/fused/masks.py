"""The masks of com.microsoft attentions, as what is added to the scores."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .attend import counted, extent, filled, later, lowest, plus, whole, widened
from .parts import Kept, Parts


def padding(
    parts: Parts,
    mask: gs.Tensor,
    like: gs.Tensor,
    batch: gs.Tensor,
    length: gs.Tensor,
    past: gs.Tensor,
    total: gs.Tensor,
) -> gs.Tensor:
    """What a padding mask of any form adds to scores `[batch, heads, length, total]`. The first axis of
    `batch` is the batch, the others are scalars."""
    fill = float(parts.attr("mask_filter_value", -10000.0))
    rank = parts.rank(mask, "mask")
    if rank == 1:
        return filled(parts, _outside(parts, mask, batch, total), fill, like)
    if rank == 4:
        mask = _window(parts, mask, length, past, total)
    elif rank not in (2, 3):
        raise Kept("SPK402", f"its mask has {rank} dimensions")
    zero = parts.constant(0, parts.dtype(mask))
    kept = parts.once(("kept", id(mask)), lambda: parts.add("Greater", mask, zero, part="kept"))
    if rank < 4:
        kept = widened(parts, kept, *((1, 2) if rank == 2 else (1,)))
    return filled(parts, kept, fill, like, invert=True)


def _outside(parts: Parts, mask: gs.Tensor, batch: gs.Tensor, total: gs.Tensor) -> gs.Tensor:
    """`[batch, 1, 1, total]`, true before the start and from the end on: the mask holds every sequence's end,
    and where it is twice as long as the batch also the starts."""

    def build() -> gs.Tensor:
        columns = widened(parts, counted(parts, total), 0)
        numbers = whole(parts, mask)
        sized, count = parts.size(mask, 0), parts.size(batch, 0)
        same = mask.shape[0] is not None and mask.shape[0] == batch.shape[0]
        known = sized is not None and count is not None and sized != 2 * count
        if same or known:
            ends = numbers if same else _first(parts, numbers, parts.ints(count or 0))
            outside = parts.add("GreaterOrEqual", columns, widened(parts, ends, 1), part="after")
        else:
            rows = parts.add("Shape", batch, part="batch", start=0, end=1)
            ends = _first(parts, numbers, rows)
            # a mask of the batch's own length has no starts: zeros stand for them
            zeros = parts.add("Sub", ends, ends, part="no_starts")
            both = parts.add("Concat", numbers, zeros, part="both", axis=0)
            stop = parts.add("Add", rows, rows, part="twice")
            starts = parts.add("Slice", both, rows, stop, parts.ints(0), part="starts")
            paired = parts.add("Equal", parts.add("Shape", mask, part="mask_size"), stop, part="paired")
            starts = parts.add("Where", paired, starts, parts.ints(0), part="from")
            after = parts.add("GreaterOrEqual", columns, widened(parts, ends, 1), part="after")
            before = parts.add("Less", columns, widened(parts, starts, 1), part="before")
            outside = parts.add("Or", after, before, part="outside")
        return widened(parts, outside, 1, 2)

    return parts.once(("outside", id(mask), id(total)), build)


def _first(parts: Parts, numbers: gs.Tensor, count: gs.Tensor) -> gs.Tensor:
    return parts.add("Slice", numbers, parts.ints(0), count, parts.ints(0), part="ends")


def _window(parts: Parts, mask: gs.Tensor, length: gs.Tensor, past: gs.Tensor, total: gs.Tensor) -> gs.Tensor:
    """The rows and columns that count of a mask `[batch, 1, longest, longest]`."""

    def build() -> gs.Tensor:
        stop = plus(parts, past, length, "stop")
        first, last, end = (widened(parts, value, 0) for value in (past, stop, total))
        starts = parts.add("Concat", first, parts.ints(0), part="starts", axis=0)
        ends = parts.add("Concat", last, end, part="ends", axis=0)
        return parts.add("Slice", mask, starts, ends, parts.ints(2, 3), part="window")

    return parts.once(("window", id(mask), id(length), id(past), id(total)), build)


def causal(
    parts: Parts,
    like: gs.Tensor,
    length: gs.Tensor,
    past: gs.Tensor,
    total: gs.Tensor,
    square: bool,
) -> gs.Tensor:
    """What hides later keys; without `square` (as many new keys as queries) the kernel leaves the last query
    free."""
    hidden = later(parts, length, total, past)
    if not square:
        one = parts.constant(1, np.int64)
        before = plus(parts, length, one, "last", "Sub")

        def build() -> gs.Tensor:
            early = parts.add("Less", widened(parts, counted(parts, length), 1), before, part="early")
            return parts.add("And", hidden, early, part="hidden")

        hidden = parts.once(("early", id(hidden)), build)
    return filled(parts, hidden, lowest(parts, like), like)


def zero(parts: Parts) -> gs.Tensor:
    return parts.constant(0, np.int64)


def same_length(a: gs.Tensor, axis_a: int, b: gs.Tensor, axis_b: int) -> bool:
    """Whether two dimensions are known to be one, by size or by name."""
    if a is b and axis_a == axis_b:
        return True
    if a.shape is None or b.shape is None:
        return False
    one, other = a.shape[axis_a], b.shape[axis_b]
    return one is not None and one == other


def new_total(parts: Parts, past: gs.Tensor | None, new: gs.Tensor, axis: int) -> tuple[gs.Tensor, gs.Tensor]:
    """(keys of the past, all keys) as scalars; `past` is `[batch, heads, length, head size]`."""
    fresh = extent(parts, new, axis)
    if past is None:
        return zero(parts), fresh
    before = extent(parts, past, 2)
    return before, plus(parts, before, fresh, "total")
