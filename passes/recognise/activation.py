"""Scalar functions: any closed elementwise region of one input, named when its numbers match a known
function."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir import region
from spikec.ir.flow import Flow, Region, data_tensors, is_real
from spikec.ir.operators import SCALAR_OPS, is_scalar
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
AFFINE = Name("affine", 0.0, "affine", 0.0)
NEAR = 0.02
"""A function without a name that is this close to one that has one is worth a remark."""


@compiler_pass(after=["recognise_norms", "recognise_softmax"])
def recognise_activations(program: Program) -> None:
    flow = Flow(program.graph, _of_scalars, program.settings.get("nominal"))
    carriers = data_tensors(program.graph)
    claimed = {id(node) for finding in program.findings for node in finding.nodes}
    names = Names(flow)
    anchors = [node for node in program.graph.nodes if _is_anchor(node) and _on_data(node, carriers)]
    for anchor in sorted(anchors, key=lambda node: flow.level[id(node)]):
        if id(anchor) in claimed:
            continue
        found = names.best(anchor, claimed)
        if found is None and (bound := _never_reached(flow, anchor)) is not None:
            facts = {"label": "affine"}
            program.findings.append(Finding("affine", (bound,), anchor.outputs[0], (anchor,), facts))
            continue
        label = found[1].label if found is not None else ""
        if anchor.op in STEERED and label in ("", "function", "affine"):
            continue
        if found is None:
            if any(id(i) in carriers for i in anchor.inputs):
                program.tell("SPK102", anchor.name, f"{anchor.op} kept on host: {_why_not(flow, anchor)}")
            continue
        one, named = found
        claimed |= {id(node) for node in one.nodes}
        if named is AFFINE:
            if anchor.op in BOUNDS:
                facts = {"label": "affine"}
                program.findings.append(Finding("affine", (one.source,), one.result, one.nodes, facts))
            continue
        finding = _with_gate(flow, _finding(flow, one, named), claimed)
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
    return is_scalar(node) and all(flow.constant(i, 1) is not None for i in flow.fixed(node))


def _on_data(node: gs.Node, carriers: set[int]) -> bool:
    """Whether a float value made of activations comes out; a Where must be steered by them as well."""
    steered = node.op != "Where" or id(node.inputs[0]) in carriers
    return is_real(node.outputs[0]) and steered and id(node.outputs[0]) in carriers


class Names:
    """The names of regions; those of one spelling are looked at once, so repeated layers cost nothing."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self._names: dict[Any, Name | None] = {}
        self._parts: dict[Any, tuple[int, int] | None] = {}

    def best(self, anchor: gs.Node, barred: set[int]) -> tuple[Region, Name] | None:
        """The largest closed region around the anchor that computes numbers; when it has no name, the part of
        it that has."""
        for whole in sorted(self.flow.around(anchor, barred), key=lambda one: -len(one.nodes)):
            named = self.of(whole)
            if named is None:
                continue
            part = self._named_part(whole) if named.label == "function" else None
            if part is None:
                return whole, named
            if anchor in part[0].nodes:
                return part
            return self.best(anchor, barred | {id(node) for node in part[0].nodes})
        return None

    def of(self, one: Region) -> Name | None:
        """The name of what a region does, "affine" when it only scales and shifts; None when that cannot be
        evaluated."""
        key = self.flow.spelling(one)
        if key not in self._names:
            y = self.flow.evaluate(one, PROBES)
            self._names[key] = None if y is None else AFFINE if affine(y) else name(y)
        return self._names[key]

    def _named_part(self, whole: Region) -> tuple[Region, Name] | None:
        cuts, key = self.flow.cuts(whole), self.flow.spelling(whole)
        if key not in self._parts:
            self._parts[key] = self._largest_part(whole, cuts)
        place = self._parts[key]
        part = self.flow.closed(cuts[place[0]], cuts[place[1]]) if place is not None else None
        named = self.of(part) if part is not None else None
        return (part, named) if part is not None and named is not None else None

    def _largest_part(self, whole: Region, cuts: list[gs.Tensor]) -> tuple[int, int] | None:
        """The largest part, between two values that all paths pass, whose function has a name: one that
        stands for a whole activation, or any when the rest is affine."""
        best, size = None, 0
        for first, last in combinations(range(len(cuts)), 2):
            part = self.flow.closed(cuts[first], cuts[last])
            if part is None or not size < len(part.nodes) < len(whole.nodes):
                continue
            named = self.of(part)
            if named is None or named.label in ("function", "affine"):
                continue
            if named.label in STRONG or (
                self._affine(whole.source, part.source) and self._affine(part.result, whole.result)
            ):
                best, size = (first, last), len(part.nodes)
        return best

    def _affine(self, source: gs.Tensor, result: gs.Tensor) -> bool:
        part = self.flow.closed(source, result) if source is not result else None
        return source is result or (part is not None and self.of(part) is AFFINE)


def _never_reached(flow: Flow, anchor: gs.Node) -> gs.Tensor | None:
    """The value that a bound chosen among constants passes on, as no choice comes near what it can be."""
    if anchor.op not in ("Max", "Min") or len(anchor.inputs) != 2:
        return None
    for value, bound in (anchor.inputs, anchor.inputs[::-1]):
        choices = _choices(flow, bound)
        far = PROBES.max() if anchor.op == "Min" else PROBES.min()
        if choices and all(c > far if anchor.op == "Min" else c < far for c in choices):
            return value
    return None


def _choices(flow: Flow, tensor: gs.Tensor, depth: int = 4) -> list[float]:
    """What a scalar can be that is chosen among constants; nothing when it is made otherwise."""
    if flow.is_fixed(tensor):
        value = flow.constant(tensor, 1)
        return [] if value is None else [float(value)]
    node = graphs.producer(tensor)
    if node is None or node.op not in ("Neg", "Where") or depth == 0:
        return []
    ways = [_choices(flow, i, depth - 1) for i in node.inputs[1 if node.op == "Where" else 0 :]]
    sign = -1 if node.op == "Neg" else 1
    return [sign * c for way in ways for c in way] if all(ways) else []


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


def _with_gate(flow: Flow, finding: Finding, claimed: set[int]) -> Finding:
    """Takes in the product with a second value (SwiGLU's act(gate)·up) when nothing else reads the
    activation."""
    users = finding.result.outputs
    if len(users) != 1 or users[0].op != "Mul" or id(finding.result) in flow.outputs:
        return finding
    gate = users[0]
    other = next((i for i in gate.inputs if i is not finding.result), None)
    if not isinstance(other, gs.Variable) or id(gate) in claimed:
        return finding
    shapes = [flow.shape(tensor) for tensor in (other, finding.result)]
    if shapes[0] is None or shapes[1] is None or list(shapes[0]) != list(shapes[1]):
        return finding
    nodes = (*finding.nodes, gate)
    return Finding(
        finding.kind, (*finding.sources, other), gate.outputs[0], nodes, finding.facts, finding.error
    )
