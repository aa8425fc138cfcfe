"""IFEncode: what an integrate-and-fire neuron has emitted once a constant input has been there for all its
steps.

    code = clip(⌊rate·X/θ + v₀⌋, low, high)

With rate = high = T, low = 0 and v₀ = ½ the decoded mean θ·code/T is QCFS with L = T levels, and equals T
steps of IFStep on a constant input exactly; low = -T is the signed pair, and rate = 1 (sum coding) the
integer-spiking neuron of ISStep. X: float32, any shape, finite; theta (θ > 0) and v0 (in units of θ):
float32, scalars or one a channel of the last axis; rate, low, high: float32 whole numbers, scalars; S: int32
`[1, *X.shape]`. x/θ is taken in float64. Source: FAS (arXiv 2502.04405) QCFS, Dual (OpenReview nzkObUsajY) Eq
7; methods §1.2.2, §1.3.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Case, SpikingOp


def if_encode(
    x: np.ndarray, theta: np.ndarray, v0: np.ndarray, rate: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    wide = [np.asarray(part).astype(np.float64) for part in (x, theta, v0, rate, low, high)]
    value, theta64, start, times, least, most = wide
    code = np.floor(value / theta64 * times + start)
    return np.minimum(np.maximum(code, least), most).astype(np.int32)[None]


BODY = """
  first = Constant <value_ints = [0]> ()
  X64 = Cast <to = 11> (X)
  theta64 = Cast <to = 11> (theta)
  v064 = Cast <to = 11> (v0)
  rate64 = Cast <to = 11> (rate)
  low64 = Cast <to = 11> (low)
  high64 = Cast <to = 11> (high)
  current = Div (X64, theta64)
  arrived = Mul (current, rate64)
  v = Add (arrived, v064)
  fired = Floor (v)
  enough = Max (fired, low64)
  code = Min (enough, high64)
  code32 = Cast <to = 6> (code)
  S = Unsqueeze (code32, first)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, steps, low in (
        ((3, 5), 8, 0),
        ((2, 3, 4), 4, -4),
        ((7,), 16, -16),
        ((), 8, 0),
        ((0, 2), 2, -2),
    ):
        x = (rng.standard_normal(shape) * 2).astype(np.float32)
        size = shape[-1:] if len(shape) > 1 else ()
        theta, v0 = rng.random(size, np.float32) + np.float32(0.2), rng.random(size, np.float32)
        limits = [np.array(part, np.float32) for part in (steps, low, steps)]
        yield [x, np.asarray(theta), np.asarray(v0), *limits], {}


OP = SpikingOp(
    name="IFEncode",
    inputs=("X", "theta", "v0", "rate", "low", "high"),
    outputs=("S",),
    attributes={},
    numpy=if_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    kernel=False,
)
