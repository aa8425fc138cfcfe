"""SpikeLinear: synapses; every spike adds its row of weights to the membrane.

    v ← radix·v + S_t·W      for t = 0 … steps-1
    Y = (v · scale) · w_scale

S: int8, int16 or int32 `[steps, ..., K]`; W: float32 or int8 `[K, N]`; w_scale: float32 `[1]` or `[N]` (ones
for float weights); Y: float32 `[..., N]`. The membrane is float64: exact for int8 weights, so every order of
summation gives the same bits; for float32 weights the sum is rounded once to float32, so two orders differ
only when the exact sum lies within 2⁻⁵³ relative of a rounding boundary. A bias stays an ordinary Add,
injected once (sum coding, methods §6.3 rule 1).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .decode import START_BODY
from .spec import Case, SpikingOp


def linear(
    train: np.ndarray, weight: np.ndarray, w_scale: np.ndarray, *, scale: float, radix: int
) -> np.ndarray:
    synapses = weight.astype(np.float64)
    membrane = np.zeros((*train.shape[1:-1], weight.shape[-1]))
    for spikes in train:
        membrane = radix * membrane + spikes.astype(np.float64) @ synapses
    return ((membrane * np.float64(np.float32(scale))) * w_scale.astype(np.float64)).astype(np.float32)


BODY = (
    START_BODY
    + """
  W64 = Cast <to = 11> (W)
  w_scale64 = Cast <to = 11> (w_scale)
  w_shape = Shape (W)
  fan_out = Slice (w_shape, first, end)
  minus_one = Constant <value_ints = [-1]> ()
  rows = Slice (step_shape, start, minus_one)
  out_shape = Concat <axis = 0> (rows, fan_out)
  v0 = ConstantOfShape <value = double[1] {0.0}> (out_shape)
  v = Scan <num_scan_inputs = 1, body = accumulate (double[] v_in, double[] s) => (double[] v_out) {
    current = MatMul (s, W64)
    grown = Mul (v_in, radix_f)
    v_out = Add (grown, current)
  }> (v0, S64)
  scaled = Mul (v, scale64)
  scaled_w = Mul (scaled, w_scale64)
  Y = Cast <to = 1> (scaled_w)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype, steps, radix, rows, k, n in (
        (np.int8, 8, 2, (2, 3), 17, 9),
        (np.int16, 1, 256, (2, 5), 64, 33),
        (np.int32, 1, 65536, (1, 1), 48, 16),
        (np.int8, 4, 2, (), 5, 3),
        (np.int16, 1, 256, (0, 2), 8, 4),
        (np.int8, 8, 2, (3, 1, 2), 130, 70),
    ):
        span = 60 if dtype == np.int8 else 16000
        train = (
            rng.integers(-span, span + 1, (steps, *rows, k)) * rng.integers(0, 2, (steps, *rows, k))
        ).astype(dtype)
        attributes = {"scale": 0.0123, "radix": radix}
        yield (
            [train, rng.integers(-127, 128, (k, n)).astype(np.int8), rng.random(n, np.float32) + 0.01],
            attributes,
        )
        yield [train, rng.standard_normal((k, n)).astype(np.float32), np.ones(1, np.float32)], attributes


OP = SpikingOp(
    name="SpikeLinear",
    inputs=("S", "W", "w_scale"),
    attributes={"scale": float, "radix": int},
    numpy=linear,
    body=BODY,
    cases=cases,
    doc=__doc__,
)
