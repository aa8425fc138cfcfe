"""SpikeLayerNorm: layer normalisation by integer sums, a squaring neuron and a bit-serial reciprocal square
root.

    μ = Δ·Σc/n   (c: the row's integer code, Δ its step);   d = x - μ
    Y = (d · RSQRT(Δ_d²·Σc_d²/n + ε)) · gamma + beta

X: float32 `[..., n]`, n ≥ 1; gamma, beta: float32 `[n]`; rsqrt: float32 thresholds `[2**bits]`; Y: float32.
Emission as in SpikeRMSNorm. Source: methods §6.5; LAS's spike-equivalent LayerNorm with ε kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .norm import (
    CONSTANTS_BODY,
    mean_square_body,
    row_code,
    row_code_body,
    scale_by_rsqrt,
    scale_by_rsqrt_body,
    sum_of_squares,
)
from .rms_norm import norm_inputs
from .spec import Case, SpikingOp
from .tables import rsqrt_thresholds
from .train import bit_serial_execution, sum_body


def layer_norm(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    rsqrt: np.ndarray,
    *,
    epsilon: float,
    bits: int,
    steps: int,
    radix: int,
) -> np.ndarray:
    if x.size == 0:
        return x.copy()
    n = x.shape[-1]
    code, step = row_code(x, bits)
    centred = x - (code.sum(-1, keepdims=True) * step / n).astype(np.float32)
    code, step = row_code(centred, bits)
    mean_square = sum_of_squares(code, steps, radix) * step**2 / n + np.float64(np.float32(epsilon))
    return scale_by_rsqrt(centred, mean_square, rsqrt, bits, steps, radix) * gamma + beta


BODY = (
    CONSTANTS_BODY
    + row_code_body("X")
    + """
  X_code64 = Cast <to = 11> (X_code)
"""
    + sum_body("X_code64", "X_sum")
    + """
  X_total = Mul (X_sum, X_step)
  mean64 = Div (X_total, n)
  mean = Cast <to = 1> (mean64)
  D = Sub (X, mean)
"""
    + row_code_body("D")
    + mean_square_body("D")
    + scale_by_rsqrt_body("D")
    + """
  gained = Mul (normal, gamma)
  Y = Add (gained, beta)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for x, attributes in norm_inputs(rng):
        gain, shift = (
            rng.random((x.shape[-1],)).astype(np.float32),
            rng.standard_normal((x.shape[-1],)).astype(np.float32),
        )
        yield [x, gain, shift, rsqrt_thresholds(attributes["bits"])], attributes


OP = SpikingOp(
    name="SpikeLayerNorm",
    inputs=("X", "gamma", "beta", "rsqrt"),
    attributes={"epsilon": float, "bits": int, "steps": int, "radix": int},
    numpy=layer_norm,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=bit_serial_execution,
)
