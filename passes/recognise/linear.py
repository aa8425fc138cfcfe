"""Products: of an activation and constant weights (linear layers, the head), and of two activations."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import region
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Diagnostic, Finding, Program

SHAPE_OPS = {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Identity", "Slice", "Gather"}


@compiler_pass(after=["split_gemm"])
def recognise_products(program: Program) -> None:
    outputs = {id(o) for o in program.graph.outputs}
    for node in program.graph.nodes:
        if node.op != "MatMul":
            continue
        left, right = node.inputs
        if isinstance(right, gs.Constant):
            kind = "head" if _is_head(node.outputs[0], outputs) else "linear"
            if len(right.shape) != 2:
                _note(program, node, f"weight has {len(right.shape)} dimensions, not 2")
                continue
            facts = {"weight": right, "label": kind}
            program.findings.append(Finding(kind, (left,), node.outputs[0], (node,), facts))
        elif _constant_source(right) is not None:
            program.findings.append(
                Finding(
                    "head",
                    (left,),
                    node.outputs[0],
                    (node,),
                    {"weight": _constant_source(right), "label": "head"},
                )
            )
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
    program.diagnostics.append(Diagnostic("warning", node.name, f"MatMul kept on host: {reason}"))


def _is_float(tensor: gs.Tensor) -> bool:
    return tensor.dtype is None or np.issubdtype(tensor.dtype, np.floating)


def _constant_source(tensor: gs.Tensor) -> gs.Constant | None:
    """The constant behind a Transpose: an embedding table tied to the head."""
    node = tensor.inputs[0] if tensor.inputs else None
    if node is not None and node.op == "Transpose" and isinstance(node.inputs[0], gs.Constant):
        return node.inputs[0]
    return None


def _is_head(result: gs.Tensor, outputs: set[int]) -> bool:
    """Whether the product goes straight to a graph output: bias and reshaping aside, nothing follows."""
    for tensor in region.descendants(result, 6, SHAPE_OPS | {"Add", "Mul", "Div", "Tanh"}):
        for user in tensor.outputs:
            mixes = user.op in ("Add", "Mul") and all(isinstance(i, gs.Variable) for i in user.inputs)
            if mixes or user.op not in SHAPE_OPS | {"Add", "Mul", "Div", "Tanh"}:
                return False
    return any(
        id(tensor) in outputs
        for tensor in region.descendants(result, 6, SHAPE_OPS | {"Add", "Mul", "Div", "Tanh"})
    )
