"""Constant nodes become constants, whichever attribute holds the value."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import SparseValues, array

from .rewiring import detach, each_node, forget, is_standard, ordered, output_ids, redirect


@compiler_pass()
def take_constants(program: Program) -> None:
    outputs = output_ids(program.graph)
    top = {id(node) for node in program.graph.nodes}

    def rewrite(node: gs.Node) -> list[gs.Node] | None:
        if node.op != "Constant" or not is_standard(node) or id(node.outputs[0]) in outputs:
            return None
        values = _value(node)
        if values is None:
            return None
        if id(node) in top:
            forget(program, node, "folded: a constant")
        output = node.outputs[0]
        redirect(output, gs.Constant(output.name, values))
        detach(node)
        return []

    each_node(program.graph, rewrite)
    ordered(program)


def _value(node: gs.Node) -> np.ndarray | gs.ir.tensor.LazyValues | None:
    for key, value in node.attrs.items():
        if key == "value":
            return value._values if not isinstance(value._values, SparseValues) else array(value)
        if key in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
        if key in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
    return None
