"""ISStep: the integer-spiking neuron, one timestep, in sum coding: up to L unit spikes at once.

The published neuron (Dual; α = 2**(n-1)/T, v₀ in units of θ) is

    v ← v + x_t + α·θ;   k = clip(⌊v/θ⌋, 0, L);   v ← v - k·θ;   it decodes to Σ (k - α)·θ

With the running sum X_t of its input and code = Σ (k - α), its membrane is v = v₀·θ + X_t - θ·code at all
times (before the α of this step), so

    S = k = clip(⌊X_t/θ + v₀⌋ - code + α, 0, L)

X: float32; code: int32 `[1, *X.shape]` or a scalar (zero, before the first step), offset taken off; theta,
v0: float32 scalars or one a channel of the last axis; alpha, most (L): float32 whole numbers, scalars; S:
int32 `[1, *X.shape]`. Exact if T·L = 2**n - 1 and the input comes evenly or at once; else a neuron can take
back at most α a step, and how much it cannot is the unevenness error that calibration makes smaller. A silent
input costs α spikes a step. Source: Dual ANN-to-SNN conversion (OpenReview nzkObUsajY) Eqs 8-10, methods
§1.3.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Attributes, Case, SpikingOp


def is_step(
    x: np.ndarray, code: np.ndarray, theta: np.ndarray, v0: np.ndarray, alpha: np.ndarray, most: np.ndarray
) -> np.ndarray:
    value, theta64, start, rest, full = (
        np.asarray(part).astype(np.float64) for part in (x, theta, v0, alpha, most)
    )
    membrane = np.floor(value / theta64 + start)[None]
    fired = np.minimum(np.maximum(membrane - code + rest, 0.0), full)
    return fired.astype(np.int32)


def events(spikes: np.ndarray, attributes: Attributes) -> np.ndarray:
    """Unit spikes, those of the offset included."""
    return np.abs(spikes)


BODY = """
  first = Constant <value_ints = [0]> ()
  nothing = Constant <value = double {0.0}> ()
  X64 = Cast <to = 11> (X)
  theta64 = Cast <to = 11> (theta)
  v064 = Cast <to = 11> (v0)
  code64 = Cast <to = 11> (code)
  alpha64 = Cast <to = 11> (alpha)
  most64 = Cast <to = 11> (most)
  current = Div (X64, theta64)
  v = Add (current, v064)
  whole = Floor (v)
  held = Unsqueeze (whole, first)
  lacking = Sub (held, code64)
  lifted = Add (lacking, alpha64)
  positive = Max (lifted, nothing)
  k = Min (positive, most64)
  S = Cast <to = 6> (k)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, alpha, most, start in (
        ((3, 5), 16, 32, True),
        ((2, 3, 4), 8, 16, False),
        ((7,), 4, 8, False),
        ((), 16, 32, True),
        ((0, 2), 8, 16, False),
    ):
        x = (rng.standard_normal(shape) * 9).astype(np.float32)
        size = shape[-1:] if len(shape) > 1 else ()
        theta, v0 = rng.random(size, np.float32) + np.float32(0.2), rng.random(size, np.float32)
        before = np.zeros((), np.int32) if start else rng.integers(-9, 9, (1, *shape)).astype(np.int32)
        limits = [np.array(part, np.float32) for part in (alpha, most)]
        yield [x, before, np.asarray(theta), np.asarray(v0), *limits], {}


OP = SpikingOp(
    name="ISStep",
    inputs=("X", "code", "theta", "v0", "alpha", "most"),
    outputs=("S",),
    attributes={},
    numpy=is_step,
    body=BODY,
    cases=cases,
    doc=__doc__,
    events=events,
    kernel=False,
)
