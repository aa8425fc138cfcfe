"""What became of every original node: spiking, linear, host or rejected, with the reason and its share of
MACs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Decision, Finding, Program

from .methods import Method

VERDICTS = ("spiking", "linear", "host", "rejected")

SHAPING = {
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Expand", "Gather", "Flatten",
    "Tile", "Identity", "Cast", "Pad",
}  # fmt: skip
BOOKKEEPING = {
    "Shape", "Range", "ConstantOfShape", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "And", "Or", "Not", "Where", "CumSum", "GatherND", "GatherElements", "ScatterND", "Size", "Trilu",
    "NonZero", "Constant",
}  # fmt: skip
REASONS = {
    "rope": "rotation by position: linear in the decoded value, applied as it is",
    "residual": "residual addition: linear",
}


@compiler_pass(after=["recognise_blocks", "count_macs"])
def classify(program: Program) -> None:
    """Runs before the rewrites, while the original nodes are there; `program.decisions` by node name."""
    method = program.settings["method"]
    owner = program.owner()
    from_data = _data_nodes(program)
    for node in program.graph.nodes:
        finding = owner.get(id(node))
        verdict, reason = _verdict(node, finding, id(node) in from_data, method)
        macs = program.statistics["macs"].get(node.outputs[0].name, 0)
        block = finding.block if finding else program.settings["block_of"].get(id(node), -1)
        program.decisions[node.name] = Decision(node.name, node.op, verdict, reason, block, macs)


def _verdict(node: gs.Node, finding: Finding | None, from_data: bool, method: Method) -> tuple[str, str]:
    if finding is not None:
        if finding.kind in method.operators:
            if finding.kind == "rmsnorm" and np.any(finding.facts["beta"]):
                return "host", "an RMS norm with a shift has no spiking operator"
            return "spiking", f"{finding.facts['label']} -> {method.operators[finding.kind]}"
        if finding.kind in method.kept:
            return "host", method.kept[finding.kind]
        return "linear", REASONS[finding.kind]
    if not from_data:
        return "host", "positions, masks and shapes: computed from the inputs' shape, no activation involved"
    if node.op in SHAPING:
        return "linear", "moves values without changing them"
    if node.op in ("Add", "Sub", "Neg", "Sum"):
        return "linear", "addition"
    if node.op in ("Mul", "Div") and sum(isinstance(i, gs.Variable) for i in node.inputs) < 2:
        return "linear", "scaling by a constant"
    if node.op in BOOKKEEPING:
        return "host", "selects or counts; no arithmetic on activations"
    return "host", f"{node.op} of activations was not recognised: it stays an ordinary operator"


def _data_nodes(program: Program) -> set[int]:
    """Nodes that compute with activations: everything behind a table or a weight product."""
    start = {id(n) for f in program.of("embedding", "linear", "head") for n in f.nodes}
    reached: set[int] = set()
    tensors: set[int] = set()
    for node in program.graph.nodes:
        if id(node) in start or any(id(i) in tensors for i in node.inputs):
            reached.add(id(node))
            if node.op not in ("Shape", "Size"):
                tensors |= {id(o) for o in node.outputs}
    return reached


def coverage(program: Program) -> dict[str, Any]:
    """Nodes and MACs by verdict, over the whole model; `dense_in_blocks` is what a spiking block still
    multiplies."""
    nodes, macs = dict.fromkeys(VERDICTS, 0), dict.fromkeys(VERDICTS, 0)
    for decision in program.decisions.values():
        nodes[decision.verdict] += 1
        macs[decision.verdict] += decision.macs
    heads = {f.nodes[0].name for f in program.of("head")}
    dense = sum(d.macs for d in program.decisions.values() if d.verdict != "spiking" and d.node not in heads)
    return {"nodes": nodes, "macs": macs, "dense_macs_in_blocks": dense}
