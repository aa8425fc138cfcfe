"""Activations quantised as they come (what dynamic quantisation emits): the integer products as real ones."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs

from ..rewiring import constant_input, has_input
from . import values
from .linear import MICROSOFT
from .real import Real, form


@form("DynamicQuantizeLinear")
def quantize(real: Real, node: gs.Node) -> str:
    real.roundings += 1
    real.hold(node.outputs[0], node.inputs[0])
    return ""


@form("MatMulInteger", "ConvInteger")
def integer_product(real: Real, node: gs.Node) -> str:
    """`(x / s) · (W - z)`, cast, times `s · t`: the real product of x and `(W - z) · t`."""
    source, weight, zero = node.inputs[0], node.inputs[1], constant_input(node, 3)
    if not isinstance(weight, gs.Constant) or (has_input(node, 3) and zero is None):
        return _of_activations(real, node)
    if id(source) not in real.real:
        return "its input is quantised by an operator that is not known"
    x, scale = real.real[id(source)], _scale_of(source)
    if scale is None:
        return "the scale of its input is not known"
    product = "MatMul" if node.op == "MatMulInteger" else "Conv"
    axis = len(weight.shape) - 1 if product == "MatMul" else 0
    found = _rescaled(node, scale)
    if found is None:
        return "its result is not cast to a real number and scaled back"
    last, factor = found
    sources = [weight, factor] + ([zero] if zero is not None else [])

    def function(w: np.ndarray, t: np.ndarray, z: np.ndarray | None = None) -> np.ndarray:
        t = t.reshape(-1) if product == "Conv" else t
        return values.dequantise(w, t, z, axis=axis)

    real_weight = real.derive(f"{weight.name}/real", sources, function, weight.shape)
    real.hand_over(last, last.outputs[0], real.add(node, product, [x, real_weight], **node.attrs))
    return ""


def _of_activations(real: Real, node: gs.Node) -> str:
    """A product of two activations that are both quantised as they come."""
    left, right = node.inputs[:2]
    if node.op != "MatMulInteger" or not (id(left) in real.real and id(right) in real.real):
        return "its weights are computed"
    scales = [_scale_of(left), _scale_of(right)]
    users = [user for user in node.outputs[0].outputs if user.op == "Cast"]
    if None in scales or len(users) != 1 or len(node.outputs[0].outputs) != 1:
        return "its result is not cast to a real number and scaled back"
    for last in users[0].outputs[0].outputs:
        other = _other(last, users[0].outputs[0])
        maker = graphs.producer(other) if other is not None and last.op == "Mul" else None
        if (
            maker is not None
            and maker.op == "Mul"
            and {id(i) for i in maker.inputs} == {id(s) for s in scales}
        ):
            made = real.add(node, "MatMul", [real.real[id(left)], real.real[id(right)]])
            real.hand_over(last, last.outputs[0], made)
            return ""
    return "its result is not scaled back"


def _scale_of(quantised: gs.Tensor) -> gs.Tensor | None:
    """The scale beside a tensor that DynamicQuantizeLinear or QuantizeLinear gives."""
    maker = graphs.producer(quantised)
    while maker is not None and maker.op in ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice"):
        maker = graphs.producer(maker.inputs[0])
    if maker is None:
        return None
    return (
        maker.outputs[1]
        if maker.op == "DynamicQuantizeLinear"
        else maker.inputs[1]
        if maker.op == "QuantizeLinear"
        else None
    )


def _rescaled(node: gs.Node, scale: gs.Tensor) -> tuple[gs.Node, gs.Constant] | None:
    """The last node of Cast, Mul (in whatever order of factors), and the constant factor but for `scale`."""
    casts = list(node.outputs[0].outputs)
    if len(casts) != 1 or casts[0].op != "Cast":
        return None
    current, left, factor = casts[0].outputs[0], {id(scale)}, None
    while left or factor is None:
        if len(current.outputs) != 1 or current.outputs[0].op != "Mul":
            return None
        last = current.outputs[0]
        other = _other(last, current)
        parts = [other]
        maker = graphs.producer(other) if other is not None else None
        if maker is not None and maker.op == "Mul":
            parts = list(maker.inputs)
        for part in parts:
            if part is not None and id(part) in left:
                left.clear()
            elif isinstance(part, gs.Constant) and factor is None:
                factor = part
            else:
                return None
        current = last.outputs[0]
    return last, factor


def _other(node: gs.Node, tensor: gs.Tensor) -> gs.Tensor | None:
    return next((i for i in node.inputs if i is not tensor), None)


@form("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_matmul(real: Real, node: gs.Node) -> str:
    """Inputs: x, weights, their scale, their zero point, bias."""
    weight, scale, zero = (constant_input(node, i) for i in (1, 2, 3))
    if weight is None or scale is None or (has_input(node, 3) and zero is None):
        return "its weights are computed"
    real.roundings += 1
    _finish(real, node, node.inputs[0], real.constant(weight, scale, zero, len(weight.shape) - 1), 4)
    return ""


@form("MatMulIntegerToFloat", domain=MICROSOFT)
def integer_matmul(real: Real, node: gs.Node) -> str:
    """Inputs: x, weights, scales of x and weights, zero points of x and weights, bias."""
    weight, scale, zero = (constant_input(node, i) for i in (1, 3, 5))
    if weight is None or scale is None or (has_input(node, 5) and zero is None):
        return "its weights are computed"
    if id(node.inputs[0]) not in real.real:
        return "its input is quantised by an operator that is not known"
    made = real.constant(weight, scale, zero, len(weight.shape) - 1)
    _finish(real, node, real.real[id(node.inputs[0])], made, 6)
    return ""


def _finish(real: Real, node: gs.Node, x: gs.Tensor, weight: gs.Constant, bias: int) -> None:
    made = real.add(node, "MatMul", [x, weight])
    if has_input(node, bias):
        made = real.add(node, "Add", [made, node.inputs[bias]])
    real.hand_over(node, node.outputs[0], made)
