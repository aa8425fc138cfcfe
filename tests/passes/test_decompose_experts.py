"""com.microsoft MoE gives the same numbers taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operators import Case, Inputs, error, normal

EXPERTS, D, INNER = 4, 16, 24


def mixture(
    kind: str, k: int = 2, flat: bool = True, bias: bool = False, gated: bool = False, **attrs: Any
) -> Case:
    """`kind` names the activation; `flat` tokens have no batch; `gated` experts have a third matrix."""
    wide = 2 if kind == "swiglu" and attrs.get("swiglu_fusion", 0) else 1

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        sizes = {2: (wide * INNER, D), 4: (D, INNER), 6: (INNER, D)}
        made: Inputs = [
            normal(rng, b * s, D) if flat else normal(rng, b, s, D),
            normal(rng, b * s, EXPERTS),
        ]
        for place in (2, 4, 6) if gated else (2, 4):
            made.append(normal(rng, EXPERTS, *sizes[place], scale=0.3))
            made.append(normal(rng, EXPERTS, sizes[place][0]) if bias else None)
        return made

    named = {"k": k, "activation_type": kind, **attrs}
    return Case("MoE", make, named, (0,), (2, 3, 4, 5, 6, 7)[: 6 if gated else 4])


def gate_by_definition(case: Case) -> Case:
    """No kernel for CPUs: what the documentation says, with an activation of one of two products."""

    def expected(inputs: Inputs) -> list[np.ndarray]:
        x, scores, up, up_bias, down, down_bias, *gate = (
            0.0 if i is None else np.asarray(i, np.float64) for i in inputs
        )
        first = x @ up.swapaxes(1, 2) + np.reshape(up_bias, (-1, 1, np.size(up_bias) // EXPERTS or 1))
        if gate:
            second = x @ gate[0].swapaxes(1, 2) + np.reshape(
                gate[1], (-1, 1, np.size(gate[1]) // EXPERTS or 1)
            )
        else:
            first, second = np.split(first, 2, -1)
        inner = first / (1 + np.exp(-first)) * second
        each = inner @ down.swapaxes(1, 2) + np.reshape(
            down_bias, (-1, 1, np.size(down_bias) // EXPERTS or 1)
        )
        share = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        share[share < np.sort(share, 1)[:, -case.attrs["k"]][:, None]] = 0
        return [np.einsum("te,etd->td", share, each)]

    case.expected = expected
    return case


GLU = {"swiglu_fusion": 1, "activation_alpha": 1.702, "activation_beta": 1.0, "swiglu_limit": 1.5}
CASES = {
    "relu": mixture("relu"),
    "one of four": mixture("relu", k=1),
    "all of four": mixture("relu", k=4),
    "gelu, bias": mixture("gelu", bias=True),
    "silu, normalised": mixture("silu", normalize_routing_weights=1),
    "identity": mixture("identity"),
    "tokens in a batch": mixture("silu", flat=False, bias=True, normalize_routing_weights=1),
    "gated": gate_by_definition(mixture("silu", gated=True)),
    "gated, bias": gate_by_definition(mixture("silu", gated=True, bias=True)),
    "swiglu of two": gate_by_definition(mixture("swiglu", gated=True, bias=True)),
    "swiglu, halves": gate_by_definition(mixture("swiglu", bias=True, swiglu_fusion=2)),
    "swiglu": mixture("swiglu", bias=True, **GLU),
}


@pytest.mark.parametrize("name", CASES)
def test_mixture_of_experts(name: str, tmp_path: Path) -> None:
    assert error(CASES[name], tmp_path) <= CASES[name].tolerance
