"""What became of every original node: spiking, linear, host or rejected, with the reason and its share of
MACs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.ir.nominal import Nominal
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Decision, Finding, Program

from .methods import Method
from .shapes import BOOKKEEPING, SHAPING

VERDICTS = ("spiking", "linear", "host", "rejected")
RUNNABLE = {
    None, "", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft",
    "com.microsoft.experimental", "com.microsoft.nchwc", "com.ms.internal.nhwc", "ai.spikec",
}  # fmt: skip
"""Domains whose operators ONNX Runtime or spikec's own library can run."""
NO_ACTIVATION = "positions, masks, shapes or constants: no activation involved"
SELECTS = "selects or counts; no arithmetic on activations"

REASONS = {
    "rope": "rotation by position: linear in the decoded value, applied as it is",
    "residual": "residual addition: linear",
    "affine": "a bound that no value reaches: passes its input on, scaled and shifted at most",
}


@compiler_pass(after=["recognise_blocks", "count_macs"])
def classify(program: Program) -> None:
    """Runs before the rewrites, while the original nodes are there; `program.decisions` by node name.

    Nodes that normalisation took away have their decision already.
    """
    method = program.settings["method"]
    owner = program.owner()
    split = program.settings.get("split", {})
    nominal: Nominal = program.settings["nominal"]
    routed = _routed(program, owner, nominal)
    for node in program.graph.nodes:
        op = split.get(id(node), node.op)
        if not op:
            continue
        finding = owner.get(id(node))
        verdict, reason = _verdict(node, finding, nominal, method, routed)
        if verdict == "rejected":
            program.tell("SPK120", node.name, reason)
        macs = program.statistics["macs"].get(node.name)
        if macs is None and reason == NO_ACTIVATION:
            macs = 0
        block = finding.block if finding else program.settings["block_of"].get(id(node), -1)
        program.decisions[node.name] = Decision(
            node.name, op, verdict, reason, block, macs, program.origin.get(node.name, "")
        )
    _tell_unknown_macs(program)


def _tell_unknown_macs(program: Program) -> None:
    unknown = [d for d in program.decisions.values() if d.macs is None]
    for decision in unknown:
        if decision.verdict != "spiking":
            text = f"the multiply-accumulates of this {decision.op} are unknown: it may be a dense product"
            program.tell("SPK106", decision.node, text)
    if spiking := [d.node for d in unknown if d.verdict == "spiking"]:
        text = (
            f"{len(spiking)} spiking nodes, this the first, have unknown shapes: their MACs are not counted"
        )
        program.tell("SPK107", spiking[0], text)


def _routed(program: Program, owner: dict[int, Finding], nominal: Nominal) -> set[int]:
    """Values that of all activations only a router's scores are in: which experts run, and their weights."""
    routed: set[int] = set()
    for node in program.graph.nodes:
        finding, data = owner.get(id(node)), [id(i) for i in node.inputs if nominal.is_data(i)]
        scores = finding is not None and finding.kind == "router"
        if scores or (data and all(i in routed for i in data)):
            routed.update(id(o) for o in node.outputs)
    return routed


def _verdict(
    node: gs.Node, finding: Finding | None, nominal: Nominal, method: Method, routed: set[int]
) -> tuple[str, str]:
    if node.domain not in RUNNABLE:
        return "rejected", f"no runtime knows operator {node.op} of domain {node.domain!r}"
    if finding is not None:
        if finding.kind in method.operators:
            return "spiking", f"{finding.facts['label']} -> {method.operators[finding.kind]}"
        if finding.kind == "dense":
            return "host", finding.facts["why"]
        if finding.kind in method.kept:
            return "host", method.kept[finding.kind]
        return "linear", REASONS[finding.kind]
    if not any(nominal.is_data(tensor) for tensor in node.outputs):
        return "host", NO_ACTIVATION
    chooses = node.op == "Cast" and not _gives_float(node)
    if (chooses or node.op not in SHAPING) and all(id(o) in routed for o in node.outputs):
        return "host", method.kept["router"]
    if chooses:
        return "host", "turns activations into integers or truth values, which is not linear"
    if node.op in SHAPING:
        return "linear", "moves values without changing them"
    if node.op in ("Add", "Sub", "Neg", "Sum", "ReduceSum"):
        return "linear", "addition"
    if _scales(node, nominal):
        return "linear", "scaling by values that no activation is in"
    if node.op == "Mul" and any(id(i) in routed for i in node.inputs):
        return "linear", "scaling by the weight that a router gives an expert, which is kept dense"
    if node.op in BOOKKEEPING:
        return "host", SELECTS
    return "host", f"{node.op} of activations was not recognised: it stays an ordinary operator"


def _gives_float(cast: gs.Node) -> bool:
    kind = cast.outputs[0].dtype
    if kind is None:
        kind = cast.attrs["to"]
    return np.issubdtype(
        onnx.helper.tensor_dtype_to_np_dtype(kind) if isinstance(kind, int) else kind, np.floating
    )


def _scales(node: gs.Node, nominal: Nominal) -> bool:
    """Whether the node is x·c or x/c with c free of activations; c/x is a reciprocal."""
    if node.op == "Mul":
        return any(not nominal.is_data(i) for i in node.inputs)
    return node.op == "Div" and not nominal.is_data(node.inputs[1])


def coverage(program: Program) -> dict[str, Any]:
    """Nodes and MACs by verdict, over the whole model; `dense_macs_in_blocks` is what a spiking block still
    multiplies, None when a node in a block may multiply and how much is unknown."""
    nodes, macs = dict.fromkeys(VERDICTS, 0), dict.fromkeys(VERDICTS, 0)
    for decision in program.decisions.values():
        nodes[decision.verdict] += 1
        macs[decision.verdict] += decision.macs or 0
    outside = {f.nodes[0].name for f in program.findings if f.facts["label"] in ("head", "other_linear")}
    counts = [
        d.macs
        for d in program.decisions.values()
        if d.verdict != "spiking" and d.block >= 0 and d.node not in outside
    ]
    return {
        "nodes": nodes,
        "macs": macs,
        "tokens": program.statistics.get("tokens"),
        "nodes_of_unknown_macs": sum(d.macs is None for d in program.decisions.values()),
        "dense_macs_in_blocks": None if None in counts else sum(counts),
    }
