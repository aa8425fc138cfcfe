"""Fused activations as the sums and products they are."""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from .parts import Kept, Parts, Results


def gelu_erf(parts: Parts, x: gs.Tensor) -> gs.Tensor:
    ratio = parts.add("Div", x, parts.like(math.sqrt(2), x), part="ratio")
    shifted = parts.add("Add", parts.add("Erf", ratio, part="erf"), parts.like(1, x), part="shifted")
    whole = parts.add("Mul", x, shifted, part="whole")
    return parts.add("Mul", whole, parts.like(0.5, x), part="gelu")


def gelu_tanh(parts: Parts, x: gs.Tensor) -> gs.Tensor:
    square = parts.add("Mul", x, x, part="square")
    cube = parts.add("Mul", square, x, part="cube")
    small = parts.add("Mul", cube, parts.like(0.044715, x), part="small")
    inner = parts.add("Add", x, small, part="inner")
    angle = parts.add("Mul", inner, parts.like(math.sqrt(2 / math.pi), x), part="angle")
    shifted = parts.add("Add", parts.add("Tanh", angle, part="tanh"), parts.like(1, x), part="shifted")
    half = parts.add("Mul", x, parts.like(0.5, x), part="half")
    return parts.add("Mul", half, shifted, part="gelu")


def biased(parts: Parts, x: gs.Tensor, index: int) -> gs.Tensor:
    bias = parts.given(index)
    return x if bias is None else parts.add("Add", x, bias, part="biased")


def gelu(parts: Parts) -> Results:
    return [gelu_erf(parts, parts.need(0))]


def bias_gelu(parts: Parts) -> Results:
    return [gelu_erf(parts, parts.add("Add", parts.need(0), parts.need(1), part="biased"))]


def fast_gelu(parts: Parts) -> Results:
    return [gelu_tanh(parts, biased(parts, parts.need(0), 1))]


def quick_gelu(parts: Parts) -> Results:
    x, alpha = parts.need(0), float(parts.attr("alpha", 1.702))
    inner = x if alpha == 1 else parts.add("Mul", x, parts.like(alpha, x), part="inner")
    return [parts.add("Mul", x, parts.add("Sigmoid", inner, part="sigmoid"), part="gelu")]


def bias_split_gelu(parts: Parts) -> Results:
    x = parts.add("Add", parts.need(0), parts.need(1), part="biased")
    left, right = parts.add("Split", x, part="halves", outputs=2, axis=-1, num_outputs=2)
    return [parts.add("Mul", left, gelu_erf(parts, right), part="gated")]


def gemm_fast_gelu(parts: Parts) -> Results:
    product = parts.add("MatMul", parts.need(0), parts.need(1), part="product")
    return [gelu_tanh(parts, biased(parts, product, 2))]


def bias_add(parts: Parts) -> Results:
    biased_ = parts.add("Add", parts.need(0), parts.need(1), part="biased")
    return [parts.add("Add", biased_, parts.need(2), part="sum")]


def bias_softmax(parts: Parts) -> Results:
    """Only over the last axis, and with a bias that broadcasts as it stands."""
    data, bias = parts.need(0), parts.need(1)
    rank, axis = parts.rank(data, "input"), int(parts.attr("axis", 1))
    if axis % rank != rank - 1:
        raise Kept("SPK402", f"its softmax works over axes {axis} to {rank - 1} together")
    if parts.attr("is_inner_broadcast", 1) and parts.rank(bias, "bias") != rank:
        raise Kept("SPK402", "its bias is laid out for an inner broadcast")
    return [parts.add("Softmax", parts.add("Add", data, bias, part="scores"), part="softmax", axis=-1)]


FORMS = {
    ("com.microsoft", "Gelu"): gelu,
    ("com.microsoft", "BiasGelu"): bias_gelu,
    ("com.microsoft", "FastGelu"): fast_gelu,
    ("com.microsoft", "QuickGelu"): quick_gelu,
    ("com.microsoft", "BiasSplitGelu"): bias_split_gelu,
    ("com.microsoft", "GemmFastGelu"): gemm_fast_gelu,
    ("com.microsoft", "BiasAdd"): bias_add,
    ("com.microsoft", "BiasSoftmax"): bias_softmax,
}
