"""Products: of an activation and constant weights (linear layers, heads, routers, experts), and of two
activations."""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import nominal as nominals
from spikec.ir import numeric, region
from spikec.ir.nominal import Nominal
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program
from spikec.ir.weights import dtype_of

SHAPE_OPS = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Identity", "Slice", "Gather"}
AFTER_HEAD = SHAPE_OPS | {"Add", "Mul", "Div", "Tanh"}
PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum")
ROUTING = numeric.ELEMENTWISE.keys() | SHAPE_OPS | {"Softmax"}
"""What may stand between a router's product and its choice of the largest."""


@compiler_pass(after=["split_gemm"])
def trace_values(program: Program) -> None:
    """`program.settings["nominal"]`, for the other recognisers: shapes, origins, and known numbers."""
    program.settings["nominal"] = nominals.trace_fitting(program.graph)


@compiler_pass(after=["trace_values", "recognise_norms"])
def recognise_products(program: Program) -> None:
    nominal: Nominal = program.settings["nominal"]
    outputs = {id(o) for o in program.graph.outputs}
    averages = {id(node) for finding in program.of("layernorm", "rmsnorm") for node in finding.nodes}
    for node in [n for n in program.graph.nodes if n.op in PRODUCTS and id(n) not in averages]:
        index = nominals.weight_index(nominal, node)
        if index is not None:
            finding = _weighted(program, nominal, node, index, outputs)
        elif (stack := _chosen(nominal, node)) is not None:
            finding = _dense(node, node.inputs[0], "linear", "its weights are chosen by a router at run time")
            finding.facts |= {"weight": stack, "count": int(stack.shape[0])}
        elif _is_dynamic(nominal, node):
            facts = {"label": "matmul_dynamic"}
            if node.op == "MatMul":
                finding = Finding("matmul_dynamic", tuple(node.inputs), node.outputs[0], (node,), facts)
            else:
                why = f"a {node.op} of two activations has no spiking operator"
                finding = _dense(node, node.inputs[0], "matmul_dynamic", why)
        elif any(nominal.is_activation(o) for o in node.outputs):
            why = "a product with values made from positions or masks, which no train carries"
            finding = _dense(node, node.inputs[0], "position_product", why)
        else:
            continue
        if finding.kind == "dense":
            text = f"{node.op} kept on host: {finding.facts['why']}"
            program.tell("SPK103", node.name, text)
        program.findings.append(finding)
    program.graph.nodes[:] = [node for node in program.graph.nodes if node.outputs]


def _dense(node: gs.Node, source: gs.Tensor, label: str, why: str) -> Finding:
    """A product that is known for what it is, and stays."""
    return Finding("dense", (source,), node.outputs[0], (node,), {"label": label, "why": why})


def _weighted(program: Program, nominal: Nominal, node: gs.Node, index: int, outputs: set[int]) -> Finding:
    """The product of an activation and constants; which label it bears is told by the blocks."""
    weight, source = node.inputs[index], node.inputs[1 - index]
    shape = nominal.shape(weight)
    assert shape is not None
    if node.op != "MatMul":
        return _dense(node, source, "linear", f"a {node.op} with constant weights has no spiking operator")
    if index == 0:
        return _dense(node, source, "linear", "constant on the left-hand side")
    head = _is_head(node.outputs[0], outputs)
    if not isinstance(weight, gs.Constant):
        return _dense(node, source, "linear", "its weights are computed in the graph from constants")
    weight = _as_matrix(program, nominal, node, weight)
    if len(weight.shape) != 2:
        finding = _dense(node, source, "linear", f"weight has {len(weight.shape)} dimensions, not 2")
        finding.facts |= {"weight": weight, "count": math.prod(weight.shape[:-2])}
        return finding
    facts = {"weight": weight, "label": "linear"}
    if isinstance(source, gs.Constant):
        why = "a projection of constants: its result is one too"
        return _dense(node, source, "linear", why)
    if not head and _chooses(node.outputs[0]):
        return Finding("router", (source,), node.outputs[0], (node,), facts)
    return Finding("head" if head else "linear", (source,), node.outputs[0], (node,), facts)


def _as_matrix(program: Program, nominal: Nominal, node: gs.Node, weight: gs.Constant) -> gs.Constant:
    """A stack of one matrix is a matrix where the other operand has as many dimensions."""
    left = nominal.shape(node.inputs[0])
    deep = len(weight.shape)
    if deep == 2 or math.prod(weight.shape[:-2]) != 1 or left is None or len(left) < deep:
        return weight
    shape = weight.shape[-2:]
    matrix = program.derive(
        f"{weight.name}/matrix", [weight], lambda w: w.reshape(shape), shape, dtype_of(weight)
    )
    node.inputs[1] = matrix
    return matrix


def _chosen(nominal: Nominal, node: gs.Node) -> gs.Constant | None:
    """The stack of matrices of which one operand is what an activation pointed at."""
    if node.op != "MatMul":
        return None
    for tensor in node.inputs:
        maker = graphs.producer(tensor)
        while maker is not None and maker.op in SHAPE_OPS and not isinstance(maker.inputs[0], gs.Constant):
            maker = graphs.producer(maker.inputs[0])
        if maker is not None and _picks(nominal, maker) and isinstance(maker.inputs[0], gs.Constant):
            stack = maker.inputs[0]
            if len(stack.shape) == 3 and nominals.is_real(stack) and nominal.is_activation(maker.inputs[1]):
                return stack
    return None


def _picks(nominal: Nominal, node: gs.Node) -> bool:
    """Whether the node takes whole entries of its first axis."""
    if node.op == "GatherND":
        depth = nominal.shape(node.inputs[1])
        return not node.attrs.get("batch_dims", 0) and depth is not None and depth[-1:] == (1,)
    return node.op == "Gather" and node.attrs.get("axis", 0) == 0


def _is_dynamic(nominal: Nominal, node: gs.Node) -> bool:
    """Whether both operands are data; an outer product of real inputs may be positions times frequencies."""
    operands = node.inputs[:2]
    if len(operands) < 2 or not all(nominals.is_real(t) and nominal.is_data(t) for t in operands):
        return False
    if any(nominal.is_activation(t) for t in operands):
        return True
    shape = nominal.shape(operands[0]) or tuple(operands[0].shape or ())
    return node.op != "MatMul" or not shape or shape[-1] != 1


def _chooses(result: gs.Tensor) -> bool:
    """Whether the product's largest values are chosen: a router of experts."""
    reached = region.descendants(result, 8, ROUTING)
    return any(user.op == "TopK" for tensor in reached for user in tensor.outputs)


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
