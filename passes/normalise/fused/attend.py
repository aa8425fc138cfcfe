"""What every fused attention is made of: heads, positions, masks, and the eager attention itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from .parts import Kept, Parts

END = int(np.iinfo(np.int64).max)


@dataclass
class Attended:
    """The context `[batch, heads, length, head size]` and what it was made of."""

    context: gs.Tensor
    raw: gs.Tensor
    capped: gs.Tensor
    scores: gs.Tensor
    weights: gs.Tensor


def lowest(parts: Parts, tensor: gs.Tensor) -> float:
    """The most negative finite number of the tensor's type: what a hidden score gets."""
    kind = parts.dtype(tensor)
    return float(np.finfo(kind).min) if kind.kind == "f" else -3.3895314e38


def split_heads(parts: Parts, x: gs.Tensor, count: int, part: str) -> gs.Tensor:
    """`[batch, length, hidden]` to `[batch, heads, length, head size]`."""
    return turned(parts, apart(parts, x, count, part), part)


def apart(parts: Parts, x: gs.Tensor, count: int, part: str) -> gs.Tensor:
    """`[batch, length, hidden]` to `[batch, length, heads, head size]`."""
    hidden = parts.size(x, -1)
    size = hidden // count if hidden else -1
    return parts.add("Reshape", x, parts.ints(0, 0, count, size), part=f"{part}_heads")


def turned(parts: Parts, x: gs.Tensor, part: str) -> gs.Tensor:
    return parts.add("Transpose", x, part=part, perm=[0, 2, 1, 3])


def merge_heads(parts: Parts, x: gs.Tensor) -> gs.Tensor:
    """`[batch, heads, length, head size]` to `[batch, length, hidden]`."""
    back = turned(parts, x, "back")
    count, size = parts.size(x, 1), parts.size(x, 3)
    hidden = count * size if count and size else -1
    return parts.add("Reshape", back, parts.ints(0, 0, hidden), part="joined")


def repeat_heads(parts: Parts, x: gs.Tensor, times: int, heads: int, part: str) -> gs.Tensor:
    """Every key or value head serves `times` query heads, as exporters spell it."""
    if times == 1:
        return x
    alone = parts.add("Unsqueeze", x, parts.ints(2), part=f"{part}_alone")
    copies = parts.add("Expand", alone, parts.ints(1, 1, times, 1, 1), part=f"{part}_copies")
    size = parts.size(x, 3) or -1
    length = -1 if size != -1 else 0
    if size == -1:
        raise Kept("SPK404", "the size of its heads is not known")
    return parts.add("Reshape", copies, parts.ints(0, heads, length, size), part=f"{part}_repeated")


def default_scale(parts: Parts, size: int | None) -> float:
    """The scale named by the node, or 1 / sqrt(head size)."""
    scale = parts.attr("scale", 0.0)
    if scale:
        return float(scale)
    if not size:
        raise Kept("SPK404", "the size of its heads is not known, and it names no scale")
    return float(size) ** -0.5


def extent(parts: Parts, tensor: gs.Tensor, axis: int) -> gs.Tensor:
    """A dimension as an int64 scalar: a constant when it is known."""
    known = parts.size(tensor, axis)
    if known is not None:
        return parts.constant(known, np.int64)

    def read() -> gs.Tensor:
        shape = parts.once(("shape", id(tensor)), lambda: parts.add("Shape", tensor, part="shape"))
        return parts.add("Gather", shape, parts.constant(axis, np.int64), part="extent", axis=0)

    return parts.once(("extent", id(tensor), axis), read)


def plus(parts: Parts, left: gs.Tensor, right: gs.Tensor, part: str, op: str = "Add") -> gs.Tensor:
    """A sum (or another operator) of integers, folded when both are constant; shared."""
    if isinstance(left, gs.Constant) and isinstance(right, gs.Constant) and op in ("Add", "Sub"):
        a, b = int(left.values), int(right.values)
        return parts.constant(a + b if op == "Add" else a - b, np.int64)
    return parts.once((op, id(left), id(right)), lambda: parts.add(op, left, right, part=part))


def counted(parts: Parts, count: gs.Tensor) -> gs.Tensor:
    """0, 1, ... `count` - 1."""
    zero, one = parts.constant(0, np.int64), parts.constant(1, np.int64)
    return parts.once(("range", id(count)), lambda: parts.add("Range", zero, count, one, part="range"))


