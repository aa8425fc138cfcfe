"""Layer and root-mean-square normalisation over the last axis, with gain, shift and epsilon read off the
numbers."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import region
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Finding, Program
from spikec.ir.weights import array

NATIVE = {
    "LayerNormalization": "layernorm",
    "RMSNormalization": "rmsnorm",
    "SimplifiedLayerNormalization": "rmsnorm",
}
OPS = frozenset(region.SCALAR_OPS | {"ReduceMean"})
TOLERANCE = 1e-5
ROWS = 6


@compiler_pass(after=["split_gemm"])
def recognise_norms(program: Program) -> None:
    claimed: set[int] = set()
    for anchor in program.graph.nodes:
        if id(anchor) in claimed or anchor.op not in (*NATIVE, "ReduceMean"):
            continue
        finding, reason = _native(anchor) if anchor.op in NATIVE else _decomposed(program, anchor)
        if finding is None:
            program.tell("SPK101", anchor.name, f"{anchor.op} kept on host: {reason}")
            continue
        claimed |= {id(node) for node in finding.nodes}
        program.findings.append(finding)


def _native(node: gs.Node) -> tuple[Finding | None, str]:
    kind = NATIVE[node.op]
    rank = len(node.inputs[0].shape) if node.inputs[0].shape is not None else None
    axis = node.attrs.get("axis", -1)
    if axis != -1 and (rank is None or axis != rank - 1):
        return None, f"normalises over axis {axis}, not the last one"
    if any(o.outputs for o in node.outputs[1:]):
        return None, "its mean or inverse deviation is used elsewhere"
    if not all(isinstance(i, gs.Constant) for i in node.inputs[1:]):
        return None, "its gain or shift is not constant"
    gamma = array(node.inputs[1]).astype(np.float32).reshape(-1)
    beta = (
        array(node.inputs[2]).astype(np.float32).reshape(-1)
        if len(node.inputs) > 2
        else np.zeros(1, np.float32)
    )
    shape = node.inputs[0].shape
    channels = shape[-1] if shape and isinstance(shape[-1], int) else max(gamma.size, beta.size)
    if channels == 1:
        return None, "its number of channels is unknown"
    gamma, beta = (np.broadcast_to(vector, (channels,)) for vector in (gamma, beta))
    facts = {"epsilon": float(node.attrs.get("epsilon", 1e-5)), "gamma": gamma, "beta": beta, "label": kind}
    return Finding(kind, (node.inputs[0],), node.outputs[0], (node,), facts), ""


def _decomposed(program: Program, anchor: gs.Node) -> tuple[Finding | None, str]:
    best: tuple[int, Finding] | None = None
    for source in region.ancestors(anchor.inputs[0], 4):
        n = source.shape[-1] if source.shape and isinstance(source.shape[-1], int) else None
        if n is None:
            continue
        for result in region.descendants(anchor.outputs[0], DEPTH, OPS):
            finding = _fit(program, source, result, n, anchor)
            if finding is not None and (best is None or len(finding.nodes) > best[0]):
                best = len(finding.nodes), finding
    return (
        (best[1], "")
        if best
        else (None, "its numbers match neither layer nor root-mean-square normalisation of the last axis")
    )


DEPTH = 10


def _probes(n: int) -> np.ndarray:
    """Rows of several sizes (tiny ones show epsilon), one with an outlier channel, one with an offset."""
    rows = np.random.default_rng(0).standard_normal((ROWS, n)) * np.array([1, 1, 1e-3, 1e-2, 30, 1])[:, None]
    rows[1] += 3
    rows[5, 0] += 100
    return rows


def _fit(program: Program, source: gs.Tensor, result: gs.Tensor, n: int, anchor: gs.Node) -> Finding | None:
    x = _probes(n)
    used: set[int] = set()
    y = region.evaluate(result, {id(source): x}, used, largest_constant=n)
    if y is None or y.shape != x.shape or id(anchor) not in used:
        return None
    nodes = [node for node in region.region_nodes(result, (source,)) if id(node) in used]
    for epsilon in _epsilons(nodes):
        for kind in ("rmsnorm", "layernorm"):
            centred = x - x.mean(-1, keepdims=True) if kind == "layernorm" else x
            unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
            design = np.stack([unit, np.ones_like(unit)], -1).transpose(1, 0, 2)
            gram = design.transpose(0, 2, 1) @ design
            if kind == "rmsnorm":
                gamma, beta = (unit * y).sum(0) / (unit * unit).sum(0), np.zeros(n)
            else:
                gamma, beta = np.linalg.solve(gram, design.transpose(0, 2, 1) @ y.T[..., None])[..., 0].T
            error = float(np.abs(y - (unit * gamma + beta)).max() / max(np.abs(y).max(), 1e-30))
            if error <= TOLERANCE and not region.leak(nodes, result, program.graph):
                beta = np.where(np.abs(beta) < 1e-12, 0, beta)
                facts = {
                    "epsilon": epsilon,
                    "gamma": gamma.astype(np.float32),
                    "beta": beta.astype(np.float32),
                    "label": kind,
                }
                return Finding(kind, (source,), result, tuple(nodes), facts, error)
    return None


def _epsilons(nodes: list[gs.Node]) -> list[float]:
    """Small constants added inside the region, and zero."""
    found = {0.0}
    for node in nodes:
        if node.op in ("Add", "Max", "Clip"):
            for tensor in node.inputs:
                if isinstance(tensor, gs.Constant) and np.prod(tensor.shape) == 1:
                    value = float(region.constant_value(tensor))
                    found |= {value} if 0 < value < 0.1 else set()
    return sorted(found, reverse=True)
