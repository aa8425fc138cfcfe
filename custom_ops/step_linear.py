"""StepLinear: synapses, one timestep: the spikes of this step add their rows of weights to the membrane.

    V = v + S·W

S: int32 `[1, ..., K]`, the (weighted) spikes of one step; v: float64, the membrane so far, of the shape of V
or broadcast to it (one zero, before the first step); W: float32 or int8 `[K, N]`; V: float64 `[..., N]`.
After any number of steps V = code·W with code = Σ S: exact for int8 weights, so that it equals SpikeLinear on
the running code bit for bit; for float32 weights it is the same sum in another order. What V is worth
(scale · w_scale) is applied by whoever reads it, never to the membrane.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Case, SpikingOp


def step_linear(spikes: np.ndarray, membrane: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return membrane + spikes[0].astype(np.float64) @ weight.astype(np.float64)


BODY = """
  first = Constant <value_ints = [0]> ()
  S64 = Cast <to = 11> (S)
  W64 = Cast <to = 11> (W)
  now = Squeeze (S64, first)
  current = MatMul (now, W64)
  V = Add (v, current)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for rows, k, n, start in (
        ((2, 3), 17, 9, False),
        ((), 5, 3, True),
        ((4,), 8, 4, True),
        ((0,), 8, 4, True),
    ):
        spikes = rng.integers(-500, 500, (1, *rows, k)).astype(np.int32)
        v = np.zeros(()) if start else rng.integers(-(2**20), 2**20, (*rows, n)).astype(np.float64)
        yield [spikes, v, rng.integers(-127, 128, (k, n)).astype(np.int8)], {}
        # eighths, whose sums are exact in any order
        yield [spikes, v, (rng.integers(-99, 99, (k, n)) / 8).astype(np.float32)], {}


OP = SpikingOp(
    name="StepLinear",
    inputs=("S", "v", "W"),
    outputs=("V",),
    attributes={},
    numpy=step_linear,
    body=BODY,
    cases=cases,
    doc=__doc__,
    kernel=False,
)
