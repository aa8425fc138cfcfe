"""SpikeDecode: a spike train back to the real value it carries.

    Y = scale · Σ_t radix**(steps-1-t) · S_t

S: int8, int16 or int32 `[steps, ...]`; Y: float32 `[...]`. The sum is exact, the product rounds once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Case, SpikingOp
from .train import total


def decode(train: np.ndarray, *, scale: float, radix: int) -> np.ndarray:
    return (total(train, radix) * np.float64(np.float32(scale))).astype(np.float32)


START_BODY = """
  radix_i = Constant <value_int: int = @radix> ()
  radix_f = Cast <to = 11> (radix_i)
  scale_f = Constant <value_float: float = @scale> ()
  scale64 = Cast <to = 11> (scale_f)
  start = Constant <value_ints = [0]> ()
  first = Constant <value_ints = [1]> ()
  end = Constant <value_ints = [1000]> ()
  all_shape = Shape (S)
  step_shape = Slice (all_shape, first, end)
  S64 = Cast <to = 11> (S)
"""
"""ONNX text: radix and scale in float64, `S64`, and `step_shape`, the shape of one step of S."""

BODY = (
    START_BODY
    + """
  v0 = ConstantOfShape <value = double[1] {0.0}> (step_shape)
  v = Scan <num_scan_inputs = 1, body = accumulate (double[] v_in, double[] s) => (double[] v_out) {
    grown = Mul (v_in, radix_f)
    v_out = Add (grown, s)
  }> (v0, S64)
  scaled = Mul (v, scale64)
  Y = Cast <to = 1> (scaled)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype, steps, radix, shape in (
        (np.int8, 8, 2, (3, 5)),
        (np.int16, 1, 256, (2, 3, 7)),
        (np.int32, 1, 1, ()),
        (np.int32, 13, 1, (4,)),
        (np.int8, 4, 2, (0, 3)),
    ):
        yield [rng.integers(-100, 100, (steps, *shape)).astype(dtype)], {"scale": 0.0371, "radix": radix}


OP = SpikingOp(
    name="SpikeDecode",
    inputs=("S",),
    attributes={"scale": float, "radix": int},
    numpy=decode,
    body=BODY,
    cases=cases,
    doc=__doc__,
)