def widened(parts: Parts, x: gs.Tensor, *axes: int, part: str = "wide") -> gs.Tensor:
    return parts.once(
        ("unsqueeze", id(x), axes), lambda: parts.add("Unsqueeze", x, parts.ints(*axes), part=part)
    )


def whole(parts: Parts, x: gs.Tensor) -> gs.Tensor:
    """Integers as int64, whatever they come in."""
    if parts.dtype(x) == np.int64:
        return x
    return parts.once(("int64", id(x)), lambda: parts.add("Cast", x, part="whole", to=7))


def later(parts: Parts, length: gs.Tensor, total: gs.Tensor, offset: gs.Tensor) -> gs.Tensor:
    """`[length, total]`, true where a key stands after its query, which stands `offset` keys in."""

    def build() -> gs.Tensor:
        rows = counted(parts, length)
        if not (isinstance(offset, gs.Constant) and int(offset.values) == 0):
            rows = plus(parts, rows, offset, "row")
        return parts.add(
            "Greater", widened(parts, counted(parts, total), 0), widened(parts, rows, 1), part="later"
        )

    return parts.once(("later", id(length), id(total), id(offset)), build)


def filled(parts: Parts, where: gs.Tensor, value: float, like: gs.Tensor, invert: bool = False) -> gs.Tensor:
    """`value` where the mask is true (or false, with `invert`), 0 elsewhere."""
    zero, fill = parts.like(0.0, like), parts.like(value, like)
    first, second = (zero, fill) if invert else (fill, zero)
    return parts.once(
        ("filled", id(where), value, invert, parts.dtype(like)),
        lambda: parts.add("Where", where, first, second, part="mask"),
    )


def total_bias(parts: Parts, terms: Sequence[gs.Tensor]) -> gs.Tensor | None:
    """The sum of what is added to the scores; layers that are given the same masks share it."""
    if not terms:
        return None
    result = terms[0]
    for term in terms[1:]:
        result = plus(parts, result, term, "bias")
    return result


def attend(
    parts: Parts,
    q: gs.Tensor,
    k: gs.Tensor,
    v: gs.Tensor,
    scale: float,
    bias: gs.Tensor | None = None,
    softcap: float = 0.0,
    dead: gs.Tensor | None = None,
    sink: gs.Tensor | None = None,
    precision: int = 0,
) -> Attended:
    """softmax(cap(q kᵀ scale) + bias) v of `[batch, heads, length, head size]`. Rows that are `dead` (every
    key hidden) give zero; a `sink` is one more score of each head, for no value."""
    across = parts.add("Transpose", k, part="turned", perm=[0, 1, 3, 2])
    product = parts.add("MatMul", q, across, part="qk")
    raw = parts.add("Mul", product, parts.like(scale, q), part="scaled")
    capped = raw
    if softcap > 0:
        ratio = parts.add("Div", raw, parts.like(softcap, q), part="ratio")
        capped = parts.add(
            "Mul", parts.add("Tanh", ratio, part="tanh"), parts.like(softcap, q), part="capped"
        )
    scores = capped if bias is None else parts.add("Add", capped, bias, part="scores")
    weights = _softmax(parts, scores, sink, precision)
    if dead is not None:
        weights = parts.add("Where", dead, parts.like(0.0, q), weights, part="alive")
    return Attended(parts.add("MatMul", weights, v, part="av"), raw, capped, scores, weights)


def _softmax(parts: Parts, scores: gs.Tensor, sink: gs.Tensor | None, precision: int) -> gs.Tensor:
    kind = parts.dtype(scores)
    if sink is not None:
        shape = parts.add("Shape", scores, part="scores_shape", start=0, end=3)
        ends = parts.add("Concat", shape, parts.ints(1), part="sink_shape", axis=0)
        spread = parts.add("Expand", sink, ends, part="sink")
        scores = parts.add("Concat", scores, spread, part="with_sink", axis=-1)
    if precision == 1 and kind.itemsize == 2:
        wide = parts.add("Cast", scores, part="wide_scores", to=1)
        weights = parts.add("Softmax", wide, part="softmax", axis=-1)
        weights = parts.add("Cast", weights, part="weights", to=10 if kind == np.float16 else 16)
    else:
        weights = parts.add("Softmax", scores, part="softmax", axis=-1)
    if sink is not None:
        weights = parts.add(
            "Slice", weights, parts.ints(0), parts.ints(-1), parts.ints(-1), part="without_sink"
        )
    return weights
