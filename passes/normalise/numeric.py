"""What standard operators give on constants, in numpy with ONNX's own rules for integers, axes and shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.ir.weights import array

Array = np.ndarray

UNARY: dict[str, Callable[[Array], Array]] = {
    "Neg": np.negative, "Abs": np.abs, "Sign": np.sign, "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint,
    "Sqrt": np.sqrt, "Reciprocal": np.reciprocal, "Exp": np.exp, "Log": np.log, "Sin": np.sin, "Cos": np.cos,
    "Tanh": np.tanh, "Not": np.logical_not, "IsNaN": np.isnan, "IsInf": np.isinf, "Identity": lambda x: x,
}  # fmt: skip
BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Equal": np.equal, "Less": np.less,
    "LessOrEqual": np.less_equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}  # fmt: skip
FOLDS = {"Max": np.maximum, "Min": np.minimum, "Sum": np.add}
REDUCTIONS: dict[str, Callable[..., Array]] = {
    "ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max, "ReduceMin": np.min,
    "ReduceProd": np.prod,
}  # fmt: skip


def evaluate(node: gs.Node, operands: Sequence[Array | None]) -> list[Array] | None:
    """The node's outputs; None when the operator is not known here or does not take these operands."""
    function = OPERATORS.get(node.op)
    if function is None or node.domain not in (None, "", "ai.onnx"):
        return None
    try:
        with np.errstate(all="ignore"):
            made = function(
                node.attrs, *operands, **({"count": len(node.outputs)} if node.op == "Split" else {})
            )
    except (ValueError, IndexError, TypeError, ZeroDivisionError, KeyError, AttributeError):
        return None
    return [np.asarray(value) for value in (made if isinstance(made, list) else [made])]


def _divide(_: dict[str, Any], a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        if not np.all(b):
            raise ZeroDivisionError
        return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), a.dtype)
    return np.divide(a, b)


def _mod(attrs: dict[str, Any], a: Array, b: Array) -> Array:
    return np.fmod(a, b) if attrs.get("fmod", 0) else np.mod(a, b)


def _power(_: dict[str, Any], a: Array, b: Array) -> Array:
    return np.power(a, b).astype(a.dtype)


def _cast(attrs: dict[str, Any], x: Array) -> Array:
    to = attrs["to"]
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(to) if isinstance(to, int) else to)
    if dtype.kind not in "biuf":
        raise TypeError("strings, and types of less than eight bits, stay")
    return x.astype(dtype)


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(attrs: dict[str, Any], x: Array, axes: Array | None = None) -> Array:
        given = attrs.get("axes", None if axes is None else axes.reshape(-1).tolist())
        if not given and attrs.get("noop_with_empty_axes", 0):
            return x
        made = function(x, axis=tuple(given) if given else None, keepdims=bool(attrs.get("keepdims", 1)))
        return np.asarray(made, x.dtype)

    return reduce


def _axes(attrs: dict[str, Any], axes: Array | None) -> list[int] | None:
    return attrs.get("axes", None if axes is None else axes.reshape(-1).tolist())


def _squeeze(attrs: dict[str, Any], x: Array, axes: Array | None = None) -> Array:
    given = _axes(attrs, axes)
    return np.squeeze(x, None if given is None else tuple(given))


def _unsqueeze(attrs: dict[str, Any], x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, tuple(_axes(attrs, axes) or ()))


def _reshape(attrs: dict[str, Any], x: Array, target: Array) -> Array:
    shape = target.tolist()
    if not attrs.get("allowzero", 0):
        shape = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return x.reshape(shape)


