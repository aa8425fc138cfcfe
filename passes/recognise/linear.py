"""Products: of an activation and constant weights (linear layers, the head), and of two activations."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import region
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Decision, Finding, Program
from spikec.ir.weights import array

SHAPE_OPS = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Identity", "Slice", "Gather"}
AFTER_HEAD = SHAPE_OPS | {"Add", "Mul", "Div", "Tanh"}


@compiler_pass(after=["recognise_norms"])
def recognise_products(program: Program) -> None:
    outputs = {id(o) for o in program.graph.outputs}
    averages = {id(node) for finding in program.of("layernorm", "rmsnorm") for node in finding.nodes}
    for node in list(program.graph.nodes):
        if node.op != "MatMul" or id(node) in averages:
            continue
        left, right = node.inputs
        head = _is_head(node.outputs[0], outputs)
        stored = _transposed(right)
        if stored is not None and not head:
            right = node.inputs[1] = _fold(program, stored)
        if isinstance(right, gs.Constant):
            if len(right.shape) != 2:
                _note(program, node, f"weight has {len(right.shape)} dimensions, not 2")
                continue
            kind = "head" if head else "linear"
            facts = {"weight": right, "label": kind}
            program.findings.append(Finding(kind, (left,), node.outputs[0], (node,), facts))
        elif stored is not None:
            facts = {"weight": stored.inputs[0], "label": "head"}
            program.findings.append(Finding("head", (left,), node.outputs[0], (node,), facts))
        elif isinstance(left, gs.Constant):
            _note(program, node, "constant on the left-hand side")
        elif (
            _is_float(left)
            and _is_float(right)
            and region.from_data(left, inputs=False)
            and region.from_data(right, inputs=False)
        ):
            program.findings.append(
                Finding(
                    "matmul_dynamic", (left, right), node.outputs[0], (node,), {"label": "matmul_dynamic"}
                )
            )


def _note(program: Program, node: gs.Node, reason: str) -> None:
    program.tell("SPK103", node.name, f"MatMul kept on host: {reason}")


def _is_float(tensor: gs.Tensor) -> bool:
    return tensor.dtype is None or np.issubdtype(tensor.dtype, np.floating)


def _transposed(tensor: gs.Tensor) -> gs.Node | None:
    """The Transpose of a constant matrix that others read too: an embedding table tied to the head."""
    node = graphs.producer(tensor)
    if node is not None and node.op == "Transpose" and isinstance(node.inputs[0], gs.Constant):
        return node if len(node.inputs[0].shape) == 2 else None
    return None


def _fold(program: Program, node: gs.Node) -> gs.Constant:
    """The transposed matrix as a constant, one for all; the Transpose goes with its last reader."""
    stored = node.inputs[0]
    if list(node.attrs.get("perm", (1, 0))) == [0, 1]:
        weight = stored
    else:
        weight = program.constant(f"{stored.name}/transposed", array(stored).T)
    if len(node.outputs[0].outputs) == 1 and all(o is not node.outputs[0] for o in program.graph.outputs):
        reason = "folded: the constant is stored transposed"
        program.decisions[node.name] = Decision(node.name, node.op, "linear", reason)
        node.inputs.clear()
        node.outputs.clear()
        program.graph.nodes[:] = [other for other in program.graph.nodes if other is not node]
    return weight


def _is_head(result: gs.Tensor, outputs: set[int]) -> bool:
    """Whether the product goes straight to a graph output: bias, scale, cap and reshaping aside, nothing
    follows."""
    reached = list(region.descendants(result, 6, AFTER_HEAD))
    for tensor in reached:
        for user in tensor.outputs:
            mixes = user.op in ("Add", "Mul") and all(isinstance(i, gs.Variable) for i in user.inputs)
            if mixes or user.op not in AFTER_HEAD or (user.op == "Tanh" and not _is_cap(user)):
                return False
    return any(id(tensor) in outputs for tensor in reached)


def _is_cap(tanh: gs.Node) -> bool:
    """Whether tanh caps scores (its result is scaled up again); a pooler's goes out as it is."""
    users = tanh.outputs[0].outputs
    return bool(users) and all(
        user.op == "Mul" and any(isinstance(i, gs.Constant) for i in user.inputs) for user in users
    )
