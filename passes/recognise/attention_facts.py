"""What an attention does to its scores, measured: scale, cap, mask kinds and polarity, heads, cache.

The way from the products to the softmax is evaluated at the nominal input, with probes in place of the
products and the real masks, so that every spelling of a scale or a mask shows as what it computes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import numeric
from spikec.ir.nominal import PADDING, Nominal
from spikec.ir.program import Finding

from .heads import heads_of

MASKED = -1e3
"""A score so far below a row's best is masked: exporters write -1e4, -65504, -3.4e38 or -Inf."""
TOLERANCE = 1e-4
LARGE = 1e6
LARGEST = 1 << 22


def measure(
    nominal: Nominal, attention: Finding, nodes: list[gs.Node], turned: dict[int, gs.Tensor]
) -> dict[str, Any]:
    """The facts of one attention; `unproved` says which could not be measured and why. `turned` are rotated
    values, by id, with what they were before."""
    facts: dict[str, Any] = {
        "scale": None, "softcap": None, "mask": frozenset(), "heads": None, "kv_heads": None,
        "head_size": None, "grouping": None, "past": (), "unproved": (),
    }  # fmt: skip
    facts |= heads_of(nominal, attention)
    missing = [] if facts["heads"] else ["heads: shapes unknown at the nominal input"]
    before = _before(nominal, attention, turned)
    curve = _curve(nominal, attention)
    if curve is None:
        facts["mask"] = frozenset(_spelled(nominal, nodes))
        missing.append("scale and mask: the way from the scores to the softmax cannot be evaluated")
    else:
        scale, cap, still = curve
        facts |= {"scale": None if scale is None else scale * before, "softcap": cap}
        if scale is None:
            missing.append("scale: the scores are changed by more than a scale, a cap and a mask")
        kinds, polarity = _mask(nominal, attention, still, nodes)
        facts |= {"mask": frozenset(kinds or {"none"}), "polarity": polarity}
    facts |= {"masked": bool(facts["mask"] - {"none"}), "unproved": tuple(missing)}
    return facts


def _spelled(nominal: Nominal, nodes: list[gs.Node]) -> set[str]:
    """How a mask is spelled: added to the scores, or chosen instead of them by truth values."""
    kinds = set()
    for node in nodes:
        if node.op == "Where" and not nominal.is_activation(node.inputs[0]):
            kinds.add("bool")
        elif node.op == "Add" and any(not nominal.is_activation(i) for i in node.inputs):
            kinds.add("additive")
    return kinds or {"none"}


def _probe(nominal: Nominal, attention: Finding, values: np.ndarray, stale: int = 0,
           known: dict[int, np.ndarray] | None = None) -> np.ndarray | None:  # fmt: skip
    """What goes into the softmax when the product of queries and keys is `values`, any other 0."""
    known = dict(known or {})
    for finding in attention.facts["more_scores"]:
        shape = nominal.shape(finding.result)
        if shape is None:
            return None
        known[id(finding.result)] = np.zeros(shape, np.float32)
    known[id(attention.facts["scores"].result)] = values
    return nominal.evaluate(attention.facts["softmax"].sources[0], known, stale)


def _curve(nominal: Nominal, attention: Finding) -> tuple[float | None, float | None, np.ndarray] | None:
    """(scale, cap, what the softmax sees of a product of zeros); scale None when it is neither a scale nor
    a cap. A shift of whole rows does not count: the softmax takes it away."""
    shape = nominal.shape(attention.facts["scores"].result)
    if shape is None or math.prod(shape) > LARGEST:
        return None
    seen = _probe(nominal, attention, np.zeros(shape, np.float32))
    if seen is None:
        return None
    pattern = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    still = _like(seen, pattern)
    large = _like(_probe(nominal, attention, np.float32(LARGE) * pattern), pattern)
    if still is None or large is None:
        return None, None, seen.astype(np.float64)
    visible = _visible(still)
    for centred in (False, True):
        x = _apart(pattern.astype(np.float64), visible, centred)
        with np.errstate(invalid="ignore"):
            far = _apart(large - still, visible, centred)
        if x.size == 0 or not np.isfinite(far).all():
            continue
        scale = float((x * far).sum() / (x * x).sum() / LARGE)
        if np.abs(far - scale * LARGE * x).max() <= TOLERANCE * LARGE * max(abs(scale), 1e-6):
            return scale, None, still
    small = _like(_probe(nominal, attention, pattern), pattern)
    if small is None or not visible.any():
        return None, None, still
    x, near = _apart(pattern, visible), _apart(small - still, visible)
    cap = float(np.abs(_apart(large - still, visible)).max())
    slope = float((x * near).sum() / (x * x).sum())
    for _ in range(8 if slope > 0 else 0):  # the slope at zero from the saturating curve itself
        slope *= float((x * near).sum() / max((x * cap * np.tanh(slope * x / cap)).sum(), 1e-30))
    if np.abs(near - cap * np.tanh(slope * x / cap)).max() <= TOLERANCE * np.abs(near).max():
        return slope, cap, still
    return None, None, still


