"""ISEncode: the integer-spiking neuron; each step it fires as many unit spikes as its membrane holds.

    y = min(max(x/θ + offset, 0), ceiling)        or, with `signed` = 1,  min(|x|/θ, ceiling)
    v ← θ/2;  for t = 1 … T:  v ← v + y·θ/T,  s_t = ⌊v/θ⌋,  v ← v - s_t·θ          computed as
    s_t = F(t) - F(t-1),  F(t) = ⌊t·y/T + ½⌋                  (times sign(x) with `signed`)

θ = scale, T = timesteps. Σ_t s_t = ⌊y + ½⌋, so with offset 2**(n-1) and ceiling T·L the decoded value
θ·(Σ_t s_t - offset) is θ·clip(round(x/θ), -2**(n-1), 2**(n-1) - 1) exactly if T·L = 2**n - 1, where L is the
most unit spikes a step can have; otherwise (L the next integer) the topmost code is off by one. The offset
is a constant of whatever follows; it makes a silent input cost `offset` unit spikes. X: float32, any shape,
finite; S: integers of type `to`, `[steps, *X.shape]`; steps is timesteps, or 1. x/θ rounds to float32, all
else is float64. Raises ValueError when a spike does not fit the type `to`. Source: Dual ANN-to-SNN conversion
(OpenReview nzkObUsajY) Eqs 8-10, Theorem 2, under constant input; the signed form, with no offset, is ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .graded import fits
from .oat_encode import spike_type
from .spec import Attributes, Case, SpikingOp


def is_encode(
    x: np.ndarray,
    *,
    scale: float,
    offset: int,
    ceiling: int,
    signed: int,
    timesteps: int,
    steps: int,
    to: int,
) -> np.ndarray:
    dtype = fits("ISEncode", -(-ceiling // steps), to)
    z = ((np.abs(x) if signed else x) / np.float32(scale)).astype(np.float64)
    y = np.minimum(np.maximum(z + offset, 0.0), float(ceiling))
    times = np.arange(steps + 1, dtype=np.float64).reshape((-1,) + (1,) * x.ndim)
    fired = np.floor(times * y / float(steps) + 0.5)
    train = np.diff(fired, axis=0)
    return (train * np.sign(x) if signed else train).astype(dtype)


def execution(attributes: Attributes, packed: bool) -> Attributes:
    steps = 1 if packed else attributes["timesteps"]
    return attributes | {"steps": steps, "to": spike_type(-(-attributes["ceiling"] // steps))}


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """Unit spikes, those of the offset included."""
    return np.abs(code)


BODY = """
  theta = Constant <value_float: float = @scale> ()
  offset64 = Constant <value_int: int = @offset> ()
  offset = Cast <to = 11> (offset64)
  ceiling64 = Constant <value_int: int = @ceiling> ()
  ceiling = Cast <to = 11> (ceiling64)
  signed64 = Constant <value_int: int = @signed> ()
  is_signed = Cast <to = 9> (signed64)
  steps64 = Constant <value_int: int = @steps> ()
  steps_f = Cast <to = 11> (steps64)
  one64 = Constant <value_int = 1> ()
  nothing = Constant <value = double {0.0}> ()
  unit = Constant <value = double {1.0}> ()
  half = Constant <value = double {0.5}> ()
  absolute = Abs (X)
  current = Where (is_signed, absolute, X)
  z = Div (current, theta)
  z64 = Cast <to = 11> (z)
  lifted = Add (z64, offset)
  positive = Max (lifted, nothing)
  y = Min (positive, ceiling)
  sign_f = Sign (X)
  sign64 = Cast <to = 11> (sign_f)
  excites = Mul (sign64, sign64)
  positive_all = Max (excites, unit)
  sign = Where (is_signed, sign64, positive_all)
  last = Add (steps64, one64)
  times64 = Range (one64, last, one64)
  times = Cast <to = 11> (times64)
  silent = Mul (y, nothing)
  fired, train = Scan <num_scan_inputs = 1, body = step
    (double[] before, double t) => (double[] after, double[] s) {
    grown = Mul (t, y)
    share = Div (grown, steps_f)
    raised = Add (share, half)
    after = Floor (raised)
    s = Sub (after, before)
  }> (silent, times)
  spikes = Mul (train, sign)
  S = Cast <to: int = @to> (spikes)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes = (3, 5), (2, 3, 17), (33,), (), (0, 4), (300,), (5, 2)
    neurons = (6, 3, 0), (6, 9, 1), (8, 5, 0), (6, 4, 0), (6, 63, 1), (8, 1, 0), (6, 16, 0)
    for shape, (bits, timesteps, signed) in zip(shapes, neurons, strict=True):
        x = (rng.standard_normal(shape) * 3 * rng.choice([0.0, 1.0, 30.0], shape)).astype(np.float32)
        attributes = {
            "scale": 6 / 2**bits, "offset": 0 if signed else 2 ** (bits - 1),
            "ceiling": timesteps * -(-(2**bits - 1) // timesteps), "signed": signed, "timesteps": timesteps,
            "steps": 1, "to": 0,
        }  # fmt: skip
        for packed in (True, False):
            yield [x], execution(attributes, packed)
    ties = np.array([0.0, -0.0, 0.5, 1.5, -0.5, -31.5, -32.5, 30.5, 31.5, -1e30, 1e30], np.float32)
    half = {"scale": 1.0, "offset": 32, "ceiling": 63, "signed": 0, "timesteps": 21, "steps": 1, "to": 0}
    yield [ties], execution(half, packed=False)


OP = SpikingOp(
    name="ISEncode",
    inputs=("X",),
    outputs=("S",),
    attributes={
        "scale": float,
        **{name: int for name in ("offset", "ceiling", "signed", "timesteps", "steps", "to")},
    },
    numpy=is_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
