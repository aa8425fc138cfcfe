"""Int2Spike: the spike counts of a dynamic threshold, spent as unit spikes or as binary digits.

    θ = mean|x| / k  over `axis`, anew for every token (1 where all are zero);  with `no_clip` = 1 at least
        max|x| / limit, so that no count passes the limit
    q = sign(x) · min(⌊|x|/θ + ½⌋, limit)
    radix 1:  s_t = sign(q)·[|q| > t]                   `ternary`, and `binary` on two lines, one a sign
    radix 2:  s_t = sign(q)·bit timesteps-1-t of |q|    `bitwise`

Outputs: S, integers of type `to`, `[steps, *X.shape]`, and θ, float32, X's shape with 1 for `axis`. The
decoded value is θ·Σ_t radix**(steps-1-t)·s_t = θ·q exactly, within θ/2 of x unless |x| > θ·limit. X: float32,
finite, with an axis `axis`, which must not be empty. limit is timesteps (radix 1) or 2**timesteps - 1;
steps and most are timesteps and 1, or 1 and limit. Raises ValueError when a spike does not fit the type
`to`. Source: SpikingBrain (arXiv 2509.05276), W8ASpike and Int2Spike; the limit on the count is ours, as its
T = max|q| of each tensor is known only at run time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .graded import GRADED_BODY, PEAK_BODY, fits, graded
from .oat_encode import spike_type
from .spec import Attributes, Case, SpikingOp
from .train import INTEGERS_BODY, ones


def int2spike(
    x: np.ndarray,
    *,
    k: float,
    axis: int,
    limit: int,
    no_clip: int,
    timesteps: int,
    radix: int,
    steps: int,
    most: int,
    to: int,
) -> tuple[np.ndarray, np.ndarray]:
    dtype = fits("Int2Spike", most, to)
    if x.ndim < -axis:
        raise ValueError(f"Int2Spike: X of shape {x.shape} has no axis {axis}")
    size = np.abs(x)
    total = np.cumsum(size, axis, np.float64).take([-1], axis)  # one by one: every execution rounds the same
    theta = (total / x.shape[axis] / np.float64(np.float32(k))).astype(np.float32)
    if no_clip:
        theta = np.maximum(theta, size.max(axis, keepdims=True) / np.float32(limit))
    theta = np.where(theta > 0, theta, np.float32(1))
    code = np.minimum(np.floor(size / theta + np.float32(0.5)), np.float32(limit)).astype(np.int64)
    return graded(code * np.sign(x).astype(np.int64), steps, radix, most).astype(dtype), theta


def execution(attributes: Attributes, packed: bool) -> Attributes:
    most = attributes["limit"] if packed else 1
    return attributes | {
        "steps": 1 if packed else attributes["timesteps"],
        "most": most,
        "to": spike_type(most),
    }


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """|q| unit spikes, or one for each binary digit that is one."""
    return np.abs(code) if attributes["radix"] == 1 else ones(code)


BODY = (
    INTEGERS_BODY
    + """
  share = Abs (X)
"""
    + PEAK_BODY
    + """
  size64 = Cast <to = 11> (share)
  running = CumSum (size64, peak_axis64)
  from_last = Constant <value_ints = [-1]> ()
  to_end = Constant <value_ints = [9223372036854775807]> ()
  total = Slice (running, from_last, to_end, peak_axis)
  X_shape = Shape (X)
  count64 = Gather <axis = 0> (X_shape, peak_axis64)
  count = Cast <to = 11> (count64)
  mean = Div (total, count)
  k_f = Constant <value_float: float = @k> ()
  k64 = Cast <to = 11> (k_f)
  asked64 = Div (mean, k64)
  asked = Cast <to = 1> (asked64)
  limit64 = Constant <value_int: int = @limit> ()
  limit_f = Cast <to = 1> (limit64)
  no_clip64 = Constant <value_int: int = @no_clip> ()
  no_clip_f = Cast <to = 1> (no_clip64)
  needed = Div (peak, limit_f)
  needed_if = Mul (needed, no_clip_f)
  raised = Max (asked, needed_if)
  nothing = Constant <value_float = 0.0> ()
  one_f = Constant <value_float = 1.0> ()
  half = Constant <value_float = 0.5> ()
  heard = Greater (raised, nothing)
  theta = Where (heard, raised, one_f)
  z = Div (share, theta)
  z_half = Add (z, half)
  rounded = Floor (z_half)
  held = Min (rounded, limit_f)
  magnitude = Cast <to = 6> (held)
  sign_f = Sign (X)
  gate = Cast <to = 6> (sign_f)
"""
    + GRADED_BODY
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, axis, radix, timesteps in (
        ((3, 5), -1, 2, 4),
        ((2, 3, 300), -1, 2, 8),
        ((2, 3, 17), -2, 1, 6),
        ((7,), -1, 1, 12),
        ((0, 4), -1, 2, 5),
        ((2, 3, 0), -2, 1, 3),
        ((1, 33), -1, 2, 12),
    ):
        x = (rng.standard_normal(shape) * rng.choice([0.0, 1.0, 100.0], shape)).astype(np.float32)
        for no_clip in (0, 1):
            attributes = {
                "k": 3.0, "axis": axis, "limit": timesteps if radix == 1 else 2**timesteps - 1,
                "no_clip": no_clip, "timesteps": timesteps, "radix": radix, "steps": 1, "most": 1, "to": 0,
            }  # fmt: skip
            for packed in (True, False):
                yield [x], execution(attributes, packed)
    yield [np.zeros((2, 3), np.float32)], execution(attributes, packed=False)


OP = SpikingOp(
    name="Int2Spike",
    inputs=("X",),
    outputs=("S", "theta"),
    attributes={
        "k": float,
        **{name: int for name in ("axis", "limit", "no_clip", "timesteps", "radix", "steps", "most", "to")},
    },
    numpy=int2spike,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
