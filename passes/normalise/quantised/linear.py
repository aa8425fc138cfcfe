"""QuantizeLinear and DequantizeLinear, and the operators that compute between quantised tensors."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.ir.weights import array

from ..rewiring import constant_input, has_input
from . import values
from .real import Real, form

MICROSOFT = "com.microsoft"


@form("QuantizeLinear")
@form("QuantizeLinear", domain=MICROSOFT)
def quantize(real: Real, node: gs.Node) -> str:
    scale, zero = constant_input(node, 1), constant_input(node, 2)
    if scale is None or (has_input(node, 2) and zero is None):
        return "its scale or zero point is computed"
    if isinstance(node.inputs[0], gs.Constant):
        source, axis, block = node.inputs[0], node.attrs.get("axis", 1), node.attrs.get("block_size", 0)
        to = array(zero).dtype if zero is not None else _type(node)

        def through(x: np.ndarray, s: np.ndarray, z: np.ndarray | None = None) -> np.ndarray:
            steps = values.quantise(x, s, z, axis=axis, block=block, to=to)
            return values.dequantise(steps, s, z, axis=axis, block=block)

        sources = [source, scale] + ([zero] if zero is not None else [])
        made = real.derive(f"{node.outputs[0].name}/real", sources, through, source.shape)
        real.hold(node.outputs[0], made)
        return ""
    real.quantised(node, node.inputs[0], zero, _type(node))
    return ""


def _type(node: gs.Node) -> np.dtype:
    return np.dtype(
        onnx.helper.tensor_dtype_to_np_dtype(node.attrs.get("output_dtype") or onnx.TensorProto.UINT8)
    )


@form("DequantizeLinear")
@form("DequantizeLinear", domain=MICROSOFT)
def dequantize(real: Real, node: gs.Node) -> str:
    source = node.inputs[0]
    if id(source) in real.real:
        real.hand_over(node, node.outputs[0], real.real[id(source)])
        return ""
    scale, zero = constant_input(node, 1), constant_input(node, 2)
    if scale is None or (has_input(node, 2) and zero is None):
        return "its scale or zero point is computed"
    if isinstance(source, gs.Constant):
        axis, block = node.attrs.get("axis", 1), node.attrs.get("block_size", 0)
        real.hand_over(node, node.outputs[0], real.constant(source, scale, zero, axis, block))
        return ""
    looked_up = real.looked_up(source, scale, zero)
    if looked_up is not None:
        real.hand_over(node, node.outputs[0], looked_up)
        return ""
    return "what it dequantises comes from operators that are not known as quantised ones"


@form("QLinearMatMul")
def matmul(real: Real, node: gs.Node) -> str:
    made = real.add(node, "MatMul", [real.of(node, 0), real.of(node, 3, axis=_columns(node, 3))])
    real.quantised(node, made, constant_input(node, 7))
    return ""


def _columns(node: gs.Node, place: int) -> int:
    """Scales of a matrix go with its columns, the last axis."""
    return len(node.inputs[place].shape) - 1 if isinstance(node.inputs[place], gs.Constant) else 1


@form("QLinearConv")
def conv(real: Real, node: gs.Node) -> str:
    inputs = [real.of(node, 0), real.of(node, 3, axis=0)]
    if has_input(node, 8):
        bias, left, right = (constant_input(node, i) for i in (8, 1, 4))
        if bias is None or left is None or right is None:
            return "its bias or scales are computed"
        inputs.append(_bias(real, bias, left, right))
    real.quantised(node, real.add(node, "Conv", inputs, **node.attrs), constant_input(node, 7))
    return ""


def _bias(real: Real, bias: gs.Constant, left: gs.Constant, right: gs.Constant) -> gs.Constant:
    """An integer bias counts in steps of both scales together."""

    def function(b: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        return (b.astype(np.float32) * (s.reshape(-1) * t.reshape(-1))).astype(np.float32)

    return real.derive(f"{bias.name}/real", [bias, left, right], function, bias.shape)


@form("QGemm", domain=MICROSOFT)
def gemm(real: Real, node: gs.Node) -> str:
    transposed = node.attrs.get("transB", 0)
    inputs = [real.of(node, 0), real.of(node, 3, axis=0 if transposed else 1)]
    if has_input(node, 6):
        bias, left, right = (constant_input(node, i) for i in (6, 1, 4))
        if bias is None or left is None or right is None:
            return "its bias or scales are computed"
        inputs.append(_bias(real, bias, left, right))
    kept = {key: value for key, value in node.attrs.items() if key in ("transA", "transB", "alpha")}
    made = real.add(node, "Gemm", inputs, **kept)
    if has_input(node, 7):
        real.quantised(node, made, constant_input(node, 8))
    else:
        real.hand_over(node, node.outputs[0], made)
    return ""


@form("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def binary(real: Real, node: gs.Node) -> str:
    made = real.add(node, node.op.removeprefix("QLinear"), [real.of(node, 0), real.of(node, 3)])
    real.quantised(node, made, constant_input(node, 7))
    return ""


@form("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain=MICROSOFT)
def unary(real: Real, node: gs.Node) -> str:
    if node.op == "QLinearSoftmax" and node.attrs.get("opset", 13) < 13 and node.attrs.get("axis", -1) != -1:
        return "it flattens its axes as softmax did before opset 13"
    attributes = {key: value for key, value in node.attrs.items() if key in ("axis", "alpha")}
    made = real.add(node, node.op.removeprefix("QLinear"), [real.of(node, 0)], **attributes)
    real.quantised(node, made, constant_input(node, 4))
    return ""


@form("QLinearConcat", domain=MICROSOFT)
def concat(real: Real, node: gs.Node) -> str:
    parts = [real.of(node, place) for place in range(2, len(node.inputs), 3)]
    real.quantised(node, real.add(node, "Concat", parts, axis=node.attrs["axis"]), constant_input(node, 1))
    return ""


@form("QLinearWhere", domain=MICROSOFT)
def where(real: Real, node: gs.Node) -> str:
    made = real.add(node, "Where", [node.inputs[0], real.of(node, 1), real.of(node, 4)])
    real.quantised(node, made, constant_input(node, 8))
    return ""


@form("QLinearGlobalAveragePool", "QLinearAveragePool", domain=MICROSOFT)
def pool(real: Real, node: gs.Node) -> str:
    if node.attrs.get("channels_last", 0):
        return "its channels come last"
    kept = {key: value for key, value in node.attrs.items() if key not in ("channels_last",)}
    made = real.add(node, node.op.removeprefix("QLinear"), [real.of(node, 0)], **kept)
    real.quantised(node, made, constant_input(node, 4))
    return ""


@form("QAttention", domain=MICROSOFT)
def attention(real: Real, node: gs.Node) -> str:
    """Its inputs: x, weights, bias, scales of x and weights, mask, zero points of x and weights, past."""
    scale, zero = constant_input(node, 4), constant_input(node, 7)
    if not isinstance(node.inputs[1], gs.Constant) or scale is None:
        return "its weights are computed"
    if id(node.inputs[0]) not in real.real:
        return "its input is quantised by an operator that is not known"
    weights = real.constant(node.inputs[1], scale, zero, axis=1)
    inputs = [real.real[id(node.inputs[0])], weights, node.inputs[2]]
    extra = [node.inputs[5] if has_input(node, 5) else gs.Variable.empty()]
    if has_input(node, 8):
        extra.append(node.inputs[8])
    while extra and not extra[-1].name:
        extra.pop()
    made = real.add(node, "Attention", [*inputs, *extra], domain=MICROSOFT, **node.attrs)
    if len(node.outputs) > 1 and (node.outputs[1].outputs or id(node.outputs[1]) in real.outputs):
        present = gs.Variable(f"{node.name}/present")
        real.nodes[-1].outputs.append(present)
        real.hand_over(node, node.outputs[1], present)
    real.hand_over(node, node.outputs[0], made)
    return ""


@form("QEmbedLayerNormalization", domain=MICROSOFT)
def embedding(real: Real, node: gs.Node) -> str:
    """Its inputs: tokens, segments, three tables, gain, shift, mask; then their scales and zero points."""
    tables: list[gs.Tensor] = []
    for place in range(2, 7):
        if not has_input(node, place):
            tables.append(gs.Variable.empty())
            continue
        table, scale, zero = (constant_input(node, i) for i in (place, place + 6, place + 11))
        if table is None or scale is None:
            return "its tables are computed"
        tables.append(real.constant(table, scale, zero))
    rest = [node.inputs[7]] if has_input(node, 7) else []
    inputs = [*node.inputs[:2], *tables, *rest]
    made = real.add(node, "EmbedLayerNormalization", inputs, domain=MICROSOFT, **node.attrs)
    if len(node.outputs) > 1 and (node.outputs[1].outputs or id(node.outputs[1]) in real.outputs):
        mask = gs.Variable(f"{node.name}/lengths")
        real.nodes[-1].outputs.append(mask)
        real.hand_over(node, node.outputs[1], mask)
    real.hand_over(node, node.outputs[0], made)
    return ""


@form(
    "MulInteger", "ReduceSumInteger", "MatMulInteger16", "QOrderedLongformerAttention", "DynamicQuantizeLSTM",
    "MatMulFpQ4", "MatMulBlockQuantizedFp8Weight", "QuantizeBFP",
    "MatMulBlockQuantizedFp4Weight", "MatMulNBitsQkv", "MatMulNBitsMlp", "QuantizeWithOrder",
    "QLinearReduceMean", domain=MICROSOFT,
)  # fmt: skip
def unknown(real: Real, node: gs.Node) -> str:
    return "spikec knows no plain form of it"
