"""The shapes of a node's outputs from those of its inputs, at sizes that are all known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from . import numeric

Shape = tuple[int, ...]

SAME = {
    "Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "RMSNormalization", "GroupNormalization",
    "SimplifiedLayerNormalization", "InstanceNormalization", "BatchNormalization", "LpNormalization", "Gelu",
    "Elu", "Selu", "Celu", "LeakyRelu", "PRelu", "ThresholdedRelu", "HardSwish", "HardSigmoid", "Mish",
    "Softplus", "Softsign", "Swish", "CumSum", "Trilu", "QuantizeLinear", "DequantizeLinear", "Sinh", "Cosh",
    "Tan", "Atan", "Asin", "Acos", "FastGelu", "QuickGelu", "BiasGelu", "ReverseSequence",
}  # fmt: skip
"""Operators whose first output has the shape of their first input."""
INDEXED = {
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "ScatterND": (1,),
    "ScatterElements": (1,),
}
"""Inputs that only point: where they are unknown, any index gives the same shape."""
DATA = {"ScatterND": (0, 2), "ScatterElements": (0, 2)}
POOLS = {"MaxPool", "AveragePool", "LpPool"}


def shapes_of(
    node: gs.Node, shapes: Sequence[Shape | None], values: Sequence[np.ndarray | None]
) -> list[Shape | None]:
    """Raises ValueError or IndexError when the operands do not fit each other."""
    op = node.op
    if node.domain not in (None, "", "ai.onnx"):
        return [shapes[0]] if op in SAME else []
    if op in numeric.ELEMENTWISE:
        given = [s for s, i in zip(shapes, node.inputs, strict=True) if isinstance(i, gs.Constant) or i.name]
        return [np.broadcast_shapes(*(s for s in given if s is not None))] if None not in given else []
    if op in numeric.MOVES:
        return _moved(node, shapes, values)
    first = shapes[0] if shapes else None
    if op in SAME:
        return [first]
    if op in numeric.REDUCTIONS or op in ("ReduceLogSumExp", "ReduceLogSum"):
        return [_reduced(node, first, values)]
    if op in ("ArgMax", "ArgMin"):
        return [_without(first, [node.attrs.get("axis", 0)], bool(node.attrs.get("keepdims", 1)))]
    if op == "NonZero" and first is not None:
        return [(len(first), math.prod(first))]  # as many as there can be
    if op == "TopK":
        if first is None or values[1] is None:
            return []
        axis = node.attrs.get("axis", -1) % len(first)
        out = (*first[:axis], int(np.reshape(values[1], -1)[0]), *first[axis + 1 :])
        return [out, out]
    if op in ("MatMul", "MatMulInteger"):
        return [matmul(first, shapes[1])]
    if op == "Gemm":
        return [_gemm(node, first, shapes[1])]
    if op in ("Conv", "ConvInteger") or op in POOLS:
        kernel = shapes[1] if op.startswith("Conv") else tuple([0, 0, *node.attrs["kernel_shape"]])
        return [_conv(node, first, kernel)]
    if op in ("GlobalAveragePool", "GlobalMaxPool"):
        return [None if first is None else (*first[:2], *[1] * (len(first) - 2))]
    if op == "Resize":
        return [_resized(first, values)]
    if op == "Einsum":
        return [einsum(str(node.attrs["equation"]), shapes)]
    if op == "OneHot" and first is not None and values[1] is not None:
        axis = node.attrs.get("axis", -1) % (len(first) + 1)
        return [(*first[:axis], int(np.reshape(values[1], -1)[0]), *first[axis:])]
    return []


def _moved(
    node: gs.Node, shapes: Sequence[Shape | None], values: Sequence[np.ndarray | None]
) -> list[Shape | None]:
    """The operator itself, run on a view of one zero."""
    data = range(len(shapes)) if node.op == "Concat" else DATA.get(node.op, (0,))
    operands: list[np.ndarray | None] = []
    for index, (shape, value) in enumerate(zip(shapes, values, strict=True)):
        if shape is None:
            left_out = isinstance(node.inputs[index], gs.Variable) and not node.inputs[index].name
            if not left_out:
                return []
            operands.append(None)
        elif index in data:
            operands.append(np.broadcast_to(np.int8(0), shape))
        elif value is not None:
            operands.append(value)
        elif index in INDEXED.get(node.op, ()):
            operands.append(np.broadcast_to(np.int64(0), shape))
        else:
            return []
    outputs = numeric.apply(node, operands)
    if outputs is None:
        raise ValueError(f"{node.op} does not fit {shapes}")
    return [o.shape for o in outputs]


def _reduced(node: gs.Node, shape: Shape | None, values: Sequence[np.ndarray | None]) -> Shape | None:
    if shape is None or (len(values) > 1 and values[1] is None and node.inputs[1].name):
        return None
    axes = numeric.attribute(node, "axes", 0, values[1:])
    if not axes:
        if node.attrs.get("noop_with_empty_axes", 0):
            return shape
        axes = list(range(len(shape)))
    return _without(shape, axes, bool(node.attrs.get("keepdims", 1)))


def _without(shape: Shape | None, axes: list[int], keep: bool) -> Shape | None:
    if shape is None:
        return None
    gone = {axis % len(shape) for axis in axes}
    return tuple(1 if i in gone else n for i, n in enumerate(shape) if keep or i not in gone)


def matmul(left: Shape | None, right: Shape | None) -> Shape | None:
    if left is None or right is None:
        return None
    a, b = (1, *left) if len(left) == 1 else left, (*right, 1) if len(right) == 1 else right
    if a[-1] != b[-2]:
        raise ValueError(f"{left} times {right}")
    out = [*np.broadcast_shapes(a[:-2], b[:-2])]
    out += [a[-2]] if len(left) > 1 else []
    return tuple(out + ([b[-1]] if len(right) > 1 else []))


def _gemm(node: gs.Node, left: Shape | None, right: Shape | None) -> Shape | None:
    if left is None or right is None:
        return None
    rows, inner = reversed(left) if node.attrs.get("transA", 0) else left
    other, columns = reversed(right) if node.attrs.get("transB", 0) else right
    if inner != other:
        raise ValueError(f"{left} times {right}")
    return rows, columns


def _conv(node: gs.Node, x: Shape | None, kernel: Shape | None) -> Shape | None:
    if x is None or kernel is None:
        return None
    rank = len(x) - 2
    strides, dilations = node.attrs.get("strides", [1] * rank), node.attrs.get("dilations", [1] * rank)
    pads, auto = node.attrs.get("pads", [0] * 2 * rank), node.attrs.get("auto_pad", "NOTSET")
    out = []
    for i in range(rank):
        size, reach = x[2 + i], dilations[i] * (kernel[2 + i] - 1) + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            out.append(-(-size // strides[i]))
        else:
            room = size - reach + (0 if auto == "VALID" else pads[i] + pads[i + rank])
            out.append((-(-room // strides[i]) if node.attrs.get("ceil_mode", 0) else room // strides[i]) + 1)
    channels = kernel[0] or x[1]
    if min(out, default=1) < 1:
        raise ValueError(f"a kernel of {kernel} on {x}")
    return (x[0], channels, *out)


def _resized(shape: Shape | None, values: Sequence[np.ndarray | None]) -> Shape | None:
    scales, sizes = (values[i] if i < len(values) else None for i in (2, 3))
    if sizes is not None and sizes.size:
        return tuple(int(n) for n in sizes) if shape is None or len(sizes) == len(shape) else None
    if shape is None or scales is None or scales.size != len(shape):
        return None
    return tuple(int(n * s) for n, s in zip(shape, scales, strict=True))


def einsum(equation: str, shapes: Sequence[Shape | None]) -> Shape | None:
    if None in shapes or "." in equation:
        return None
    dummies = [np.broadcast_to(np.float32(0), s) for s in shapes if s is not None]
    terms, _, result = equation.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for term, dummy in zip(terms.split(","), dummies, strict=True):
        for letter, size in zip(term, dummy.shape, strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    if "->" not in equation:
        letters = terms.replace(",", "")
        result = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return tuple(sizes[letter] for letter in result)
