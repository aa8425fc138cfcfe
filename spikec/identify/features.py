"""What kind of transformer a graph is, in words read off its findings and wiring, never off names."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_graphsurgeon as gs

from ..ir.program import Finding, Program
from .attention import attention_features
from .inputs import input_features
from .wiring import Wiring, value_of
from .words import Features

NOT_BETWEEN_LAYERS = ("tanh", "softcap", "affine", "clip")
"""Functions that poolers, caps and heads have: they do not tell the activation of the layers."""


def features(program: Program) -> Features:
    result, wiring = Features(), Wiring(program)
    _norms(result, wiring)
    _activations(result, wiring)
    attention_features(result, wiring)
    input_features(result, wiring)
    return result


def _norms(out: Features, wiring: Wiring) -> None:
    """Which norm, and where it stands: before a branch, after the sum, or at a branch's end."""
    norms = wiring.program.of("layernorm", "rmsnorm")
    kinds = Counter(f.kind for f in norms)
    for kind, count in kinds.items():
        name = "LayerNorm" if kind == "layernorm" else "RMSNorm"
        if count >= max(kinds.values()) / 3:
            out.add(kind, f"{count} {name}")
    places = Counter(_place(f, wiring) for f in norms)
    for place, where in (
        ("pre-norm", "norms before the branches"),
        ("post-norm", "norms after the residual sums"),
        ("branch-norm", "norms at the ends of the branches"),
    ):
        if places[place] >= 2 and places[place] >= sum(places.values()) / 4:
            out.add(place, f"{places[place]} {where}")
    if places["embedding-norm"]:
        out.add("embedding-norm", "a norm right after the embedding")
    if kinds["layernorm"] and all(not np.any(f.facts.get("beta", 1)) for f in norms if f.kind == "layernorm"):
        out.add("norm-without-shift", "LayerNorm without shift")


def _place(norm: Finding, wiring: Wiring) -> str:
    source, result = value_of(norm.sources[0]), norm.result
    read_on = id(source) in wiring.joined
    if id(result) in wiring.joined:
        if not wiring.back([source], lambda f: f.facts["label"] in ("linear", "matmul_dynamic"))[0]:
            return "embedding-norm"
        if read_on:
            return "other"
        return "post-norm" if id(source) in wiring.residuals else "branch-norm"
    return "pre-norm" if read_on or id(source) in wiring.residuals else "other"


def _activations(out: Features, wiring: Wiring) -> None:
    inner = [f for f in wiring.program.of("activation") if f.block >= 0] or wiring.program.of("activation")
    labels = Counter(f.facts["label"] for f in inner)
    for other in NOT_BETWEEN_LAYERS:
        labels.pop(other, None)
    if not labels:
        return
    out.activation, count = labels.most_common(1)[0]
    out.add(out.activation, f"{count} {out.activation}")
    chosen = [f for f in inner if f.facts["label"] == out.activation]
    gated = sum(len(f.sources) > 1 or _gates(f, wiring) for f in chosen)
    if gated > len(chosen) / 2:
        out.add("gated", f"{gated} of them gate a second product")


def _gates(finding: Finding, wiring: Wiring) -> bool:
    """Whether the activation's result is multiplied by another product of the layer."""
    for user in finding.result.outputs:
        if user.op == "Mul" and id(user) not in wiring.owner:
            other = [i for i in user.inputs if i is not finding.result and isinstance(i, gs.Variable)]
            if other and wiring.linears(other)[0]:
                return True
    return False
