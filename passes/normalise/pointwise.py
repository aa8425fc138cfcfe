"""A convolution that looks at one position is a linear layer: MatMul between moves of the channels."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import dtype_of

from .rewiring import Replacement, constant_input, each_node, has_input, is_standard


@compiler_pass(after=["take_constants", "modernise", "widen", "dequantise", "take_apart"])
def spell_convolutions(program: Program) -> None:
    def rewrite(node: gs.Node) -> list[gs.Node] | None:
        weight = constant_input(node, 1)
        if node.op != "Conv" or not is_standard(node) or weight is None or not _one_position(node, weight):
            return None
        fan_out, fan_in = weight.shape[:2]
        matrix = program.derive(
            f"{weight.name}/matrix",
            [weight],
            lambda w: w.reshape(fan_out, fan_in).T,
            (fan_in, fan_out),
            dtype_of(weight),
        )
        rank = len(weight.shape)
        last, back = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
        new = Replacement(program, node)
        value = new.add(
            "MatMul", [new.add("Transpose", [node.inputs[0]], "channels_last", perm=last), matrix]
        )
        if has_input(node, 2):
            value = new.add("Add", [value, node.inputs[2]], "bias")
        return new.finish(new.add("Transpose", [value], "channels_first", perm=back))

    each_node(program.graph, rewrite)


def _one_position(node: gs.Node, weight: gs.Constant) -> bool:
    """One place, no padding, no steps, all channels together."""
    plain = node.attrs.get("group", 1) == 1 and not any(node.attrs.get("pads", [0]))
    steps = np.prod(node.attrs.get("strides", [1])) == 1
    return plain and steps and math.prod(weight.shape[2:]) == 1 and len(weight.shape) > 2
