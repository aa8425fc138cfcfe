"""Softmax over the last axis, as an operator or spelled out by exponentials and their sum."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import region
from spikec.ir.flow import Flow, Region, data_tensors, told_shape
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program

from . import rows

TOLERANCE = 1e-6


@compiler_pass(after=["recognise_norms"])
def recognise_softmax(program: Program) -> None:
    sums = []
    for node in program.graph.nodes:
        if node.op in ("Softmax", "LogSoftmax"):
            _native(program, node)
        elif node.op in ("ReduceSum", "ReduceLogSumExp"):
            sums.append(node)
    if sums:
        _spelled_out(program, sums)


def _native(program: Program, node: gs.Node) -> None:
    if not rows.last_axis(partial(told_shape, program.settings.get("nominal")), node):
        text = f"{node.op} kept on host: works over axis {node.attrs['axis']}, not known to be the last one"
        program.tell("SPK104", node.name, text)
    elif node.op == "LogSoftmax":
        program.tell(
            "SPK112", node.name, "LogSoftmax kept on host: the logarithm of a softmax has no spiking operator"
        )
    else:
        facts = {"label": "softmax"}
        program.findings.append(Finding("softmax", (node.inputs[0],), node.outputs[0], (node,), facts))


def _spelled_out(program: Program, sums: list[gs.Node]) -> None:
    flow = Flow(program.graph, rows.of_rows, program.settings.get("nominal"))
    carriers = data_tensors(program.graph)
    claimed = {id(node) for finding in program.findings for node in finding.nodes}
    for anchor in sorted(sums, key=lambda node: flow.level[id(node)]):
        if id(anchor) in claimed or id(anchor.inputs[0]) not in carriers:
            continue
        finding, code, reason = _fit(flow, anchor, claimed)
        if finding is None:
            program.tell(code, anchor.name, f"{anchor.op} kept on host: {reason}")
            continue
        claimed |= {id(node) for node in finding.nodes}
        program.findings.append(finding)


def _probes(n: int) -> np.ndarray:
    """Rows of several spreads and offsets, within what an exponential in float32 can hold."""
    x = np.random.default_rng(0).standard_normal((10 if n == 9 else 9, n))
    x[1] *= 0.01
    x[2] *= 10
    x[3] += 50
    x[4] -= 60
    x[5, 0] += 40
    x[6, -1] -= 40
    x[7] *= 1e-6
    return x


def _fit(flow: Flow, anchor: gs.Node, claimed: set[int]) -> tuple[Finding | None, str, str]:
    nearest = np.inf
    for one in sorted(flow.around(anchor, claimed), key=lambda one: -len(one.nodes)):
        error, logarithm = _errors(flow, one)
        if error <= TOLERANCE:
            return (
                Finding("softmax", (one.source,), one.result, one.nodes, {"label": "softmax"}, error),
                "",
                "",
            )
        if logarithm <= TOLERANCE:
            return None, "SPK112", "it is the logarithm of a softmax, which has no spiking operator"
        nearest = min(nearest, error)
    if not _of_exponentials(flow, anchor):
        return None, "SPK113", "a sum along an axis outside every normalisation and softmax"
    for one in flow.open_around(anchor):
        if _errors(flow, one)[0] <= TOLERANCE:
            return None, "SPK112", f"the interior value {flow.leak(one)!r} of this softmax is read elsewhere"
    near = f"; nearest: softmax, error {nearest:.1g}" if np.isfinite(nearest) else ""
    return None, "SPK112", f"its numbers are no softmax of one value over the last axis{near}"


def _errors(flow: Flow, one: Region) -> tuple[float, float]:
    """How far the region is from softmax and from its logarithm; infinite when it is not even a matrix."""
    n = rows.channels(flow, one) or rows.UNKNOWN_CHANNELS
    x = _probes(n)
    y = rows.evaluate(flow, one, x) if n > 1 else None
    if y is None or not np.isfinite(y).all():
        return np.inf, np.inf
    weights = np.exp(x - x.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    logarithm = np.abs(y - np.log(weights)).max() / np.abs(x).max()
    return float(np.abs(y - weights).max()), float(logarithm)


def _of_exponentials(flow: Flow, anchor: gs.Node) -> bool:
    near = region.ancestors(anchor.inputs[0], 3)
    return anchor.op == "ReduceLogSumExp" or any(t.inputs and t.inputs[0].op == "Exp" for t in near)
