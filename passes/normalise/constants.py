"""Constant nodes become constants; Identity, Dropout and no-op Cast vanish; small transposed weights are
folded."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Decision, Program
from spikec.ir.weights import array


@compiler_pass()
def fold_constants(program: Program) -> None:
    graph = program.graph
    outputs = {id(tensor) for tensor in graph.outputs}
    before, why = list(graph.nodes), {}
    for node in graph.nodes:
        if node.op == "Constant" and not node.domain:
            values = _constant_value(node)
            if values is not None:
                why[id(node)] = "folded: a constant"
                _redirect(node.outputs[0], gs.Constant(node.outputs[0].name, values), outputs)
        elif node.op in ("Identity", "Dropout") or (node.op == "Cast" and _same_type(node)):
            why[id(node)] = "folded: passes its input on unchanged"
            _redirect(node.outputs[0], node.inputs[0], outputs)
        elif (
            node.op == "Transpose"
            and isinstance(node.inputs[0], gs.Constant)
            and len(node.inputs[0].outputs) == 1
        ):
            order = node.attrs.get("perm")
            values = np.transpose(array(node.inputs[0]), order)
            why[id(node)] = "folded: the constant is stored transposed"
            _redirect(
                node.outputs[0], gs.Constant(node.outputs[0].name, np.ascontiguousarray(values)), outputs
            )
    graphs.prune(graph)
    graphs.sort(graph)
    kept = {id(node) for node in graph.nodes}
    for node in before:
        if id(node) not in kept:
            reason = why.get(id(node), "folded: nothing reads its result any more")
            program.decisions[node.name] = Decision(node.name, node.op, "linear", reason)


def _constant_value(node: gs.Node) -> np.ndarray | None:
    for key, value in node.attrs.items():
        if key == "value":
            return array(value)
        if key in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
        if key in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
    return None


def _same_type(node: gs.Node) -> bool:
    source = node.inputs[0]
    return source.dtype is not None and source.dtype == node.outputs[0].dtype


def _redirect(old: gs.Tensor, new: gs.Tensor, outputs: set[int]) -> None:
    """Lets every user of `old` read `new`; a graph output keeps its own node."""
    if id(old) in outputs:
        return
    for user in list(old.outputs):
        for index, tensor in enumerate(user.inputs):
            if tensor is old:
                user.inputs[index] = new
