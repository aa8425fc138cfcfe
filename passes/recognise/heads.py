"""Query heads, key heads and their size in an attention, told from sizes and by sending indices through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import numeric
from spikec.ir.nominal import Nominal
from spikec.ir.program import Finding

LARGEST = 1 << 22
"""Elements of keys worth sending indices through."""


def heads_of(nominal: Nominal, attention: Finding) -> dict[str, Any]:
    """Query heads, key heads, head size and how the ones are mapped to the others, from sizes and indices."""
    scores = attention.facts["scores"]
    shapes = [nominal.shape(source) for source in scores.sources]
    if None in shapes or any(len(s) < 2 for s in shapes if s):
        return {}
    q, k = scores.sources
    size = shapes[0][-1]  # type: ignore[index]
    out: dict[str, Any] = {"head_size": size}
    queries = _tokens(nominal, q)
    narrow, past = _narrowest(nominal, k)
    if queries:
        out["heads"] = math.prod(shapes[0]) // (size * queries)  # type: ignore[arg-type]
    keys = shapes[1][-1]  # type: ignore[index]
    shape = nominal.shape(narrow)
    if shape is not None and queries and out["heads"]:
        batch = max(1, queries // max(1, _rows(nominal, scores, out["heads"])))
        out["kv_heads"] = max(1, math.prod(shape) // (size * keys * batch))
        out["grouping"] = _grouping(nominal, narrow, k, out["heads"], out["kv_heads"])
    out["past"] = past
    return out


def _rows(nominal: Nominal, scores: Finding, heads: int) -> int:
    """Queries of one sequence: rows of a score matrix, heads apart."""
    shape = nominal.shape(scores.result) or (1, 1)
    lead = math.prod(shape[:-2])
    return max(1, shape[-2] if lead % heads == 0 else shape[-2] * lead // heads)


def _tokens(nominal: Nominal, tensor: gs.Tensor) -> int | None:
    """Tokens (of all sequences) behind a queries' tensor: rows of the product that made it."""
    for _ in range(256):
        node = graphs.producer(tensor)
        if node is None:
            shape = nominal.shape(tensor)
            return math.prod(shape[:-1]) if shape else None
        if node.op in ("MatMul", "Gemm", "Conv"):
            shape = nominal.shape(node.outputs[0])
            channels = 1 if node.op == "Conv" else -1
            return math.prod(shape) // shape[channels] if shape else None
        data = [i for i in node.inputs if nominal.is_data(i)]
        if not data:
            return None
        tensor = data[0]
    return None


def _narrowest(nominal: Nominal, tensor: gs.Tensor) -> tuple[gs.Tensor, tuple[str, ...]]:
    """The keys before they are repeated for groups of query heads, and the cache inputs on the way."""
    best, least, past = tensor, math.prod(nominal.shape(tensor) or (1,)), []
    for _ in range(64):
        node = graphs.producer(tensor)
        if node is None or node.op not in (*numeric.MOVES, "Cast", "Identity", "Mul", "Div", "Where"):
            break
        data = [i for i in node.inputs if nominal.is_data(i)]
        if node.op == "Concat" and any(graphs.producer(i) is None for i in data):
            past += [i.name for i in data if graphs.producer(i) is None]
            break
        if node.op in ("Slice", "Split") or not data or len({id(i) for i in data}) != 1:
            break
        if node.op == "Gather" and nominal.shape(node.inputs[1]) == ():
            break
        tensor = data[0]
        size = math.prod(nominal.shape(tensor) or (1 << 60,))
        if size < least:
            best, least = tensor, size
    return best, tuple(past)


def _grouping(nominal: Nominal, narrow: gs.Tensor, keys: gs.Tensor, heads: int, kv_heads: int) -> str | None:
    """How repeated heads are laid out, by sending numbers through: "grouped" gives neighbours the same keys,
    "interleaved" every so-many-th."""
    if heads == kv_heads:
        return "each its own"
    if kv_heads == 1:
        return "all the same"
    shape = nominal.shape(narrow)
    if shape is None or math.prod(shape) > LARGEST or kv_heads not in shape:
        return None
    axis = shape.index(kv_heads)
    marks = np.arange(kv_heads, dtype=np.float32).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    sent = nominal.evaluate(keys, {id(narrow): np.array(np.broadcast_to(marks, shape))})
    if sent is None or sent.size % heads:
        return None
    seen = sent.reshape(heads, -1)
    if not (seen == seen[:, :1]).all() or not seen[:, 0].any():
        return None
    order = seen[:, 0] / max(seen[:, 0].max(), 1e-30) * (kv_heads - 1)
    if np.allclose(order, np.repeat(np.arange(kv_heads), heads // kv_heads)):
        return "grouped"
    return "interleaved" if np.allclose(order, np.tile(np.arange(kv_heads), heads // kv_heads)) else None