def _visible(scores: np.ndarray) -> np.ndarray:
    """Which keys a query sees: those not far below its best."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.isfinite(scores) & (scores > scores.max(-1, keepdims=True) + MASKED))


def _like(value: np.ndarray | None, pattern: np.ndarray) -> np.ndarray | None:
    """What the softmax sees, without the columns of attention sinks that stand beside the keys."""
    if value is not None and value.ndim == pattern.ndim and value.shape[:-1] == pattern.shape[:-1]:
        value = value[..., : pattern.shape[-1]]
    if value is None or value.size != pattern.size:
        return None
    return value.astype(np.float64).reshape(pattern.shape)


def _apart(values: np.ndarray, visible: np.ndarray, centred: bool = False) -> np.ndarray:
    """The visible values; `centred` takes each row's mean away."""
    if centred:
        rows = np.where(visible, values, 0.0)
        values = values - rows.sum(-1, keepdims=True) / np.maximum(visible.sum(-1, keepdims=True), 1)
    with np.errstate(invalid="ignore"):
        return np.asarray(values[visible])


def _mask(
    nominal: Nominal, attention: Finding, still: np.ndarray, nodes: list[gs.Node]
) -> tuple[set[str], str]:
    """Kinds of mask, and whether a one in the attention mask keeps or hides a token."""
    kinds: set[str] = set()
    hidden = ~_visible(still)
    rows, columns = still.shape[-2:] if still.ndim > 1 else (1, still.shape[-1])
    flat = hidden.reshape(-1, rows, columns)
    common = np.asarray(flat[0] if (flat == flat[:1]).all() else flat.all(0))
    kinds |= _pattern(common)
    visible = still[~hidden]
    if visible.size and np.ptp(visible) > TOLERANCE:
        kinds.add("bias")
    sides = [i for node in nodes for i in node.inputs if not nominal.is_activation(i)]
    given = [m for m in nominal.inputs if nominal.origin(m) & PADDING]
    polarity = ""
    if any(nominal.origin(i) & PADDING for i in sides):
        if any(len(nominal.shape(m) or ()) == 2 for m in given):
            kinds.add("padding")
        polarity = _polarity(nominal, attention, still)
        kinds |= _spelled(nominal, nodes) - {"none"}
    elif hidden.any():
        kinds |= _spelled(nominal, nodes) - {"none"}
    return kinds, polarity


def _pattern(hidden: np.ndarray) -> set[str]:
    """Causal and sliding masks by which keys a query does not see."""
    rows, columns = hidden.shape
    if not hidden.any() or rows < 2:
        return set()
    gap = np.arange(rows)[:, None] + (columns - rows) - np.arange(columns)
    future = gap < 0
    if hidden[future].all() and not hidden[~future].any():
        return {"causal"}
    seen = gap[~hidden]
    if seen.size == 0:
        return set()
    low, high = int(seen.min()), int(seen.max())
    if (hidden == ((gap < low) | (gap > high))).all():
        return {"causal", "sliding"} if low == 0 else {"sliding"}
    return set()


def _polarity(nominal: Nominal, attention: Finding, still: np.ndarray) -> str:
    """Puts zeros into every mask input in the third quarter of the tokens, and looks which keys the last
    quarter's queries do not see any more."""
    known: dict[int, np.ndarray] = {}
    for tensor in nominal.inputs:
        if nominal.origin(tensor) & PADDING and len(nominal.shape(tensor) or ()) == 2:
            values = np.array(nominal.arrays[id(tensor)])
            values[:, values.shape[1] // 2 : -max(1, values.shape[1] // 4)] = 0
            known[id(tensor)] = values
    shape = nominal.shape(attention.facts["scores"].result) or ()
    padded = _probe(nominal, attention, np.zeros(shape, np.float32), PADDING, known) if known else None
    padded = _like(padded, np.zeros(shape, np.float32))
    if padded is None or padded.shape != still.shape or still.ndim < 2:
        return ""
    rows, columns = still.shape[-2:]
    late = [x[..., -min(rows, max(1, columns // 4)) :, :].reshape(-1, columns) for x in (padded, still)]
    hidden, before = (~_visible(x) for x in late)
    gone, back = (hidden & ~before).any(0), (~hidden & before).any(0)
    middle = slice(columns // 2, -max(1, columns // 4))
    if gone[middle].any() and gone.sum() == gone[middle].sum():
        return "one keeps"
    return "one hides" if back.any() or (gone.any() and not gone[middle].any()) else ""


def _before(nominal: Nominal, attention: Finding, turned: dict[int, gs.Tensor]) -> float:
    """The scale that queries and keys bear already: scalars multiplied in on their way to the product, even
    before a rotation."""
    total = 1.0
    for source in attention.facts["scores"].sources:
        tensor = source
        for _ in range(32):
            tensor = turned.get(id(tensor), tensor)
            node = graphs.producer(tensor)
            if node is None:
                break
            data = [i for i in node.inputs if nominal.is_data(i)]
            if node.op in ("Mul", "Div") and len(data) == 1:
                other = next((i for i in node.inputs if i is not data[0]), None)
                value = None if other is None else nominal.value(other)
                if value is None or value.size != 1 or (node.op == "Div" and data[0] is not node.inputs[0]):
                    break
                factor = float(value.reshape(()))
                total *= factor if node.op == "Mul" else 1 / factor
            elif node.op not in numeric.MOVES and node.op not in ("Cast", "Identity"):
                break
            if len(data) != 1:
                break
            tensor = data[0]
    return total
