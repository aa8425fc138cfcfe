"""GIFEncode: the generalised integrate-and-fire neuron; salient channels may fire for more steps.

    θ = max_c |x_c| / (levels_c · ratio_c)          over `axis`, anew for every token; 1 where all are zero
    q = sign(x) · min(⌊|x| / (θ·ratio_c) + ½⌋, levels_c)
    v ← |q|;  for t = 0 … steps-1:  s_t = sign(x) · min(v, most),  v ← v - |s_t|

A step merges `most` integrate-and-fire steps into one graded spike of so many unit spikes. levels and ratio
(float32, `[1]`, or `[C]` along the last axis when `axis` is -1) give each channel its largest code and its
step in units of θ; a channel with 2**addbit times more levels than `chunk` fires for 2**addbit + 1 steps, so
that its topmost codes are not lost (the released code loses them: `limit` = steps·chunk must reach levels).
Outputs: S, integers of type `to`, `[steps, *X.shape]`, and θ, float32, X's shape with 1 for `axis`; the
decoded value is θ·ratio_c·Σ_t s_t, within θ·ratio_c/2 of x. X: float32, finite, with an axis `axis`.
steps and most are timesteps and chunk, or 1 and limit. Raises ValueError when a spike does not fit the
type `to`. Source: SpikeLLM (arXiv 2407.04752) GIF neuron, OBSpiking; ranges of each group of channels and a
symmetric code are ours.
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
    levels: np.ndarray,
    ratio: np.ndarray,
    *,
    axis: int,
    timesteps: int,
    chunk: int,
    limit: int,
    steps: int,
    most: int,
    to: int,
) -> tuple[np.ndarray, np.ndarray]:
    dtype = fits("GIFEncode", most, to)
    if x.ndim < -axis:
        raise ValueError(f"GIFEncode: X of shape {x.shape} has no axis {axis}")
    share = np.abs(x) / (levels * ratio)
    theta = share.max(axis, keepdims=True)
    theta = np.where(theta > 0, theta, np.float32(1))
    z = np.abs(x) / (theta * ratio)
    code = np.minimum(np.floor(z + np.float32(0.5)), levels).astype(np.int64)
    return graded(code * np.sign(x).astype(np.int64), steps, 1, most).astype(dtype), theta


def execution(attributes: Attributes, packed: bool) -> Attributes:
    limit, chunk, timesteps = (attributes[name] for name in ("limit", "chunk", "timesteps"))
    if packed:
        return attributes | {"steps": 1, "most": limit, "to": spike_type(limit)}
    return attributes | {"steps": timesteps, "most": chunk, "to": spike_type(chunk)}


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """Unit spikes: a graded spike counts as many as it merges."""
    return np.abs(code)


BODY = (
    INTEGERS_BODY.replace("radix64 = Constant <value_int: int = @radix> ()", "radix64 = Identity (one64)")
    + """
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
"""
    + GRADED_BODY
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, axis, channels, chunk, timesteps in (
        ((3, 5), -1, 5, 7, 3),
        ((2, 3, 300), -1, 300, 7, 3),
        ((2, 3, 17), -2, 1, 85, 3),
        ((7,), -1, 1, 15, 5),
        ((0, 4), -1, 4, 7, 3),
        ((2, 0, 3, 2), -2, 1, 7, 1),
        ((1, 33), -1, 33, 31, 5),
    ):
        x = (rng.standard_normal(shape) * rng.choice([0.0, 1.0, 30.0], shape)).astype(np.float32)
        few, many = np.float32(chunk), np.float32(chunk * timesteps - timesteps // 2)
        salient = rng.random(channels) < 0.3 if channels > 1 else np.ones(1, bool)
        levels = np.where(salient, many, few)
        ratio = np.where(salient, np.float32(1.7), np.float32(1)) if channels > 1 else np.ones(1, np.float32)
        attributes = {
            "axis": axis, "timesteps": timesteps, "chunk": chunk, "limit": int(many), "steps": 1, "most": 1,
            "to": 0,
        }  # fmt: skip
        for packed in (True, False):
            yield [x, levels, ratio], execution(attributes, packed)
    still = np.zeros((2, 3), np.float32)
    yield [still, levels[:1], ratio[:1]], execution(attributes, packed=False)


OP = SpikingOp(
    name="GIFEncode",
    inputs=("X", "levels", "ratio"),
    outputs=("S", "theta"),
    attributes={name: int for name in ("axis", "timesteps", "chunk", "limit", "steps", "most", "to")},
    numpy=gif_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
