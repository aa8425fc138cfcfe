"""Whether a value can be below zero: if so, a quantised range that begins at zero is a ReLU in disguise."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.weights import array

DEPTH = 24
ALWAYS = {
    "Softmax",
    "Relu",
    "Sigmoid",
    "Exp",
    "Abs",
    "Sqrt",
    "Not",
    "Equal",
    "Greater",
    "Less",
    "HardSigmoid",
}
WHEN_ALL_ARE = {
    "Add", "Mul", "Div", "Max", "Sum", "Concat", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice",
    "Split", "Expand", "Identity", "Dropout", "Flatten", "ReduceMean", "ReduceSum", "ReduceMax", "Reciprocal",
    "MaxPool", "AveragePool", "GlobalAveragePool", "QuantizeLinear", "DequantizeLinear", "Cast",
}  # fmt: skip
"""Operators that give nothing below zero when they get nothing below zero (their shapes and axes aside)."""
WEIGHING = {"MatMul", "Gemm", "Conv", "Gather", "Add", "Sub", "Mul"}
SHAPED = {
    "Reshape", "Squeeze", "Unsqueeze", "Slice", "Split", "Expand", "ReduceMean", "ReduceSum", "ReduceMax",
    "QuantizeLinear", "DequantizeLinear",
}  # fmt: skip


def nonnegative(tensor: gs.Tensor) -> bool:
    stack, seen = [(tensor, 0)], set()
    while stack:
        current, depth = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, gs.Constant):
            if np.prod(current.shape) > 4096 or (array(current) < 0).any():
                return False
            continue
        node = graphs.producer(current)
        if node is None or depth > DEPTH:
            return False
        if node.op in ALWAYS or _is_square(node):
            continue
        if node.op not in WHEN_ALL_ARE and node.op != "Where":
            return False
        needed = node.inputs[:1] if node.op in SHAPED else node.inputs[node.op == "Where" :]
        stack.extend((i, depth + 1) for i in needed if i.name)
    return True


def weighed(tensor: gs.Tensor) -> bool:
    """Whether weights or real inputs are behind a value, as they are behind every activation; positions have
    none."""
    stack, seen = [tensor], set()
    while stack:
        current = stack.pop()
        node = graphs.producer(current)
        if node is None and isinstance(current, gs.Variable) and current.dtype == np.float32:
            return True
        if node is None or id(node) in seen or node.op == "Shape":
            continue
        seen.add(id(node))
        if node.op in WEIGHING and any(isinstance(i, gs.Constant) and _is_matrix(i) for i in node.inputs):
            return True
        stack.extend(node.inputs)
    return False


def _is_matrix(constant: gs.Constant) -> bool:
    return sum(size > 1 for size in constant.shape) >= 2


def _is_square(node: gs.Node) -> bool:
    if node.op == "Mul":
        return node.inputs[0] is node.inputs[1]
    exponent = node.inputs[1] if node.op == "Pow" else None
    return isinstance(exponent, gs.Constant) and bool((array(exponent) % 2 == 0).all())
