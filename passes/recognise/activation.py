"""Scalar functions: any closed elementwise region of one input, named when its numbers match a known
function."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import region
from spikec.ir.flow import Flow, Region, data_tensors, is_real
from spikec.ir.operators import SCALAR_OPS
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program

from .functions import PROBES, STRONG, Function, Name, affine, name

ANCHORS = {
    "Tanh", "Erf", "Sigmoid", "Exp", "Relu", "Gelu", "Elu", "Celu", "Selu", "LeakyRelu", "PRelu", "HardSwish",
    "HardSigmoid", "Mish", "Softplus", "Softsign", "Swish", "ThresholdedRelu", "Shrink", "Clip", "Max", "Min",
    "Where", "Atan", "Sinh", "Cosh",
}  # fmt: skip
COMPARISONS = {"Greater", "GreaterOrEqual", "Less", "LessOrEqual"}
BOUNDS = {"Clip", "Max", "Min"}
STEERED = {"Where", "Cast"}
"""What these make of a value is worth a neuron only when it has a name: guards and masks look alike."""
NEAR = 0.02
"""A function without a name that is this close to one that has one is worth a remark."""


@compiler_pass(after=["recognise_norms", "recognise_softmax"])
def recognise_activations(program: Program) -> None:
    flow = Flow(program.graph, _of_scalars)
    carriers = data_tensors(program.graph)
    claimed = {id(node) for finding in program.findings for node in finding.nodes}
    names: dict[Any, Name | None] = {}
    anchors = [node for node in program.graph.nodes if _is_anchor(node) and _on_data(node, carriers)]
    for anchor in sorted(anchors, key=lambda node: flow.level[id(node)]):
        if id(anchor) in claimed:
            continue
        found = _best(flow, anchor, claimed, names)
        if anchor.op in STEERED and (found is None or found[1] is None or found[1].label == "function"):
            continue
        if found is None:
            if any(id(i) in carriers for i in anchor.inputs):
                program.tell("SPK102", anchor.name, f"{anchor.op} kept on host: {_why_not(flow, anchor)}")
            continue
        one, named = found
        claimed |= {id(node) for node in one.nodes}
        if named is None:
            if anchor.op in BOUNDS:
                facts = {"label": "affine"}
                program.findings.append(Finding("affine", (one.source,), one.result, one.nodes, facts))
            continue
        finding = _with_gate(program, _finding(flow, one, named), claimed)
        claimed |= {id(node) for node in finding.nodes}
        program.findings.append(finding)
        if named.label == "function" and named.distance <= NEAR:
            text = f"a function without a name; nearest: {named.nearest}, error {named.distance:.1g}"
            program.tell("SPK111", finding.name, text)


def _is_anchor(node: gs.Node) -> bool:
    """Whether the node bends what passes it; a cast does so after a comparison."""
    compared = graphs.producer(node.inputs[0]) if node.op == "Cast" else None
    return node.op in ANCHORS or (compared is not None and compared.op in COMPARISONS)


def _of_scalars(flow: Flow, node: gs.Node) -> bool:
    return node.op in SCALAR_OPS and all(flow.constant(i, 1) is not None for i in flow.fixed(node))


def _on_data(node: gs.Node, carriers: set[int]) -> bool:
    """Whether a float value made of activations comes out; a Where must be steered by them as well."""
    steered = node.op != "Where" or id(node.inputs[0]) in carriers
    return is_real(node.outputs[0]) and steered and id(node.outputs[0]) in carriers


def _best(
    flow: Flow, anchor: gs.Node, claimed: set[int], names: dict[Any, Name | None]
) -> tuple[Region, Name | None] | None:
    """The largest closed region around the anchor that computes numbers; when it has no name, the part of it
    that has. The name is None for a region that does nothing but scale and shift."""
    found = flow.around(anchor, claimed)
    for whole in sorted(found, key=lambda one: -len(one.nodes)):
        key = flow.spelling(whole)
        if key not in names:
            y = flow.evaluate(whole, PROBES)
            if y is None:
                continue
            names[key] = None if affine(y) else name(y)
        named = names[key]
        if named is None or named.label != "function":
            return whole, named
        part = _named_part(flow, whole, names)
        if part is None:
            return whole, named
        if anchor in part[0].nodes:
            return part
        return _best(flow, anchor, claimed | {id(node) for node in part[0].nodes}, names)
    return None


def _named_part(flow: Flow, whole: Region, names: dict[Any, Name | None]) -> tuple[Region, Name] | None:
    """The largest part, between two values that all paths pass, whose function has a name: one that stands
    for a whole activation, or any when the rest is affine."""
    cuts = flow.cuts(whole)
    best: tuple[Region, Name] | None = None
    for first in range(len(cuts) - 1):
        for last in range(first + 1, len(cuts)):
            part = flow.closed(cuts[first], cuts[last])
            if part is None or len(part.nodes) == len(whole.nodes):
                continue
            named = _named(flow, part, names)
            if named is None or named.label == "function":
                continue
            alone = _affine(flow, whole.source, part.source) and _affine(flow, part.result, whole.result)
            if (alone or named.label in STRONG) and (best is None or len(part.nodes) > len(best[0].nodes)):
                best = part, named
    return best


def _named(flow: Flow, part: Region, names: dict[Any, Name | None]) -> Name | None:
    key = flow.spelling(part)
    if key not in names:
        y = flow.evaluate(part, PROBES)
        names[key] = None if y is None or affine(y) else name(y)
    return names[key]


def _affine(flow: Flow, source: gs.Tensor, result: gs.Tensor) -> bool:
    if source is result:
        return True
    part = flow.closed(source, result)
    y = flow.evaluate(part, PROBES) if part is not None else None
    return y is not None and affine(y)


def _why_not(flow: Flow, anchor: gs.Node) -> str:
    moving = flow.moving(anchor)
    if anchor.op not in SCALAR_OPS:
        return "no elementwise operator"
    if any(flow.constant(i, 1) is None for i in flow.fixed(anchor)):
        return "its constants differ from channel to channel"
    if len(moving) > 1:
        return f"a function of two values, {moving[0].name!r} and {moving[1].name!r}"
    return "it belongs to no closed function of a single value"


def _finding(flow: Flow, one: Region, named: Name) -> Finding:
    facts = {
        "label": named.label,
        "function": _function(flow, one),
        "value": one.result,
        "nearest": (named.nearest, named.distance),
    }
    return Finding("activation", (one.source,), one.result, one.nodes, facts, named.error)


def _function(flow: Flow, one: Region) -> Function:
    """The region itself as a function of float64 arrays: what is converted is what the graph computes. The
    wiring is taken down, for the rewrites will change it."""
    wiring = [
        (
            node,
            [
                (
                    None if not i.name or flow.is_fixed(i) else id(i),
                    flow.constant(i, 1) if i.name and flow.is_fixed(i) else None,
                )
                for i in node.inputs
            ],
            id(node.outputs[0]),
        )
        for node in one.nodes
    ]
    source, result = id(one.source), id(one.result)

    def function(x: np.ndarray) -> np.ndarray:
        known: dict[int, Any] = {source: np.asarray(x, np.float64)}
        for node, operands, output in wiring:
            known[output] = region.apply(node, [known[i] if i is not None else c for i, c in operands])
        return np.asarray(known[result], np.float64)

    return function


def _with_gate(program: Program, finding: Finding, claimed: set[int]) -> Finding:
    """Takes in the product with a second value (SwiGLU's act(gate)·up) when nothing else reads the
    activation."""
    users = finding.result.outputs
    if len(users) != 1 or users[0].op != "Mul" or any(finding.result is o for o in program.graph.outputs):
        return finding
    gate = users[0]
    other = next((i for i in gate.inputs if i is not finding.result), None)
    if not isinstance(other, gs.Variable) or other.shape is None or finding.result.shape is None:
        return finding
    if id(gate) in claimed or list(other.shape) != list(finding.result.shape):
        return finding
    nodes = (*finding.nodes, gate)
    return Finding(
        finding.kind, (*finding.sources, other), gate.outputs[0], nodes, finding.facts, finding.error
    )
