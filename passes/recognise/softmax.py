"""Softmax over the last axis."""

from __future__ import annotations

from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program


@compiler_pass(after=["split_gemm"])
def recognise_softmax(program: Program) -> None:
    for node in program.graph.nodes:
        if node.op != "Softmax":
            continue
        axis = node.attrs.get("axis", -1)
        shape = node.inputs[0].shape if node.inputs[0].shape is not None else node.outputs[0].shape
        if axis != -1 and (shape is None or axis != len(shape) - 1):
            text = f"Softmax kept on host: works over axis {axis}, not the last one"
            program.tell("SPK104", node.name, text)
            continue
        program.findings.append(
            Finding("softmax", (node.inputs[0],), node.outputs[0], (node,), {"label": "softmax"})
        )
