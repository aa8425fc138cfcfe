"""Rotary position embedding: x·cos + rotate_half(x)·sin. Linear in x, so it stays as it is, named."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import region
from spikec.ir.inputs import FILLERS
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program


@compiler_pass(after=["split_gemm"])
def recognise_rope(program: Program) -> None:
    for node in program.graph.nodes:
        if node.op != "Add":
            continue
        products = [p for p in map(graphs.producer, node.inputs) if p is not None and p.op == "Mul"]
        if len(products) != 2:
            continue
        for straight, turned in (products, products[::-1]):
            rotation = next((r for r in map(_rotated, turned.inputs) if r is not None), None)
            if rotation is not None and any(i is rotation[0] for i in straight.inputs):
                source, inner = rotation
                cos = next(i for i in straight.inputs if i is not source)
                sin = next(i for i in turned.inputs if graphs.producer(i) is not inner[0])
                if _from_activations(cos) or _from_activations(sin):
                    continue
                nodes = (node, straight, turned, *inner)
                program.findings.append(
                    Finding("rope", (source, cos, sin), node.outputs[0], nodes, {"label": "rope"})
                )
                break


def _from_activations(tensor: gs.Tensor) -> bool:
    """Whether an angle depends on activations; one looked up by position in a table does not."""
    return region.from_data(tensor, inputs=False) and _reads_tokens(tensor)


def _reads_tokens(tensor: gs.Tensor) -> bool:
    """Whether the values, not just the shape, of an input other than positions and masks are needed."""
    seen: set[int] = set()
    stack = [tensor]
    while stack:
        current = stack.pop()
        node = graphs.producer(current)
        if node is None:
            if isinstance(current, gs.Variable) and current.name and current.name not in FILLERS:
                return True
        elif id(node) not in seen and node.op not in ("Shape", "Size"):
            seen.add(id(node))
            stack.extend(node.inputs)
    return False


def _rotated(tensor: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]] | None:
    """(x, nodes) when the tensor is Concat(-x[half:], x[:half])."""
    concat = graphs.producer(tensor)
    if concat is None or concat.op != "Concat" or len(concat.inputs) != 2:
        return None
    negate, low = (graphs.producer(i) for i in concat.inputs)
    if negate is None or negate.op != "Neg" or low is None or low.op not in ("Slice", "Split"):
        return None
    high = graphs.producer(negate.inputs[0])
    if high is None or high.op != low.op or high.inputs[0] is not low.inputs[0]:
        return None
    return low.inputs[0], [concat, negate, low] + ([high] if high is not low else [])
