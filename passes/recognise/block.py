"""Embeddings, residual additions, and which block of the network each finding belongs to."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program


@compiler_pass(after=["recognise_attention", "recognise_rope", "recognise_norms", "recognise_activations"])
def recognise_blocks(program: Program) -> None:
    for node in program.graph.nodes:
        if node.op == "Gather" and isinstance(node.inputs[0], gs.Constant) and _is_table(node.inputs[0]):
            facts = {"weight": node.inputs[0], "label": "embedding"}
            program.findings.append(Finding("embedding", (node.inputs[1],), node.outputs[0], (node,), facts))
    _find_residuals(program)
    position = {id(node): index for index, node in enumerate(program.graph.nodes)}
    last = max(position.values(), default=0)
    program.findings.sort(key=lambda f: position.get(id(graphs.producer(f.result)), last))
    _number_blocks(program)


def _is_table(constant: gs.Constant) -> bool:
    return (
        len(constant.shape) == 2 and constant.dtype is not None and np.issubdtype(constant.dtype, np.floating)
    )


def _find_residuals(program: Program) -> None:
    """Additions of two values that both carry data, outside every other region."""
    owner = program.owner()
    carries = {id(f.result) for f in program.of("embedding", "linear", "matmul_dynamic", "head")}
    for node in program.graph.nodes:
        if any(id(i) in carries for i in node.inputs):
            carries |= {id(o) for o in node.outputs}
        if node.op == "Add" and id(node) not in owner and all(id(i) in carries for i in node.inputs):
            program.findings.append(
                Finding("residual", tuple(node.inputs), node.outputs[0], (node,), {"label": "residual"})
            )


def _number_blocks(program: Program) -> None:
    """A block runs from what feeds one attention's scores to what feeds the next one's."""
    residual = {id(f.nodes[0]) for f in program.of("residual")}
    start: dict[int, int] = {}
    for index, attention in enumerate(program.of("attention")):
        stack = [*attention.sources, *attention.facts["context"].sources]
        while stack:
            node = graphs.producer(stack.pop())
            if node is None or id(node) in start or id(node) in residual:
                continue
            start[id(node)] = index
            stack.extend(node.inputs)
    depth: dict[int, int] = {}
    contexts = {id(f.facts["context"].nodes[0]): i for i, f in enumerate(program.of("attention"))}
    for node in program.graph.nodes:
        inherited = max((depth.get(id(graphs.producer(i)), -1) for i in node.inputs), default=-1)
        depth[id(node)] = max(inherited, start.get(id(node), -1), contexts.get(id(node), -1))
    program.settings["block_of"] = depth
    for finding in program.findings:
        maker = graphs.producer(finding.result)
        finding.block = start.get(id(maker), depth.get(id(maker), -1))
