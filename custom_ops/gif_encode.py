"""GIFEncode: the generalised integrate-and-fire neuron; salient channels may fire for more steps.

    θ = max_c |x_c| / (levels_c · ratio_c)          over `axis`, anew for every token; 1 where all are zero
    q = sign(x) · min(⌊|x| / (θ·ratio_c) + ½⌋, levels_c)
    v ← |q|;  for t = 0 … steps-1:  n_t = min(v, most),  v ← v - n_t,  s_t = sign(x) · ratio_c · n_t

A step merges `most` integrate-and-fire steps into one graded spike of so many unit spikes. levels and ratio
(positive, one of each, or one a channel of the last axis when `axis` is -1) are each channel's largest code
and its step in units of θ, a power of two; a channel with 2**addbit times more levels than `chunk` fires for
2**addbit + 1 steps, so that its topmost codes are not lost, as in the released code they are. Outputs: S,
integers of type `to`, `[steps, *X.shape]`, and θ, float32, X's shape with 1 for `axis`; the decoded value is
θ·Σ_t s_t, within θ·ratio_c/2 of x. X: float32, finite, with an axis `axis`. steps and most are timesteps and
chunk, or 1 and the largest of levels. Raises ValueError when a spike does not fit the type `to`. Source:
SpikeLLM (arXiv 2407.04752) GIF neuron, OBSpiking; a symmetric code, whose zero costs nothing, and ranges of
each group of channels are ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .graded import GRADED_BODY, PEAK_BODY, fits, graded
from .oat_encode import spike_type
from .spec import Attributes, Case, SpikingOp
from .train import INTEGERS_BODY


def gif_encode(
    x: np.ndarray,
    *,
    axis: int,
    levels: list[int],
    ratio: list[int],
    timesteps: int,
    chunk: int,
    steps: int,
    most: int,
    to: int,
) -> tuple[np.ndarray, np.ndarray]:
    weight = np.array(ratio, np.int64)
    dtype = fits("GIFEncode", int((np.minimum(levels, most) * weight).max()), to)
    if x.ndim < -axis:
        raise ValueError(f"GIFEncode: X of shape {x.shape} has no axis {axis}")
    highest, unit = np.array(levels, np.float32), np.array(ratio, np.float32)
    share = np.abs(x) / (highest * unit)
    theta = share.max(axis, keepdims=True)
    theta = np.where(theta > 0, theta, np.float32(1))
    code = np.minimum(np.floor(np.abs(x) / (theta * unit) + np.float32(0.5)), highest).astype(np.int64)
    return (graded(code * np.sign(x).astype(np.int64), steps, 1, most) * weight).astype(dtype), theta


def execution(attributes: Attributes, packed: bool) -> Attributes:
    levels, ratio = attributes["levels"], attributes["ratio"]
    most = max(levels) if packed else attributes["chunk"]
    to = spike_type(max(min(level, most) * weight for level, weight in zip(levels, ratio)))
    return attributes | {"steps": 1 if packed else attributes["timesteps"], "most": most, "to": to}


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """Unit spikes: a graded spike counts as many as it merges; what one weighs adds none."""
    return np.abs(code) // np.array(attributes["ratio"])


BODY = (
    INTEGERS_BODY.replace("radix64 = Constant <value_int: int = @radix> ()", "radix64 = Identity (one64)")
    + """
  levels64 = Constant <value_ints: ints = @levels> ()
  levels = Cast <to = 1> (levels64)
  ratio64 = Constant <value_ints: ints = @ratio> ()
  ratio = Cast <to = 1> (ratio64)
  ratio32 = Cast <to = 6> (ratio64)
  absolute = Abs (X)
  reach = Mul (levels, ratio)
  share = Div (absolute, reach)
"""
    + PEAK_BODY
    + """
  nothing = Constant <value_float = 0.0> ()
  one_f = Constant <value_float = 1.0> ()
  half = Constant <value_float = 0.5> ()
  heard = Greater (peak, nothing)
  theta = Where (heard, peak, one_f)
  step = Mul (theta, ratio)
  z = Div (absolute, step)
  z_half = Add (z, half)
  rounded = Floor (z_half)
  held = Min (rounded, levels)
  magnitude = Cast <to = 6> (held)
  sign_f = Sign (X)
  sign = Cast <to = 6> (sign_f)
  gate = Mul (sign, ratio32)
"""
    + GRADED_BODY
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, axis, channels, chunk, timesteps, heavy in (
        ((3, 5), -1, 5, 7, 3, 4),
        ((2, 3, 300), -1, 300, 7, 3, 256),
        ((2, 3, 17), -2, 1, 85, 3, 1),
        ((7,), -1, 1, 15, 5, 2),
        ((0, 4), -1, 4, 7, 3, 1),
        ((2, 0, 3, 2), -2, 1, 7, 1, 1),
        ((1, 33), -1, 33, 31, 5, 8),
    ):
        x = (rng.standard_normal(shape) * rng.choice([0.0, 1.0, 30.0], shape)).astype(np.float32)
        salient = rng.random(channels) < 0.3
        attributes = {
            "axis": axis, "levels": np.where(salient, chunk * timesteps - timesteps // 2, chunk).tolist(),
            "ratio": np.where(salient, heavy, 1).tolist(), "timesteps": timesteps, "chunk": chunk, "steps": 1,
            "most": 1, "to": 0,
        }  # fmt: skip
        for packed in (True, False):
            yield [x], execution(attributes, packed)
    one = attributes | {"levels": [7], "ratio": [1], "chunk": 7}
    yield [np.zeros((2, 3), np.float32)], execution(one, packed=False)


OP = SpikingOp(
    name="GIFEncode",
    inputs=("X",),
    outputs=("S", "theta"),
    attributes={
        "axis": int,
        "levels": list[int],
        "ratio": list[int],
        "timesteps": int,
        "chunk": int,
        "steps": int,
        "most": int,
        "to": int,
    },
    numpy=gif_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
