"""BurstEncode: integrate-and-fire neurons under a steady current, one spike a step or a burst of them.

The value x drives one of a pair of neurons (the second for negative values) with I = |x|/T at each of T
steps:

    v_0 = half · θ_c/2
    u = v_{t-1} + I;   n_t = min(burst, ⌊u / θ_c⌋);   v_t = u - n_t · θ_c;   S_t = sign(x) · n_t

so that Σ_t n_t = min(T·burst, ⌊|x|/θ_c + half/2⌋): what is left in the membrane is below one threshold,
and a drive that is spread evenly fires evenly. The steps therefore collapse, and x ≈ θ_c · Σ_t S_t (radix
1) with an error below θ_c/2 (half = 1, round half away from zero) or θ_c (half = 0, truncation toward
zero) unless the neuron saturates. The recurrence runs in integers, exactly: |x|/θ_c, rounded to float32
and at most T·burst, is cut to 12 fractional bits, which moves no code (ties are numbers of one such bit),
and the membrane is counted in θ_c/(2**12·steps). Packed, the same recurrence
has one step.

X: float32, any shape, finite; theta: float32 > 0, a scalar, `[1]` or `[C]` (the last axis); S: integers
of type `to`, `[steps, *X.shape]`; steps is `timesteps` or 1; timesteps·burst at most 2**15. Raises
ValueError when a spike does not fit the type `to`. Sources: burst = 1, half = 1 is SpikingJelly's pair of
integrate-and-fire neurons (its Qwen2 recipe; methods §1.9), which fires where h + θ/2 ≥ θ; large bursts
are STA's neuron (ICLR 2024), u = r + I, n = trunc(u/V), r = u - nV.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from .oat_encode import spike_type
from .spec import Attributes, Case, SpikingOp
from .train import RATE_BODY, rate

FRACTION = 12
"""Binary places of the drive."""


def burst_encode(
    x: np.ndarray, theta: np.ndarray, *, timesteps: int, burst: int, half: int, steps: int, to: int
) -> np.ndarray:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    if timesteps * burst // steps > np.iinfo(dtype).max:
        raise ValueError(f"BurstEncode: {timesteps} steps of {burst} spikes in {steps} do not fit {dtype}")
    z = np.minimum(np.abs(x) / theta, np.float32(timesteps * burst))
    drive = np.floor(z * np.float32(2**FRACTION)).astype(np.int64)
    start = half * steps * 2 ** (FRACTION - 1)
    return (rate(drive, start, steps * 2**FRACTION, steps) * np.sign(x).astype(np.int64)).astype(dtype)


def execution(attributes: Attributes, packed: bool) -> Attributes:
    steps = 1 if packed else attributes["timesteps"]
    return attributes | {
        "steps": steps,
        "to": spike_type(attributes["timesteps"] * attributes["burst"] // steps),
    }


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """Unit spikes: a burst of n counts as n events."""
    return np.abs(code)


BODY = (
    f"""
  one64 = Constant <value_int = 1> ()
  nought64 = Constant <value_int = 0> ()
  steps64 = Constant <value_int: int = @steps> ()
  timesteps64 = Constant <value_int: int = @timesteps> ()
  burst64 = Constant <value_int: int = @burst> ()
  half64 = Constant <value_int: int = @half> ()
  places = Constant <value_float = {float(2**FRACTION)}> ()
  unit64 = Constant <value_int = {2**FRACTION}> ()
  half_unit64 = Constant <value_int = {2 ** (FRACTION - 1)}> ()
  most64 = Mul (timesteps64, burst64)
  most = Cast <to = 1> (most64)
  absolute = Abs (X)
  z = Div (absolute, theta)
  z_most = Min (z, most)
  z_places = Mul (z_most, places)
  drive_f = Floor (z_places)
  drive = Cast <to = 6> (drive_f)
  threshold64 = Mul (steps64, unit64)
  threshold = Cast <to = 6> (threshold64)
  halves = Mul (half64, half_unit64)
  start64 = Mul (halves, steps64)
  start = Cast <to = 6> (start64)
"""
    + RATE_BODY
    + """
  sign_f = Sign (X)
  sign = Cast <to = 6> (sign_f)
  signed = Mul (train, sign)
  S = Cast <to: int = @to> (signed)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes = (3, 5), (2, 3, 17), (300,), (), (0, 4), (4, 7)
    neurons = (8, 1, 1), (160, 1, 1), (8, 127, 0), (3, 2, 0), (5, 127, 1), (1, 9, 1)
    for shape, (timesteps, burst, half) in zip(shapes, neurons, strict=True):
        x = (rng.standard_normal(shape) * rng.choice([0.0, 1.0, 30.0, 3e6], shape)).astype(np.float32)
        for theta in (
            np.asarray(rng.random(shape[-1:]), np.float32) + np.float32(0.01),
            np.full(1 if shape else (), 0.7, np.float32),
        ):
            attributes = {"timesteps": timesteps, "burst": burst, "half": half, "steps": 1, "to": 0}
            yield [x, theta], execution(attributes, True)
            yield [x, theta], execution(attributes, False)
    ties = np.array(
        [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 3.0, 7.5, 8.0, 8.5, np.nextafter(0.5, 0), -1e30], np.float32
    )
    for half in (0, 1):
        attributes = {"timesteps": 8, "burst": 1, "half": half, "steps": 1, "to": 0}
        yield [ties, np.ones(1, np.float32)], execution(attributes, False)


OP = SpikingOp(
    name="BurstEncode",
    inputs=("X", "theta"),
    outputs=("S",),
    attributes={"timesteps": int, "burst": int, "half": int, "steps": int, "to": int},
    numpy=burst_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
