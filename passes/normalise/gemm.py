"""Gemm becomes MatMul and Add, so that a linear layer has one spelling."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import dtype_of


@compiler_pass(after=["fold_constants"])
def split_gemm(program: Program) -> None:
    graph = program.graph
    split: dict[int, str] = program.settings.setdefault("split", {})
    """What stands for an original Gemm, by id of the node: the product bears its decision, the bias none."""
    for node in [node for node in graph.nodes if node.op == "Gemm"]:
        weight = node.inputs[1]
        alpha, beta = node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)
        if not isinstance(weight, gs.Constant) or node.attrs.get("transA", 0) or alpha != 1 or beta != 1:
            continue
        if node.attrs.get("transB", 0):
            weight = program.derive(
                f"{weight.name}/transposed", [weight], np.transpose, weight.shape[::-1], dtype_of(weight)
            )
        output = node.outputs[0]
        node.outputs.clear()
        biased = len(node.inputs) > 2
        product = gs.Variable(f"{output.name}/product", output.dtype, output.shape) if biased else output
        multiply = gs.Node("MatMul", node.name, inputs=[node.inputs[0], weight], outputs=[product])
        split[id(multiply)] = "Gemm"
        graph.nodes.append(multiply)
        if biased:
            bias = gs.Node("Add", f"{node.name}/bias", inputs=[product, node.inputs[2]], outputs=[output])
            split[id(bias)] = ""
            if node.name in program.origin:
                program.origin[bias.name] = program.origin[node.name]
            graph.nodes.append(bias)
    if split:
        graphs.prune(graph)
        graphs.sort(graph)
