"""SpikeMultiply: a spike train gates a real-valued state, element by element (SwiGLU's act(gate)·up).

    v ← radix·v + S_t·U        Y = scale · v

S: integers `[steps, ...]`; U: float32, the shape of one step; Y: float32. One operand is static, so the
telescoping product has one term (methods §6.3 rule 3): each spike adds U, shifted by the spike's weight.
Exact in float64 when the code has at most 29 significant bits, so both executions agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .decode import START_BODY
from .spec import Case, SpikingOp


def multiply(train: np.ndarray, state: np.ndarray, *, scale: float, radix: int) -> np.ndarray:
    membrane = np.zeros(train.shape[1:])
    for spikes in train:
        membrane = radix * membrane + spikes * state.astype(np.float64)
    return (membrane * np.float64(np.float32(scale))).astype(np.float32)


BODY = (
    START_BODY
    + """
  U64 = Cast <to = 11> (U)
  v0 = ConstantOfShape <value = double[1] {0.0}> (step_shape)
  v = Scan <num_scan_inputs = 1, body = accumulate (double[] v_in, double[] s) => (double[] v_out) {
    grown = Mul (v_in, radix_f)
    current = Mul (s, U64)
    v_out = Add (grown, current)
  }> (v0, S64)
  scaled = Mul (v, scale64)
  Y = Cast <to = 1> (scaled)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype, steps, radix, shape in (
        (np.int32, 1, 1, (3, 5)),
        (np.int32, 13, 1, (2, 3, 17)),
        (np.int8, 8, 2, (7,)),
        (np.int16, 1, 256, ()),
        (np.int32, 2, 1, (0, 4)),
    ):
        train = rng.integers(-100, 100, (steps, *shape)).astype(dtype)
        yield [train, rng.standard_normal(shape).astype(np.float32)], {"scale": 2.0**-9, "radix": radix}


OP = SpikingOp(
    name="SpikeMultiply",
    inputs=("S", "U"),
    attributes={"scale": float, "radix": int},
    numpy=multiply,
    body=BODY,
    cases=cases,
    doc=__doc__,
)
