"""The same model with integers for weights, as quantisation tools write it, and the real one it means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .net import REAL


def rounded(bits: int = 8) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Symmetric steps and scale of every column."""

    def apply(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        top = 2 ** (bits - 1) - 1
        scale = (np.abs(values).max(axis=0) / top).astype(np.float32)
        return np.clip(np.rint(values / scale), -top, top).astype(np.int8), scale

    return apply


Writing = Callable[[onnx.NodeProto, np.ndarray, onnx.ModelProto], list[onnx.NodeProto]]
"""What stands for a product with these weights; it may give the model more weights."""


def requantised(model: onnx.ModelProto, how: Writing) -> onnx.ModelProto:
    """Every product with constant weights as `how` writes it."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        weighs = node.op_type == "MatMul" and node.input[1] in arrays
        nodes += how(node, arrays[node.input[1]], model) if weighs else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def give(model: onnx.ModelProto, **weights: np.ndarray) -> list[str]:
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in weights.items())
    return list(weights)


def real(node: onnx.NodeProto, values: np.ndarray, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    steps, scale = rounded()(values)
    give(model, **{f"{node.name}.w": steps.astype(np.float32) * scale})
    return [helper.make_node("MatMul", [node.input[0], f"{node.name}.w"], node.output, name=node.name)]


def qdq(node: onnx.NodeProto, values: np.ndarray, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    steps, scale = rounded()(values)
    p = node.name
    x = [node.input[0], *give(model, **{f"{p}.xs": np.float32(0.05), f"{p}.xz": np.uint8(128)})]
    w = give(model, **{f"{p}.w": steps, f"{p}.ws": scale, f"{p}.wz": np.zeros(len(scale), np.int8)})
    return [
        helper.make_node("QuantizeLinear", x, [f"{p}.q"], name=f"{p}.Q"),
        helper.make_node("DequantizeLinear", [f"{p}.q", *x[1:]], [f"{p}.x"], name=f"{p}.DQ"),
        helper.make_node("DequantizeLinear", w, [f"{p}.d"], name=f"{p}.DW", axis=1),
        helper.make_node("MatMul", [f"{p}.x", f"{p}.d"], node.output, name=p),
    ]


def as_it_comes(node: onnx.NodeProto, values: np.ndarray, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """What dynamic quantisation writes; per column."""
    steps, scale = rounded()(values)
    p = node.name
    give(model, **{f"{p}.w": steps, f"{p}.ws": scale})
    return [
        helper.make_node(
            "DynamicQuantizeLinear", [node.input[0]], [f"{p}.q", f"{p}.s", f"{p}.z"], name=f"{p}.D"
        ),
        helper.make_node("MatMulInteger", [f"{p}.q", f"{p}.w", f"{p}.z"], [f"{p}.i"], name=f"{p}.M"),
        helper.make_node("Cast", [f"{p}.i"], [f"{p}.r"], name=f"{p}.C", to=REAL),
        helper.make_node("Mul", [f"{p}.s", f"{p}.ws"], [f"{p}.t"], name=f"{p}.S"),
        helper.make_node("Mul", [f"{p}.r", f"{p}.t"], node.output, name=p),
    ]


def in_blocks(node: onnx.NodeProto, values: np.ndarray, model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Four bits, blocks of 16 inputs, with zero points."""
    fan_in, fan_out, block, p = *values.shape, 16, node.name
    count = -(-fan_in // block)
    padded = np.zeros((fan_out, count * block), np.float32)
    padded[:, :fan_in] = values.T
    groups = padded.reshape(fan_out, count, block)
    low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
    scale = ((high - low) / 15).astype(np.float32)
    zero = np.rint(-low / scale).astype(np.uint8)
    steps = np.clip(np.rint(groups / scale[..., None]) + zero[..., None], 0, 15).astype(np.uint8)
    zeros = np.pad(zero, ((0, 0), (0, count % 2)))
    give(
        model,
        **{
            f"{p}.w": steps[..., 0::2] | steps[..., 1::2] << 4,
            f"{p}.s": scale.reshape(-1),
            f"{p}.z": (zeros[:, 0::2] | zeros[:, 1::2] << 4).reshape(-1),
        },
    )
    inputs = [node.input[0], f"{p}.w", f"{p}.s", f"{p}.z"]
    attributes = {"K": fan_in, "N": fan_out, "bits": 4, "block_size": block}
    return [
        helper.make_node("MatMulNBits", inputs, node.output, name=p, domain="com.microsoft", **attributes)
    ]
