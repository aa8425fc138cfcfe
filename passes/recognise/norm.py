"""Layer and root-mean-square normalisation over the last axis, with gain, shift and epsilon read off the
numbers."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir.flow import Flow, Region, data_tensors, is_real
from spikec.ir.operators import REDUCTIONS
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program

from . import rows

NATIVE = rows.NORMS
OTHER_AXES = {"InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization", "LpNormalization"}
AVERAGING = {"ReduceMean", "ReduceSumSquare", "ReduceL2", "LpNormalization"}
"""What a norm begins with; other sums are looked at too, but need not be norms."""
ANCHORS = AVERAGING | {"ReduceSum", "ReduceL1", "MatMul", "GlobalAveragePool"}
TOLERANCE = 1e-5
UNMATCHED = "its numbers match neither layer nor root-mean-square normalisation of the last axis"


class Fit(NamedTuple):
    kind: str
    epsilon: float
    gamma: np.ndarray
    beta: np.ndarray
    error: float


@compiler_pass(after=["split_gemm", "trace_values"])
def recognise_norms(program: Program) -> None:
    flow = Flow(program.graph, rows.of_rows, program.settings.get("nominal"))
    carriers = data_tensors(program.graph)
    claimed: set[int] = set()
    anchors = [
        node
        for node in program.graph.nodes
        if node.op in NATIVE or (node.op in ANCHORS | OTHER_AXES and _on_data(node, flow, carriers))
    ]
    for anchor in sorted(anchors, key=lambda node: flow.level[id(node)]):
        if id(anchor) in claimed:
            continue
        finding, reason = (
            _native(flow, anchor) if anchor.op in NATIVE else _spelled_out(flow, anchor, claimed)
        )
        if finding is not None:
            claimed |= {id(node) for node in finding.nodes}
            program.findings.append(finding)
        elif anchor.op in AVERAGING | OTHER_AXES | NATIVE.keys():
            program.tell("SPK101", anchor.name, f"{anchor.op} kept on host: {reason}")


def _on_data(node: gs.Node, flow: Flow, carriers: set[int]) -> bool:
    if node.op == "MatMul" and id(node) not in flow.admitted:
        return False
    return id(node.inputs[0]) in carriers and is_real(node.outputs[0])


def _native(flow: Flow, node: gs.Node) -> tuple[Finding | None, str]:
    kind = NATIVE[node.op]
    if not rows.last_axis(flow.shape, node):
        return None, f"normalises over axis {node.attrs['axis']}, not the last one"
    if any(o.outputs or id(o) in flow.outputs for o in node.outputs[1:]):
        return None, "its mean or inverse deviation is used elsewhere"
    vectors = [flow.constant(i, rows.LARGEST_VECTOR) for i in node.inputs[1:] if i.name]
    if any(vector is None for vector in vectors):
        return None, "its gain or shift is not constant"
    gamma, beta = (
        np.asarray(vector, np.float32).reshape(-1)
        for vector in (vectors + [np.ones(1), np.zeros(1)][len(vectors) :])[:2]
    )
    shape = node.inputs[0].shape
    known = shape[-1] if shape and isinstance(shape[-1], int) else max(gamma.size, beta.size)
    facts = {"epsilon": float(node.attrs.get("epsilon", 1e-5)), "label": kind}
    facts |= _vectors(gamma, beta, known if known > 1 else None)
    return Finding(kind, (node.inputs[0],), node.outputs[0], (node,), facts), ""


def _vectors(gamma: np.ndarray, beta: np.ndarray, channels: int | None) -> dict[str, Any]:
    """Gain and shift of every channel; of one for all when the number of channels is unknown."""
    size = channels or 1
    return {
        "gamma": np.broadcast_to(gamma.astype(np.float32), (size,)),
        "beta": np.broadcast_to(beta.astype(np.float32), (size,)),
        "channels": channels,
    }


def _spelled_out(flow: Flow, anchor: gs.Node, claimed: set[int]) -> tuple[Finding | None, str]:
    if id(anchor) not in flow.admitted:
        return None, _why_not_admitted(flow, anchor)
    nearest: Fit | None = None
    for one in flow.around(anchor, claimed):
        n = rows.channels(flow, one)
        fit = _fit(flow, one, n or rows.UNKNOWN_CHANNELS)
        if fit is None:
            continue
        if fit.error > TOLERANCE:
            nearest = fit if nearest is None or fit.error < nearest.error else nearest
            continue
        if n is None and not _alike(fit, _fit(flow, one, rows.OTHER_CHANNELS)):
            return None, f"its numbers are those of {fit.kind}, but the number of channels is unknown"
        if fit.kind == "rmsnorm" and (mean := _centred(flow, one.source)):
            return None, f"it ends a layer norm whose interior value {mean!r} is read elsewhere"
        return _finding(one, fit, n), ""
    for one in flow.open_around(anchor):
        fit = _fit(flow, one, rows.channels(flow, one) or rows.UNKNOWN_CHANNELS)
        if fit is not None and fit.error <= TOLERANCE:
            return None, f"the interior value {flow.leak(one)!r} of this {fit.kind} is read elsewhere"
    if nearest is not None and nearest.error < 1:
        return None, f"{UNMATCHED}; nearest: {nearest.kind}, error {nearest.error:.1g}"
    return None, UNMATCHED


def _finding(one: Region, fit: Fit, channels: int | None) -> Finding:
    gamma, beta = (fit.gamma, fit.beta) if channels else (fit.gamma[:1], fit.beta[:1])
    n = len(fit.gamma)
    unit = channels is not None and not fit.beta.any() and np.allclose(fit.gamma, n**-0.5, rtol=1e-4)
    facts = {"epsilon": fit.epsilon, "label": "l2norm" if unit and fit.kind == "rmsnorm" else fit.kind}
    facts |= _vectors(gamma, beta, channels)
    return Finding(fit.kind, (one.source,), one.result, one.nodes, facts, fit.error)


def _why_not_admitted(flow: Flow, anchor: gs.Node) -> str:
    if anchor.op not in REDUCTIONS:
        return "it normalises over other axes than the last"
    axes = rows.reduced_axes(flow, anchor)
    if axes is None:
        return "the axes it works over are unknown"
    return f"works over axes {', '.join(map(str, axes))}, not the last one alone"


def _alike(one: Fit, other: Fit | None) -> bool:
    """Whether gain, shift and epsilon are the same for all channels, however many there are."""
    if other is None or not np.isclose(one.epsilon, other.epsilon, rtol=1e-6, atol=0):
        return False
    gains, shifts = np.append(one.gamma, other.gamma), np.append(one.beta, other.beta)
    return bool(np.ptp(gains) <= 1e-6 * np.abs(gains).max() and np.ptp(shifts) <= 1e-9)


def _centred(flow: Flow, tensor: gs.Tensor) -> str:
    """The name of the mean when `tensor` is another one minus its mean: the first half of a layer norm."""
    maker = tensor.inputs[0] if tensor.inputs else None
    if maker is None or maker.op != "Sub" or len(flow.moving(maker)) != 2:
        return ""
    whole, mean = maker.inputs
    x = _probes(rows.UNKNOWN_CHANNELS)
    for source in (whole, *flow.above(whole)):
        part = flow.span(source, mean) if source in list(flow.above(mean)) else None
        if part is not None:
            n = rows.channels(flow, part)
            x = _probes(n or rows.UNKNOWN_CHANNELS)
            y = rows.evaluate(flow, part, x, like=(len(x), 1))
            if y is not None and np.allclose(y, x.mean(-1, keepdims=True)):
                return str(mean.name)
    return ""


@cache
def _probes(n: int) -> np.ndarray:
    """Rows of several sizes (tiny ones show epsilon), with offsets and an outlier channel; the first is of
    alternating sign and nowhere near its mean, the second its negative, the third a tiny copy."""
    rng = np.random.default_rng(0)
    plain = (1 - 2 * (np.arange(n) % 2)) * (1 + rng.random(n))
    x = rng.standard_normal((10 if n == 9 else 9, n))
    x[:3] = plain, -plain, 1e-6 * plain
    x[3] = 3 + 1e-2 * x[3]
    x[4] *= 1e-3
    x[5, 0] += 1000
    x[6] *= 1e4
    x[7] -= 40
    return x


def _fit(flow: Flow, one: Region, n: int) -> Fit | None:
    """The norm nearest to what the region computes."""
    if n < 2:
        return None
    x = _probes(n)
    y = rows.evaluate(flow, one, x)
    if y is None or not np.isfinite(y).all():
        return None
    fits = [fit for kind in ("rmsnorm", "layernorm") if (fit := _fit_kind(kind, x, y)) is not None]
    return min(fits, key=lambda fit: fit.error, default=None)


def _fit_kind(kind: str, x: np.ndarray, y: np.ndarray) -> Fit | None:
    """Shift from a row and its negative; epsilon and gain from two sizes of one row, since (d/(y-β))² is
    (mean square + ε)/γ²; then all rows are compared."""
    d = x - x.mean(-1, keepdims=True) if kind == "layernorm" else x
    power = (d * d).mean(-1, keepdims=True)
    beta = 0.5 * (y[0] + y[1])
    rise = y - beta
    beta = np.where(np.abs(beta) <= 1e-12 * np.abs(rise[0]).max(), 0, beta)
    j = int(np.abs(rise[0]).argmax())
    if rise[0, j] == 0 or rise[2, j] == 0:
        return None
    large, tiny = (d[0, j] / rise[0, j]) ** 2, (d[2, j] / rise[2, j]) ** 2
    if large <= tiny:
        return None
    epsilon = float(tiny * (power[0, 0] - power[2, 0]) / (large - tiny) - power[2, 0])
    if abs(epsilon) <= 1e-6 * power[2, 0]:
        epsilon = 0.0
    if epsilon < 0:
        return None
    gamma = rise[0] * np.sqrt(power[0] + epsilon) / d[0]
    expected = gamma * d / np.sqrt(power + epsilon)
    size = np.abs(rise).max(-1) + 1e-6 * np.abs(beta).max()
    error = float((np.abs(rise - expected).max(-1) / np.maximum(size, 1e-30)).max())
    return Fit(kind, epsilon, gamma, beta, error)
