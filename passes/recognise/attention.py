"""Attention: a softmax whose scores come from a product of two activations and whose weights go into
another."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from spikec.ir import region
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program

BEFORE = {"Add", "Sub", "Mul", "Div", "Where", "Cast", "Identity", "Max", "Min", "Clip", "Tanh", "Reshape"}
AFTER = {"Cast", "Where", "Identity", "Dropout", "IsNaN", "Reshape"}


@compiler_pass(after=["recognise_softmax", "recognise_products"])
def recognise_attention(program: Program) -> None:
    products = {id(f.result): f for f in program.of("matmul_dynamic")}
    by_weights = {id(f.sources[0]): f for f in program.of("matmul_dynamic")}
    for softmax in program.of("softmax"):
        path = list(region.ancestors(softmax.sources[0], 8, BEFORE))
        scores = next((products[id(t)] for t in path if id(t) in products), None)
        ahead = region.descendants(softmax.result, 5, AFTER)
        context = next((by_weights[id(t)] for t in ahead if id(t) in by_weights), None)
        if scores is None or context is None:
            text = "softmax is not part of an attention of two products (a router, or another use)"
            program.tell("SPK105", softmax.name, text)
            continue
        scores.facts["label"], context.facts["label"] = "qk", "av"
        facts = {
            "label": "attention",
            "scores": scores,
            "context": context,
            "masked": _masked(softmax.sources[0], scores.result),
        }
        program.findings.append(Finding("attention", scores.sources, context.result, (), facts))


def _masked(tensor: gs.Tensor, scores: gs.Tensor) -> bool:
    """Whether something other than a constant joins the scores before the softmax."""
    nodes = region.region_nodes(tensor, (scores,))
    return any(
        node.op in ("Add", "Where") and any(isinstance(i, gs.Variable) for i in node.inputs) for node in nodes
    )
