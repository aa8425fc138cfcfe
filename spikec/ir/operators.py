"""What ONNX's elementwise operators and reductions compute, in float64 numpy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

erf = np.vectorize(math.erf, otypes=[np.float64])

ELEMENTWISE: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide, "Pow": np.power,
    "Max": lambda *a: functools.reduce(np.maximum, a), "Min": lambda *a: functools.reduce(np.minimum, a),
    "Sum": lambda *a: functools.reduce(np.add, a), "Mean": lambda *a: functools.reduce(np.add, a) / len(a),
    "Sqrt": np.sqrt, "Reciprocal": np.reciprocal, "Exp": np.exp, "Log": np.log, "Tanh": np.tanh, "Erf": erf,
    "Neg": np.negative, "Abs": np.abs, "Sign": np.sign, "Identity": lambda x: x,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 0.5 * (1 + np.tanh(x / 2)), "Softplus": lambda x: np.logaddexp(0, x),
    "Softsign": lambda x: x / (1 + np.abs(x)), "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Mish": lambda x: x * np.tanh(np.logaddexp(0, x)), "Clip": lambda x, lo=None, hi=None: clip(x, lo, hi),
    "PRelu": lambda x, slope: np.where(x > 0, x, slope * x),
    "Greater": np.greater, "Less": np.less, "GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal,
    "Equal": np.equal, "Not": np.logical_not, "And": np.logical_and, "Or": np.logical_or,
    "Xor": np.logical_xor, "IsNaN": np.isnan, "IsInf": np.isinf,
    "Where": np.where, "Floor": np.floor, "Ceil": np.ceil, "Cos": np.cos, "Sin": np.sin,
    "Sinh": np.sinh, "Cosh": np.cosh, "Atan": np.arctan,
}  # fmt: skip
"""Operators that act on each element alone, in float64."""

SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}

PARAMETRIC: dict[str, Callable[[gs.Node, np.ndarray], np.ndarray]] = {
    "Cast": lambda node, x: cast(x, node.attrs["to"]),
    "Gelu": lambda node, x: gelu_tanh(x) if node.attrs.get("approximate", "none") == "tanh" else gelu_erf(x),
    "Elu": lambda node, x: elu(x, node.attrs.get("alpha", 1.0)),
    "Celu": lambda node, x: elu(x, node.attrs.get("alpha", 1.0), node.attrs.get("alpha", 1.0)),
    "Selu": lambda node, x: (
        node.attrs.get("gamma", SELU["gamma"]) * elu(x, node.attrs.get("alpha", SELU["alpha"]))
    ),
    "LeakyRelu": lambda node, x: np.where(x > 0, x, node.attrs.get("alpha", 0.01) * x),
    "ThresholdedRelu": lambda node, x: np.where(x > node.attrs.get("alpha", 1.0), x, 0),
    "Shrink": lambda node, x: shrink(x, node.attrs.get("lambd", 0.5), node.attrs.get("bias", 0.0)),
    "HardSigmoid": lambda node, x: np.clip(
        node.attrs.get("alpha", 0.2) * x + node.attrs.get("beta", 0.5), 0, 1
    ),
    "Swish": lambda node, x: x * 0.5 * (1 + np.tanh(node.attrs.get("alpha", 1.0) * x / 2)),
}
"""Elementwise operators of one input whose attributes matter."""

REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "ReduceMean": np.mean, "ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min,
    "ReduceSumSquare": lambda x, axis, keepdims: np.sum(np.square(x), axis=axis, keepdims=keepdims),
    "ReduceL1": lambda x, axis, keepdims: np.sum(np.abs(x), axis=axis, keepdims=keepdims),
    "ReduceL2": lambda x, axis, keepdims: np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims)),
    "ReduceLogSumExp": lambda x, axis, keepdims: np.logaddexp.reduce(x, axis=axis, keepdims=keepdims),
}  # fmt: skip
"""Operators that fold axes away: `fn(x, axis=..., keepdims=...)`."""

SCALAR_OPS = ELEMENTWISE.keys() | PARAMETRIC.keys()


def clip(x: np.ndarray, low: np.ndarray | None, high: np.ndarray | None) -> np.ndarray:
    return np.clip(x, -np.inf if low is None else low, np.inf if high is None else high)


HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def is_scalar(node: gs.Node) -> bool:
    """Whether the node acts on each element alone. A cast to half precision, as at a graph's end, stands for
    itself: what takes a region's place is single."""
    return node.op in SCALAR_OPS and not (node.op == "Cast" and node.attrs["to"] in HALVES)


def cast(x: np.ndarray, to: Any) -> np.ndarray:
    """A cast between real types leaves the value (but for rounding), one to an integer cuts it."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to) if isinstance(to, int) else np.dtype(to)
    if dtype.kind == "b":
        return np.asarray(x != 0, np.float64)
    if np.issubdtype(dtype, np.integer):
        return np.trunc(x)
    return np.asarray(x, np.float64)


def elu(x: np.ndarray, alpha: float, width: float = 1.0) -> np.ndarray:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / width))


def shrink(x: np.ndarray, threshold: float, bias: float) -> np.ndarray:
    return np.where(x > threshold, x - bias, np.where(x < -threshold, x + bias, 0))


def gelu_erf(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
