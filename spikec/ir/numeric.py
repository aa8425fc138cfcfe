"""ONNX operators in numpy, as far as positions, masks, shapes and the moving of activations need them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from .weights import array

Array = np.ndarray
Operator = Callable[..., Any]


def attribute(node: gs.Node, name: str, index: int, inputs: Sequence[Array | None]) -> list[int] | None:
    """A list of integers that newer operator sets take as an input and older ones as an attribute."""
    if index < len(inputs) and inputs[index] is not None:
        return [int(i) for i in np.asarray(inputs[index]).reshape(-1)]
    value = node.attrs.get(name)
    return None if value is None else [int(i) for i in np.atleast_1d(value)]


def dtype_of(to: Any) -> np.dtype:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to) if isinstance(to, int) else np.dtype(to)
    short = dtype.kind == "V" or dtype == np.float16
    return np.dtype(np.float32) if short else np.dtype(np.float64) if dtype.kind == "c" else dtype


def _cast(node: gs.Node, x: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return x.astype(dtype_of(node.attrs["to"]))


def _divide(node: gs.Node, a: Array, b: Array) -> Array:
    if np.issubdtype(np.result_type(a, b), np.integer):
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.maximum(np.abs(b), 1))).astype(a.dtype)
    return np.divide(a, b)


def _power(node: gs.Node, a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        return np.power(a.astype(np.float64), b).astype(a.dtype)
    return np.power(a, b).astype(a.dtype)


def _clip(node: gs.Node, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    low = node.attrs.get("min") if low is None else low
    high = node.attrs.get("max") if high is None else high
    if low is None and high is None:
        return x
    return np.clip(x, low, high).astype(x.dtype)


def _plain(fn: Callable[..., Any]) -> Operator:
    return lambda node, *inputs: fn(*inputs)


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


ELEMENTWISE: dict[str, Operator] = {
    "Add": _plain(np.add), "Sub": _plain(np.subtract), "Mul": _plain(np.multiply), "Div": _divide,
    "Pow": _power, "Mod": lambda node, a, b: np.fmod(a, b) if node.attrs.get("fmod", 0) else np.mod(a, b),
    "Max": _plain(lambda *a: functools.reduce(np.maximum, a)),
    "Min": _plain(lambda *a: functools.reduce(np.minimum, a)), "Sum": _plain(lambda *a: sum(a)),
    "Mean": _plain(lambda *a: sum(a) / len(a)), "Neg": _plain(np.negative), "Abs": _plain(np.abs),
    "Sign": _plain(np.sign), "Sqrt": _plain(np.sqrt), "Reciprocal": _plain(np.reciprocal),
    "Exp": _plain(np.exp), "Log": _plain(np.log), "Tanh": _plain(np.tanh), "Erf": _plain(_erf),
    "Cos": _plain(np.cos), "Sin": _plain(np.sin), "Floor": _plain(np.floor), "Ceil": _plain(np.ceil),
    "Round": _plain(np.rint), "Relu": _plain(lambda x: np.maximum(x, 0)), "Clip": _clip,
    "Sigmoid": _plain(lambda x: 0.5 * (1 + np.tanh(x / 2))), "Equal": _plain(np.equal),
    "Greater": _plain(np.greater), "GreaterOrEqual": _plain(np.greater_equal), "Less": _plain(np.less),
    "LessOrEqual": _plain(np.less_equal), "And": _plain(np.logical_and), "Or": _plain(np.logical_or),
    "Xor": _plain(np.logical_xor), "Not": _plain(np.logical_not), "Where": _plain(np.where),
    "IsNaN": _plain(np.isnan), "IsInf": _plain(np.isinf), "Cast": _cast, "Identity": _plain(lambda x: x),
    "CastLike": lambda node, x, like: x.astype(like.dtype), "Dropout": lambda node, x, *rest: x,
    "BitwiseAnd": _plain(np.bitwise_and), "BitwiseOr": _plain(np.bitwise_or),
    "BitwiseNot": _plain(np.bitwise_not), "BitwiseXor": _plain(np.bitwise_xor),
}  # fmt: skip
"""Operators whose result has the common shape of their operands."""


def _reshape(node: gs.Node, x: Array, shape: Array) -> Array:
    wanted = [int(n) for n in shape.reshape(-1)]
    if not node.attrs.get("allowzero", 0):
        wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


def _squeeze(node: gs.Node, x: Array, *rest: Array | None) -> Array:
    axes = attribute(node, "axes", 0, rest)
    return np.squeeze(x, None if axes is None else tuple(axes))


def _unsqueeze(node: gs.Node, x: Array, *rest: Array | None) -> Array:
    axes = attribute(node, "axes", 0, rest) or []
    rank = x.ndim + len(axes)
    return np.expand_dims(x, tuple(a % rank for a in axes))


def _slice(node: gs.Node, x: Array, *rest: Array | None) -> Array:
    starts, ends = attribute(node, "starts", 0, rest) or [], attribute(node, "ends", 1, rest) or []
    axes = attribute(node, "axes", 2, rest) or list(range(len(starts)))
    steps = attribute(node, "steps", 3, rest) or [1] * len(starts)
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        stop: int | None = end
        if step < 0 and end < -size:
            stop = None
        index[axis] = slice(start, stop, step)
    return x[tuple(index)]


def _split(node: gs.Node, x: Array, *rest: Array | None) -> list[Array]:
    axis = node.attrs.get("axis", 0)
    sizes = attribute(node, "split", 0, rest)
    if sizes is None:
        count = node.attrs.get("num_outputs", len(node.outputs))
        part = -(-x.shape[axis] // count)
        return np.split(x, [part * i for i in range(1, count)], axis)
    if sum(sizes) != x.shape[axis]:
        raise ValueError("parts do not add up")
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _gather(node: gs.Node, x: Array, index: Array) -> Array:
    return np.take(x, index, axis=node.attrs.get("axis", 0))


def _gather_elements(node: gs.Node, x: Array, index: Array) -> Array:
    axis = node.attrs.get("axis", 0)
    if x.ndim != index.ndim:
        raise ValueError("ranks differ")
    bounds = [slice(0, n) if i != axis % x.ndim else slice(None) for i, n in enumerate(index.shape)]
    return np.take_along_axis(x[tuple(bounds)], index, axis)


def _gather_nd(node: gs.Node, x: Array, index: Array) -> Array:
    batch = node.attrs.get("batch_dims", 0)
    if batch == 0:
        return x[tuple(np.moveaxis(index, -1, 0))]
    lead = math.prod(x.shape[:batch])
    xs, indices = x.reshape(lead, *x.shape[batch:]), index.reshape(lead, *index.shape[batch:])
    rows = [one[tuple(np.moveaxis(i, -1, 0))] for one, i in zip(xs, indices, strict=True)]
    return np.stack(rows).reshape(*x.shape[:batch], *rows[0].shape)


def _scatter_nd(node: gs.Node, x: Array, index: Array, updates: Array) -> Array:
    out = np.array(x)
    out[tuple(np.moveaxis(index, -1, 0))] = updates
    return out


def _scatter_elements(node: gs.Node, x: Array, index: Array, updates: Array) -> Array:
    out = np.array(x)
    np.put_along_axis(out, index, updates, node.attrs.get("axis", 0))
    return out


def _pad(node: gs.Node, x: Array, *rest: Array | None) -> Array:
    pads = attribute(node, "pads", 0, rest) or []
    fill = rest[1] if len(rest) > 1 and rest[1] is not None else 0
    axes = attribute(node, "axes", 2, rest) or list(range(x.ndim))
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    if any(n < 0 for pair in widths for n in pair) or node.attrs.get("mode", "constant") != "constant":
        raise ValueError("cuts or mirrors")
    return np.pad(x, widths, constant_values=np.asarray(fill).reshape(()))


def _flatten(node: gs.Node, x: Array) -> Array:
    return x.reshape(math.prod(x.shape[: node.attrs.get("axis", 1) or None] or (1,)), -1)


def _expand(node: gs.Node, x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(int(n) for n in shape.reshape(-1))))


def _transpose(node: gs.Node, x: Array) -> Array:
    return np.transpose(x, node.attrs.get("perm"))


def _concat(node: gs.Node, *parts: Array) -> Array:
    return np.concatenate(parts, node.attrs["axis"])


MOVES: dict[str, Operator] = {
    "Reshape": _reshape, "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Slice": _slice, "Split": _split, "Concat": _concat, "Expand": _expand, "Gather": _gather,
    "Flatten": _flatten, "Tile": lambda node, x, repeats: np.tile(x, repeats.reshape(-1)), "Pad": _pad,
    "GatherElements": _gather_elements, "GatherND": _gather_nd, "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
}  # fmt: skip
"""Operators that only put values elsewhere."""


def _shape(node: gs.Node, x: Array) -> Array:
    return np.array(x.shape[node.attrs.get("start", 0) : node.attrs.get("end", None)], np.int64)


def _constant_of_shape(node: gs.Node, shape: Array) -> Array:
    value = node.attrs.get("value")
    fill = np.zeros(1, np.float32) if value is None else array(value)
    return np.broadcast_to(fill.reshape(()), tuple(int(n) for n in shape.reshape(-1)))


def _trilu(node: gs.Node, x: Array, k: Array | None = None) -> Array:
    offset = 0 if k is None else int(k.reshape(()))
    return (np.triu if node.attrs.get("upper", 1) else np.tril)(x, offset)


def _cumsum(node: gs.Node, x: Array, axis: Array) -> Array:
    at = int(axis.reshape(()))
    if node.attrs.get("reverse", 0):
        x = np.flip(x, at)
    total = np.cumsum(x, at, dtype=x.dtype)
    total = total - x if node.attrs.get("exclusive", 0) else total
    return np.flip(total, at) if node.attrs.get("reverse", 0) else total


def _one_hot(node: gs.Node, index: Array, depth: Array, values: Array) -> Array:
    size = int(depth.reshape(-1)[0])
    hot = np.moveaxis(index[..., None] % size == np.arange(size), -1, node.attrs.get("axis", -1))
    return np.where(hot, values[1], values[0])


def reduced(node: gs.Node, x: Array, *rest: Array | None) -> tuple[int, ...] | None:
    """The axes a reduction works over; None for all of them."""
    axes = attribute(node, "axes", 0, rest)
    if not axes:
        return () if node.attrs.get("noop_with_empty_axes", 0) else None
    return tuple(axes)


def _reduction(fn: Callable[..., Any]) -> Operator:
    def reduce(node: gs.Node, x: Array, *rest: Array | None) -> Array:
        return fn(x, axis=reduced(node, x, *rest), keepdims=bool(node.attrs.get("keepdims", 1)))

    return reduce


def _sum_of_squares(x: Array, **how: Any) -> Array:
    return np.sum(np.square(x), **how)


REDUCTIONS: dict[str, Operator] = {
    "ReduceSum": _reduction(np.sum), "ReduceMean": _reduction(np.mean), "ReduceMax": _reduction(np.max),
    "ReduceMin": _reduction(np.min), "ReduceProd": _reduction(np.prod),
    "ReduceSumSquare": _reduction(_sum_of_squares),
    "ReduceL1": _reduction(lambda x, **how: np.sum(np.abs(x), **how)),
    "ReduceL2": _reduction(lambda x, **how: np.sqrt(_sum_of_squares(x, **how))),
}  # fmt: skip


def _arg(fn: Callable[..., Any]) -> Operator:
    def best(node: gs.Node, x: Array) -> Array:
        axis, keep = node.attrs.get("axis", 0), bool(node.attrs.get("keepdims", 1))
        return fn(x, axis=axis, keepdims=keep).astype(np.int64)

    return best


def _resize(node: gs.Node, x: Array, *rest: Array | None) -> Array:
    scales = rest[1] if len(rest) > 1 else None
    sizes = rest[2] if len(rest) > 2 else None
    same = sizes is not None and tuple(sizes) == x.shape
    if not same and not (scales is not None and scales.size and (scales == 1).all()):
        raise NotImplementedError("only what keeps its size")
    return x


OTHERS: dict[str, Operator] = {
    "Shape": _shape, "Size": lambda node, x: np.array(x.size, np.int64), "Trilu": _trilu, "CumSum": _cumsum,
    "Resize": _resize, "ConstantOfShape": _constant_of_shape, "OneHot": _one_hot, "ArgMax": _arg(np.argmax),
    "Range": lambda node, a, b, c: np.arange(a.reshape(()), b.reshape(()), c.reshape(()), dtype=a.dtype),
    "ArgMin": _arg(np.argmin), "NonZero": lambda node, x: np.array(np.nonzero(x), np.int64),
    "MatMul": lambda node, a, b: np.matmul(a, b),
    "Einsum": lambda node, *a: np.einsum(str(node.attrs["equation"]), *a),
    "EyeLike": lambda node, x: np.eye(x.shape[0], x.shape[1], k=node.attrs.get("k", 0)),
}  # fmt: skip

OPERATORS: dict[str, Operator] = ELEMENTWISE | MOVES | REDUCTIONS | OTHERS


def apply(node: gs.Node, inputs: Sequence[Array | None]) -> list[Array] | None:
    """The node's outputs; None when the operands do not fit, nothing for what is not done here."""
    operator = OPERATORS.get(node.op)
    if operator is None or node.domain not in (None, "", "ai.onnx"):
        return []
    given = list(inputs)
    while given and given[-1] is None:
        given.pop()
    try:
        with np.errstate(all="ignore"):
            result = operator(node, *given)
    except NotImplementedError:
        return []
    except (ValueError, IndexError, TypeError, AttributeError, KeyError, MemoryError, OverflowError):
        return None
    return result if isinstance(result, list) else [np.asarray(result)]
