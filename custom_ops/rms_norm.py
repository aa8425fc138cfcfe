"""SpikeRMSNorm: root-mean-square normalisation by a squaring neuron and a bit-serial reciprocal square root.

    ms = Δ²·Σc²/n + ε   (c: the row's integer code, Δ its step);   Y = (x · RSQRT(ms)) · gamma

X: float32 `[..., n]`, n ≥ 1; gamma: float32 `[n]`; rsqrt: float32 thresholds `[2**bits]`; Y: float32. The
root is emitted as a train of `steps` digits (radix**steps ≥ 2**(bits+2)); each of its spikes adds x, shifted.
Relative error of the root ≤ 2^(-bits-1). Source: methods §6.5; LAS's spike-equivalent norm with ε kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
from .spec import Case, SpikingOp
from .tables import rsqrt_thresholds
from .train import bit_serial_execution


def rms_norm(
    x: np.ndarray, gamma: np.ndarray, rsqrt: np.ndarray, *, epsilon: float, bits: int, steps: int, radix: int
) -> np.ndarray:
    if x.size == 0:
        return x.copy()
    code, step = row_code(x, bits)
    mean_square = sum_of_squares(code, steps, radix) * step**2 / x.shape[-1] + np.float64(np.float32(epsilon))
    return scale_by_rsqrt(x, mean_square, rsqrt, bits, steps, radix) * gamma


BODY = (
    CONSTANTS_BODY
    + row_code_body("X")
    + mean_square_body("X")
    + scale_by_rsqrt_body("X")
    + """
  Y = Mul (normal, gamma)
"""
)


def norm_inputs(rng: np.random.Generator) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Rows with and without an outlier channel, a zero row, an empty batch, in both executions."""
    for bits, shape in ((12, (3, 64)), (8, (2, 2, 17)), (12, (1, 1)), (10, (0, 8)), (12, (576,))):
        x = rng.standard_normal(shape).astype(np.float32)
        if x.size > 100:
            x[..., 3] *= 5000
        if x.ndim > 1 and len(x) > 2:
            x[1] = 0
        yield x, {"epsilon": 1e-5, "bits": bits, "steps": bits + 2, "radix": 2}
        yield x, {"epsilon": 1e-5, "bits": bits, "steps": 1, "radix": 2 ** (bits + 2)}


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for x, attributes in norm_inputs(rng):
        yield (
            [x, rng.random((x.shape[-1],)).astype(np.float32), rsqrt_thresholds(attributes["bits"])],
            attributes,
        )


OP = SpikingOp(
    name="SpikeRMSNorm",
    inputs=("X", "gamma", "rsqrt"),
    attributes={"epsilon": float, "bits": int, "steps": int, "radix": int},
    numpy=rms_norm,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=bit_serial_execution,
)
