"""Operators that provably pass their input on: recognised here, taken away while constants are folded."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.weights import array

from .rewiring import constant_input, has_input, is_standard
from .types import Types

FAR = 2**31 - 1
"""Exporters write this, or more, for «to the end»."""


def passes_on(node: gs.Node, types: Types) -> list[gs.Tensor] | None:
    """What the node's output may be replaced with, or None."""
    if not node.inputs:
        return None
    source = node.inputs[0]
    if node.op == "Identity" or (node.op == "Dropout" and _at_inference(node)):
        return [source]
    if node.op == "Cast" and _casts_to_itself(node, types):
        return [source]
    if node.op in ("Reshape", "Expand") and _same_shape(source, node.outputs[0], types):
        return [source]
    if node.op == "Transpose":
        return _transposed_back(node)
    if node.op == "Slice" and _takes_all(node):
        return [source]
    if node.op == "Concat" and len(node.inputs) == 1:
        return [source]
    if node.op in NEUTRAL:
        return _neutral(node, types)
    return None


def _at_inference(node: gs.Node) -> bool:
    if len(node.outputs) > 1 and node.outputs[1].outputs:
        return False
    if not has_input(node, 2):
        return True
    training = constant_input(node, 2)
    return training is not None and not array(training).any()


def _casts_to_itself(node: gs.Node, types: Types) -> bool:
    to = node.attrs["to"]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to) if isinstance(to, int) else np.dtype(to)
    return types.dtype(node.inputs[0]) == dtype


def _same_shape(source: gs.Tensor, result: gs.Tensor, types: Types) -> bool:
    before = types.shape(source)
    return before is not None and before == types.shape(result) and None not in before


def _transposed_back(node: gs.Node) -> list[gs.Tensor] | None:
    order = node.attrs.get("perm")
    if order is not None and list(order) == sorted(order):
        return [node.inputs[0]]
    first = graphs.producer(node.inputs[0])
    if first is None or first.op != "Transpose" or not is_standard(first) or not first.inputs:
        return None
    inner = first.attrs.get("perm")
    if order is None or inner is None:
        return [first.inputs[0]] if order is None and inner is None else None
    return [first.inputs[0]] if [inner[i] for i in order] == sorted(inner) else None


def _takes_all(node: gs.Node) -> bool:
    given = [constant_input(node, i) for i in range(1, len(node.inputs))]
    if any(constant is None for constant in given):
        return False
    starts, ends, *rest = (array(constant) for constant in given if constant is not None)
    steps = rest[1] if len(rest) > 1 else np.ones(1)
    return bool((starts == 0).all() and (ends >= FAR).all() and (steps == 1).all())


NEUTRAL = {"Mul": 1, "Div": 1, "Add": 0, "Sub": 0, "Pow": 1}


def _neutral(node: gs.Node, types: Types) -> list[gs.Tensor] | None:
    """x·1, x+0 and the like, by a scalar of no more axes than x."""
    value = NEUTRAL[node.op]
    for place in (1, 0) if node.op in ("Mul", "Add") else (1,):
        constant, other = constant_input(node, place), node.inputs[1 - place]
        if constant is None or isinstance(other, gs.Constant):
            continue
        shape = types.shape(other)
        fits = len(constant.shape) == 0 or (shape is not None and len(constant.shape) <= len(shape))
        if np.prod(constant.shape) == 1 and fits and array(constant).item() == value:
            return [other]
    return None
