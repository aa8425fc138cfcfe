"""Weights of a few bits in blocks: MatMulNBits, MatMulBnb4, GatherBlockQuantized."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir.weights import dtype_of

from ..rewiring import constant_input, has_input
from . import values
from .linear import MICROSOFT
from .real import Real, form


@form("MatMulNBits", domain=MICROSOFT)
def matmul(real: Real, node: gs.Node) -> str:
    """Inputs: x, packed weights `[out, blocks, bytes]`, scales, zero points, group of each input, bias."""
    fan_in, fan_out = int(node.attrs["K"]), int(node.attrs["N"])
    bits, block = int(node.attrs.get("bits", 4)), int(node.attrs["block_size"])
    if 8 % bits:
        return f"weights of {bits} bits are packed across bytes"
    given = [constant_input(node, i) for i in range(1, 5)]
    if any(constant is None and has_input(node, i + 1) for i, constant in enumerate(given)):
        return "its weights are computed"
    if given[2] is not None and given[3] is not None:
        return "it has zero points and an order of its own, and runtimes differ in what they make of both"
    names = ("packed", "scales", "zeros", "order")
    sources = {name: constant for name, constant in zip(names, given, strict=True) if constant is not None}

    def function(*arrays: np.ndarray) -> np.ndarray:
        named = dict(zip(sources, arrays, strict=True))
        return values.from_blocks(**named, fan_in=fan_in, fan_out=fan_out, bits=bits, block=block)

    weight = real.derive(f"{node.inputs[1].name}/real", list(sources.values()), function, (fan_in, fan_out))
    made = real.add(node, "MatMul", [node.inputs[0], weight])
    if has_input(node, 5):
        made = real.add(node, "Add", [made, node.inputs[5]])
    real.hand_over(node, node.outputs[0], made)
    return ""


NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
    1.0,
)  # fmt: skip
FP4 = (
    0.0, 0.00520833333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25,
    -0.0, -0.00520833333, -0.66666667, -1.0, -0.33333333, -0.5, -0.16666667, -0.25,
)  # fmt: skip


@form("MatMulBnb4", domain=MICROSOFT)
def bnb4(real: Real, node: gs.Node) -> str:
    """Inputs: x, packed weights (the high half of a byte first), the largest value of each block."""
    fan_in, fan_out, block = (int(node.attrs[key]) for key in ("K", "N", "block_size"))
    packed, largest = constant_input(node, 1), constant_input(node, 2)
    if packed is None or largest is None:
        return "its weights are computed"
    levels = np.asarray(NF4 if node.attrs["quant_type"] == 1 else FP4, np.float32)

    def function(b: np.ndarray, top: np.ndarray) -> np.ndarray:
        codes = np.stack([b.reshape(-1) >> 4, b.reshape(-1) & 15], -1).reshape(-1)[: fan_in * fan_out]
        made = levels[codes] * np.repeat(top.reshape(-1), block)[: codes.size].astype(np.float32)
        return made.reshape(fan_out, fan_in).T

    weight = real.derive(f"{packed.name}/real", [packed, largest], function, (fan_in, fan_out))
    real.hand_over(node, node.outputs[0], real.add(node, "MatMul", [node.inputs[0], weight]))
    return ""


@form("GatherBlockQuantized", domain=MICROSOFT)
def gather(real: Real, node: gs.Node) -> str:
    """Inputs: table, ids, scales, zero points."""
    packed, scales, zeros = (constant_input(node, i) for i in (0, 2, 3))
    if packed is None or scales is None or (has_input(node, 3) and zeros is None):
        return "its table is computed"
    bits, block = int(node.attrs.get("bits", 4)), int(node.attrs.get("block_size", 128))
    rank, in_bytes = len(packed.shape), dtype_of(packed) == np.uint8
    axis = int(node.attrs.get("quantize_axis", 1)) % rank
    if in_bytes and bits < 8 and axis != rank - 1:
        return "its blocks do not lie along the axis that is packed"
    shape = [*packed.shape[:-1], packed.shape[-1] * (8 // bits if in_bytes else 1)]
    middle = 2 ** (bits - 1) if in_bytes else 0

    def function(b: np.ndarray, s: np.ndarray, z: np.ndarray | None = None) -> np.ndarray:
        return values.table(b, s, z, bits=bits, block=block, axis=axis, middle=middle)

    sources = [packed, scales] + ([zeros] if zeros is not None else [])
    table = real.derive(f"{packed.name}/real", sources, function, shape)
    made = real.add(node, "Gather", [table, node.inputs[1]], axis=int(node.attrs.get("gather_axis", 0)))
    real.hand_over(node, node.outputs[0], made)
    return ""
