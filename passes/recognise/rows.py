"""Closed regions of rows: elementwise operators, reductions over the last axis and vectors along it,
evaluated on a matrix of probe rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import region
from spikec.ir.flow import Flow, Region
from spikec.ir.operators import REDUCTIONS, SCALAR_OPS, is_scalar
from spikec.ir.weights import array

LARGEST_VECTOR = 2**16
NORMS = {
    "LayerNormalization": "layernorm",
    "RMSNormalization": "rmsnorm",
    "SimplifiedLayerNormalization": "rmsnorm",
}
"""Operators that normalise rows, and what they are."""
UNKNOWN_CHANNELS = 12
OTHER_CHANNELS = 20
"""Row lengths to probe with when nothing tells the real one."""


def of_rows(flow: Flow, node: gs.Node) -> bool:
    """Whether the node maps rows to rows whatever their number: what a row flow admits."""
    if is_scalar(node):
        return all(_vector(flow, i) is not None for i in flow.fixed(node))
    if node.op in REDUCTIONS:
        return reduced_axes(flow, node) == (-1,)
    if node.op in NORMS:
        return last_axis(flow.shape, node) and all(_vector(flow, i) is not None for i in flow.fixed(node))
    if node.op == "Unsqueeze":
        return _unsqueezed(flow, node) == (-1,)
    if node.op == "Expand":
        return _along_last(flow, node)
    if node.op == "MatMul":
        return _averages(node)
    if node.op == "GlobalAveragePool":
        return len(flow.shape(node.inputs[0]) or ()) == 3
    if node.op == "LpNormalization":
        return last_axis(flow.shape, node) and node.attrs.get("p", 2) == 2
    return False


def last_axis(shape_of: Callable[[gs.Tensor], Sequence[int | str] | None], node: gs.Node) -> bool:
    """Whether the node's `axis` is the last one."""
    axis = node.attrs.get("axis", -1)
    shape = shape_of(node.inputs[0]) if node.inputs[0].shape is not None else shape_of(node.outputs[0])
    return bool(axis == -1 or (shape is not None and axis == len(shape) - 1))


def reduced_axes(flow: Flow, node: gs.Node) -> tuple[int, ...] | None:
    """The axes a reduction works over, counted from the end; None when they are not known."""
    shape = flow.shape(node.inputs[0])
    return region.reduced_axes(node, None if shape is None else len(shape))


def _vector(flow: Flow, tensor: gs.Tensor) -> np.ndarray | None:
    """A constant scalar, or one that varies along the last axis only."""
    value = flow.constant(tensor, LARGEST_VECTOR)
    if value is None or value.size == 1:
        return value
    return value.reshape(-1) if value.shape[-1] == value.size else None


def _unsqueezed(flow: Flow, node: gs.Node) -> tuple[int, ...] | None:
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1 and isinstance(node.inputs[1], gs.Constant):
        axes = array(node.inputs[1]).reshape(-1).tolist()
    shape = flow.shape(node.outputs[0])
    if axes is None or (max(axes) >= 0 and shape is None):
        return None
    return tuple(axis if axis < 0 else axis - len(shape or ()) for axis in axes)


def _along_last(flow: Flow, node: gs.Node) -> bool:
    """Whether values are spread along their row alone, as the operator that reads them would by itself."""
    small, large = flow.nominal_shape(node.inputs[0]), flow.nominal_shape(node.outputs[0])
    return small is not None and large is not None and small[:-1] == large[:-1]


def _averages(node: gs.Node) -> bool:
    """Whether the product is with equal weights, so that it sums each row."""
    weight = node.inputs[1]
    if not isinstance(weight, gs.Constant) or len(weight.shape) != 2 or weight.shape[0] < 2:
        return False
    if weight.shape[1] not in (1, weight.shape[0]):
        return False
    few = array(weight)[:2]
    return bool(np.all(few == few[0, 0]) and np.all(array(weight) == few[0, 0]))


def channels(flow: Flow, one: Region) -> int | None:
    """The length of the region's rows: from a shape, or from a vector that meets them."""
    for tensor in (one.source, one.result):
        if tensor.shape and isinstance(tensor.shape[-1], int) and tensor.shape[-1] > 0:
            return tensor.shape[-1]
    sizes = {1}
    for node in one.nodes:
        if node.op == "MatMul":
            sizes.add(node.inputs[1].shape[0])
        elif node.op in SCALAR_OPS or node.op in NORMS:
            vectors = [_vector(flow, i) for i in flow.fixed(node)]
            sizes |= {vector.size for vector in vectors if vector is not None}
    return max(sizes - {1}, default=None)


def evaluate(
    flow: Flow, one: Region, x: np.ndarray, like: tuple[int, int] | None = None
) -> np.ndarray | None:
    """What the region computes of the rows of `x`, in float64; None when that is no matrix of the same shape
    (or of the shape `like`)."""
    known: dict[int, Any] = {id(one.source): x}
    with np.errstate(all="ignore"):
        for node in one.nodes:
            value = _apply(flow, node, known)
            if value is None:
                return None
            known[id(node.outputs[0])] = value
    y = known[id(one.result)]
    return y if np.shape(y) == (like or x.shape) else None


def _apply(flow: Flow, node: gs.Node, known: dict[int, Any]) -> np.ndarray | None:
    if is_scalar(node):
        operands = [
            None if not i.name else _vector(flow, i) if flow.is_fixed(i) else known[id(i)]
            for i in node.inputs
        ]
        return region.apply(node, operands)
    x = known[id(node.inputs[0])]
    if node.op == "Unsqueeze":
        return x[..., None]
    if node.op == "Expand":
        return x
    if x.ndim != 2:
        return None
    if node.op in REDUCTIONS:
        return REDUCTIONS[node.op](x, axis=-1, keepdims=bool(node.attrs.get("keepdims", 1)))
    if node.op in NORMS:
        return _normalise(flow, node, x)
    if node.op == "GlobalAveragePool":
        return x.mean(-1, keepdims=True)
    if node.op == "LpNormalization":
        return x / np.sqrt((x * x).sum(-1, keepdims=True))
    weight = node.inputs[1]
    if x.shape[-1] != weight.shape[0]:
        return None
    return np.repeat(x.sum(-1, keepdims=True) * float(array(weight)[0, 0]), weight.shape[1], -1)


def _normalise(flow: Flow, node: gs.Node, x: np.ndarray) -> np.ndarray:
    d = x - x.mean(-1, keepdims=True) if NORMS[node.op] == "layernorm" else x
    y = d / np.sqrt((d * d).mean(-1, keepdims=True) + node.attrs.get("epsilon", 1e-5))
    for tensor, join in zip(node.inputs[1:], (np.multiply, np.add), strict=False):
        vector = _vector(flow, tensor) if tensor.name else None
        y = y if vector is None else join(y, vector)
    return y
