"""Scalar functions: any closed elementwise region of one input, named when its numbers match a known
function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import region
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program

ANCHORS = {
    "Tanh", "Erf", "Sigmoid", "Exp", "Relu", "Gelu", "Elu", "LeakyRelu", "HardSwish", "HardSigmoid", "Mish",
    "Softplus", "Softsign", "Swish", "Clip", "Max", "Min",
}  # fmt: skip

KNOWN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu_erf": region.gelu_erf,
    "gelu_tanh": region.gelu_tanh,
    "quick_gelu": lambda x: x * region.ELEMENTWISE["Sigmoid"](1.702 * x),
    "silu": lambda x: x * region.ELEMENTWISE["Sigmoid"](x),
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": region.ELEMENTWISE["Sigmoid"],
    "tanh": np.tanh,
}

PROBES = np.concatenate([np.linspace(-12, 12, 193), [-8000.0, -700.0, -40.0, 40.0, 700.0, 8000.0]])
TOLERANCE = 1e-4
"""Above the error of fp16 constants (3e-5), below the gap between the two GELUs (4.7e-4)."""
DEPTH = 9


@compiler_pass(after=["split_gemm"])
def recognise_activations(program: Program) -> None:
    claimed: set[int] = set()
    for anchor in [node for node in program.graph.nodes if node.op in ANCHORS]:
        if (
            id(anchor) in claimed
            or not _carries_data(anchor.outputs[0])
            or not region.from_data(anchor.outputs[0])
        ):
            continue
        finding = _largest_match(program, anchor)
        if finding is None:
            text = f"{anchor.op} belongs to no closed function of a single value: kept on host"
            program.tell("SPK102", anchor.name, text)
            continue
        finding = _with_gate(program, finding)
        claimed |= {id(node) for node in finding.nodes}
        program.findings.append(finding)


def _with_gate(program: Program, finding: Finding) -> Finding:
    """Takes in the product with a second value (SwiGLU's act(gate)·up) when nothing else reads the
    activation."""
    users = finding.result.outputs
    if len(users) != 1 or users[0].op != "Mul" or any(finding.result is o for o in program.graph.outputs):
        return finding
    other = next((i for i in users[0].inputs if i is not finding.result), None)
    if not isinstance(other, gs.Variable) or other.shape is None or finding.result.shape is None:
        return finding
    if list(other.shape) != list(finding.result.shape):
        return finding
    nodes = (*finding.nodes, users[0])
    return Finding(
        finding.kind, (*finding.sources, other), users[0].outputs[0], nodes, finding.facts, finding.error
    )


def _carries_data(tensor: gs.Tensor) -> bool:
    return tensor.dtype is None or np.issubdtype(tensor.dtype, np.floating)


def _largest_match(program: Program, anchor: gs.Node) -> Finding | None:
    """The largest closed region around the anchor; of two as large, the one whose function is known."""
    best: tuple[tuple[int, bool], Finding] | None = None
    for source in region.ancestors(anchor.inputs[0], DEPTH):
        for result in region.descendants(anchor.outputs[0], DEPTH):
            used: set[int] = set()
            value = region.evaluate(result, {id(source): PROBES}, used)
            if value is None or np.shape(value) != PROBES.shape or id(anchor) not in used:
                continue
            nodes = [node for node in region.region_nodes(result, (source,)) if id(node) in used]
            if region.leak(nodes, result, program.graph):
                continue
            kind, error = _name(value)
            rank = (len(nodes), kind != "function")
            if best is None or rank > best[0]:
                facts = {"label": kind, "function": _scalar_function(source, result), "value": result}
                best = rank, Finding("activation", (source,), result, tuple(nodes), facts, error)
    return best[1] if best else None


def _name(value: np.ndarray) -> tuple[str, float]:
    errors = {
        kind: float(np.max(np.abs(value - fn(PROBES)) / (1 + np.abs(PROBES)))) for kind, fn in KNOWN.items()
    }
    kind = min(errors, key=errors.__getitem__)
    return (kind, errors[kind]) if errors[kind] <= TOLERANCE else ("function", 0.0)


def _scalar_function(source: gs.Tensor, result: gs.Tensor) -> Callable[[np.ndarray], np.ndarray]:
    """The region itself as a function of float64 arrays: what is converted is what the graph computes."""
    wiring = [(node, list(node.inputs), node.outputs[0]) for node in region.region_nodes(result, (source,))]

    def function(x: np.ndarray) -> np.ndarray:
        known: dict[int, Any] = {id(source): np.asarray(x, np.float64)}
        for node, inputs, output in wiring:
            operands = [
                region.constant_value(i) if isinstance(i, gs.Constant) else known[id(i)] if i.name else None
                for i in inputs
            ]
            known[id(output)] = region.apply(node, operands)
        return np.asarray(known[id(result)])

    return function
