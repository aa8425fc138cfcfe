"""Multiply-accumulates of every node at the nominal input."""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from spikec.ir import region
from spikec.ir.nominal import Nominal
from spikec.ir.nominal_shapes import Shape
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

SHAPING = {
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Expand", "Gather", "Flatten",
    "Tile", "Identity", "Cast", "Pad",
}  # fmt: skip
BOOKKEEPING = {
    "Shape", "Range", "ConstantOfShape", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "And", "Or", "Not", "Where", "CumSum", "GatherND", "GatherElements", "ScatterND", "Size", "Trilu",
    "NonZero", "Constant", "IsNaN", "IsInf", "TopK", "ArgMax", "ArgMin", "OneHot", "ScatterElements",
}  # fmt: skip
NO_PRODUCTS = region.SCALAR_OPS | region.REDUCTIONS.keys() | SHAPING | BOOKKEEPING | {
    "Sum", "Mean", "Mod", "Round", "Xor", "Sinh", "Cosh", "Selu", "Celu", "PRelu",
    "ThresholdedRelu", "Softmax", "LogSoftmax", "Hardmax", "Dropout", "CastLike", "ReduceMax", "ReduceMin",
    "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
    "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization",
    "GroupNormalization", "InstanceNormalization", "BatchNormalization", "LpNormalization", "MaxPool",
    "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "DepthToSpace", "SpaceToDepth",
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "FastGelu", "BiasGelu",
    "QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
}  # fmt: skip
"""Operators that add up no products: elementwise, reductions, and those that only move values."""
KNOWN_DOMAINS = {None, "", "ai.onnx", "com.microsoft"}


@compiler_pass(after=["trace_values", "recognise_products"])
def count_macs(program: Program) -> None:
    """`program.statistics["macs"]`: multiply-accumulates by name of the node; None when they are unknown.
    `["tokens"]`: the length of the sequence they are counted at."""
    nominal: Nominal = program.settings["nominal"]
    program.statistics["macs"] = {node.name: macs(node, nominal) for node in program.graph.nodes}
    program.statistics["tokens"] = nominal.length


def macs(node: gs.Node, nominal: Nominal) -> int | None:
    """Multiply-accumulates of one node; None for an operator or a shape that is not known."""
    if node.domain not in KNOWN_DOMAINS:
        return None
    if node.op in NO_PRODUCTS:
        return 0
    out = nominal.shape(node.outputs[0])
    operands = [nominal.shape(i) for i in node.inputs]
    if node.op == "Einsum":
        return _einsum(str(node.attrs["equation"]), operands)
    if len(operands) < 2:
        return None
    left, right = operands[:2]
    if node.op in ("MatMul", "MatMulInteger"):
        # a constant's own fan-in serves where the left-hand side's last axis cannot be told
        inner = (right[-2] if right and len(right) > 1 else None) or (left[-1] if left else None)
        return math.prod(out) * inner if out is not None and inner is not None else None
    if node.op == "Gemm":
        return math.prod(out) * left[0 if node.attrs.get("transA", 0) else 1] if out and left else None
    if node.op in ("Conv", "ConvInteger"):
        return math.prod(out) * math.prod(right[1:]) if out and right else None
    if node.op == "ConvTranspose":
        return math.prod(left) * math.prod(right[1:]) if left and right else None
    past = len(node.inputs) > 4 and bool(node.inputs[4].name)
    if node.op == "Attention" and node.domain in (None, "", "ai.onnx") and not past:
        # every query meets every key, then every weight meets a value
        return (math.prod(left) + math.prod(out)) * right[-2] if out and left and right else None
    return None


def _einsum(equation: str, operands: list[Shape | None]) -> int | None:
    """Every combination of indices is one product, whatever the order they are added up in."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if len(terms) == 1:
        return 0
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, operands, strict=True):
        if shape is None or len(term) != len(shape) or "." in term:
            return None
        for index, size in zip(term, shape, strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    return math.prod(sizes.values()) * (len(terms) - 1)
