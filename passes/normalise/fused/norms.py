"""Fused norms: the residual sum, the embedding and the norm itself, one by one."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .attend import counted, extent, widened
from .parts import Kept, Parts, Results


def layer_norm(
    parts: Parts, x: gs.Tensor, gain: gs.Tensor, shift: gs.Tensor | None, epsilon: float, outputs: int = 1
) -> list[gs.Tensor]:
    """The normalised value, and its mean and inverse deviation when three outputs are asked for."""
    inputs = [x, gain] if shift is None else [x, gain, shift]
    made = parts.add("LayerNormalization", *inputs, part="norm", outputs=outputs, axis=-1, epsilon=epsilon)
    return list(made) if outputs > 1 else [made]


def rms_norm(
    parts: Parts, x: gs.Tensor, gain: gs.Tensor, epsilon: float, part: str = "norm"
) -> tuple[gs.Tensor, gs.Tensor]:
    """(x / sqrt(mean(x²) + epsilon) · gain, the inverse root)."""
    square = parts.add("Mul", x, x, part=f"{part}_square")
    mean = parts.add("ReduceMean", square, parts.ints(-1), part=f"{part}_mean", keepdims=1)
    safe = parts.add("Add", mean, parts.like(epsilon, x), part=f"{part}_safe")
    inverse = parts.add("Reciprocal", parts.add("Sqrt", safe, part=f"{part}_root"), part=f"{part}_inverse")
    unit = parts.add("Mul", x, inverse, part=f"{part}_unit")
    return parts.add("Mul", unit, gain, part=part), inverse


def _sum(parts: Parts, bias: int) -> gs.Tensor:
    """input (+ bias) + skip: the bias is the linear layer's before it."""
    x = parts.need(0)
    if parts.given(bias) is not None:
        x = parts.add("Add", x, parts.need(bias), part="biased")
    return parts.add("Add", x, parts.need(1), part="sum")


def skip_layer_norm(parts: Parts) -> Results:
    total = _sum(parts, 4)
    count = 3 if parts.wanted(1) or parts.wanted(2) else 1
    epsilon = float(parts.attr("epsilon", 1e-12))
    made = layer_norm(parts, total, parts.need(2), parts.given(3), epsilon, count)
    return [made[0], *(made[1:] or [None, None]), total]


def skip_rms_norm(parts: Parts) -> Results:
    if parts.wanted(1):
        raise Kept("SPK403", "its mean is read, and a root-mean-square norm has none")
    total = _sum(parts, 3)
    made, inverse = rms_norm(parts, total, parts.need(2), float(parts.attr("epsilon", 1e-12)))
    return [made, None, inverse, total]


def simplified_layer_norm(parts: Parts) -> Results:
    x = parts.need(0)
    axis = int(parts.attr("axis", -1))
    if axis != -1 and axis != parts.rank(x, "input") - 1:
        raise Kept("SPK402", f"it normalises over all axes from {axis} on")
    made, inverse = rms_norm(parts, x, parts.need(1), float(parts.attr("epsilon", 1e-5)))
    return [made, inverse]


def embed_layer_norm(parts: Parts) -> Results:
    words, positions = parts.need(0), parts.given(8)
    if positions is None:
        positions = widened(parts, counted(parts, extent(parts, words, 1)), 0, part="positions")
    total = parts.add(
        "Add",
        parts.add("Gather", parts.need(2), words, part="word", axis=0),
        parts.add("Gather", parts.need(3), positions, part="position", axis=0),
        part="sum",
    )
    if parts.given(1) is not None and parts.given(4) is not None:
        segment = parts.add("Gather", parts.need(4), parts.need(1), part="segment", axis=0)
        total = parts.add("Add", total, segment, part="total")
    epsilon = float(parts.attr("epsilon", 1e-12))
    made = layer_norm(parts, total, parts.need(5), parts.need(6), epsilon)[0]
    return [made, _lengths(parts, words) if parts.wanted(1) else None, total]


def _lengths(parts: Parts, words: gs.Tensor) -> gs.Tensor:
    """How many entries of the mask are one, by sequence; zero without a mask."""
    mask = parts.given(7)
    if mask is None:
        shape = parts.add("Shape", words, part="batch", start=0, end=1)
        return parts.add("Expand", parts.constant([0], np.int32), shape, part="lengths")
    kept = parts.add("Equal", mask, parts.constant(1, parts.dtype(mask)), part="kept")
    ones = parts.add("Cast", kept, part="ones", to=6)
    return parts.add("ReduceSum", ones, parts.ints(1), part="lengths", keepdims=0)


FORMS = {
    ("com.microsoft", "SkipLayerNormalization"): skip_layer_norm,
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): skip_rms_norm,
    ("com.microsoft", "SimplifiedLayerNormalization"): simplified_layer_norm,
    ("", "SimplifiedLayerNormalization"): simplified_layer_norm,
    ("com.microsoft", "EmbedLayerNormalization"): embed_layer_norm,
}