def _slice(
    attrs: dict[str, Any],
    x: Array,
    starts: Array,
    ends: Array,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    count = starts.size
    where = range(count) if axes is None else axes.reshape(-1).tolist()
    paces = [1] * count if steps is None else steps.reshape(-1).tolist()
    chosen = [slice(None)] * x.ndim
    for axis, start, end, pace in zip(
        where, starts.reshape(-1).tolist(), ends.reshape(-1).tolist(), paces, strict=True
    ):
        stop = None if pace < 0 and end < -x.shape[axis] else end
        chosen[axis] = slice(start, stop, pace)
    return x[tuple(chosen)]


def _split(attrs: dict[str, Any], x: Array, sizes: Array | None = None, *, count: int) -> list[Array]:
    axis = attrs.get("axis", 0)
    if sizes is None:
        part = -(-x.shape[axis] // count)
        return np.split(x, list(range(part, x.shape[axis], part)), axis)
    if sizes.sum() != x.shape[axis]:
        raise ValueError
    return np.split(x, np.cumsum(sizes.reshape(-1))[:-1].tolist(), axis)


def _fill(attrs: dict[str, Any], shape: Array) -> Array:
    value = array(attrs["value"]).reshape(-1)[0] if "value" in attrs else np.float32(0)
    if shape.prod(dtype=np.int64) > LARGEST:
        raise ValueError
    return np.full(shape.tolist(), value)


def _expand(_: dict[str, Any], x: Array, shape: Array) -> Array:
    return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _range(_: dict[str, Any], start: Array, limit: Array, step: Array) -> Array:
    count = max(0, int(np.ceil((limit.item() - start.item()) / step.item())))
    if count > LARGEST:
        raise ValueError
    return (start.reshape(()) + np.arange(count) * step.reshape(())).astype(start.dtype)


def _trilu(attrs: dict[str, Any], x: Array, k: Array | None = None) -> Array:
    return (np.triu if attrs.get("upper", 1) else np.tril)(x, 0 if k is None else int(k.item()))


def _cumsum(attrs: dict[str, Any], x: Array, axis: Array) -> Array:
    if attrs.get("exclusive", 0) or attrs.get("reverse", 0):
        raise ValueError
    return np.cumsum(x, int(axis.item()), dtype=x.dtype)


def _outer(_: dict[str, Any], a: Array, b: Array) -> Array:
    """Products without a sum (angles of positions and frequencies); real products of constants stay."""
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != 1:
        raise ValueError
    return a * b


def _scatter(attrs: dict[str, Any], x: Array, indices: Array, updates: Array) -> Array:
    if attrs.get("reduction", "none") != "none":
        raise ValueError
    made = x.copy()
    made[tuple(np.moveaxis(indices, -1, 0))] = updates
    return made


def _gather_nd(attrs: dict[str, Any], x: Array, indices: Array) -> Array:
    if attrs.get("batch_dims", 0):
        raise ValueError
    return x[tuple(np.moveaxis(indices, -1, 0))]


def _clip(_: dict[str, Any], x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _flatten(attrs: dict[str, Any], x: Array) -> Array:
    axis = attrs.get("axis", 1)
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


LARGEST = 1 << 16
"""Elements of the largest constant that is made here and now."""


def _in_turn(function: Callable[..., Array], *operands: Array) -> Array:
    return functools.reduce(function, operands)


def _plain(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda attrs, *operands: function(*operands)


OPERATORS: dict[str, Callable[..., Any]] = {
    **{op: _plain(f) for op, f in UNARY.items()},
    **{op: _plain(f) for op, f in BINARY.items()},
    **{op: _plain(functools.partial(_in_turn, f)) for op, f in FOLDS.items()},
    **{op: _reduce(f) for op, f in REDUCTIONS.items()},
    "Div": _divide, "Mod": _mod, "Pow": _power, "Cast": _cast, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Reshape": _reshape, "Slice": _slice, "Split": _split, "ConstantOfShape": _fill, "Expand": _expand,
    "Range": _range, "Trilu": _trilu, "CumSum": _cumsum, "MatMul": _outer, "ScatterND": _scatter,
    "GatherND": _gather_nd, "Clip": _clip, "Flatten": _flatten,
    "Where": lambda attrs, c, a, b: np.where(c, a, b),
    "Gather": lambda attrs, x, i: np.take(x, i, axis=attrs.get("axis", 0)),
    "Concat": lambda attrs, *xs: np.concatenate(xs, axis=attrs["axis"]),
    "Transpose": lambda attrs, x: np.transpose(x, attrs.get("perm")),
    "Tile": lambda attrs, x, times: np.tile(x, times.tolist()),
    "Shape": lambda attrs, x: np.asarray(x.shape[attrs.get("start", 0) : attrs.get("end")], np.int64),
    "Size": lambda attrs, x: np.asarray(x.size, np.int64),
    "NonZero": lambda attrs, x: np.stack(np.nonzero(np.atleast_1d(x))).astype(np.int64),
}  # fmt: skip
