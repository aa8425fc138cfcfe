"""SignedDigitEncode: a threshold neuron whose spikes are signed binary digits, as few as the rounding allows.

    z = |x| / θ_c,  r = the first range 0 … ranges-1 with z ≤ reach·ratio**r (the last saturates)
    m = levels[#{boundaries < z / ratio**r}]
    s_t = sign(x) · ratio**r · d_t(m),   d_t(m) ∈ {-1, 0, 1}: the non-adjacent form, no two neighbours fire

so that code = Σ_t 2**(steps-1-t)·s_t = sign(x)·ratio**r·m and x ≈ θ_c·code. The non-adjacent form has the
fewest non-zero digits of all signed binary forms, one third of the positions on average. `levels` (int32
`[L]`, ascending from 0, at most 2**(digits+1)/3) are the codes that may be used and `boundaries` (float32
`[L-1]`, ascending) where one gives way to the next: the midpoints round to nearest; moved, they prefer codes
of fewer spikes. `reach` is the largest z of the finest range. θ: float32, a scalar or `[C]` (the last axis).
X: float32, any shape, finite; S: integers of type `to`, `[steps, *X.shape]`; steps and radix are digits and
2, or 1 and 2**digits. With `state` = 1 the train is one graded spike in both executions: a value that is
written to memory once (a key, a value of attention) and read by the other operand's spikes. Raises ValueError
when a spike does not fit the type `to`. Sources: signed digits after Reitwiesner's non-adjacent form; the
neuron is LAS's outlier-aware threshold (arXiv 2505.09659) with spike-count-aware rounding, which is ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from .oat_encode import spike_type
from .spec import Attributes, Case, SpikingOp
from .train import INTEGERS_BODY


def naf_weight(code: np.ndarray) -> np.ndarray:
    """How many digits of the non-adjacent form of |code| are not zero."""
    magnitude = np.abs(code).astype(np.int64)
    return np.bitwise_count(magnitude ^ (3 * magnitude))


def naf_digits(magnitude: np.ndarray, digits: int) -> np.ndarray:
    """The non-adjacent form `[digits, ...]` of integers 0 … 2**(digits+1)/3, most significant first."""
    places = 2 ** np.arange(digits, 0, -1, dtype=np.int64).reshape((-1,) + (1,) * magnitude.ndim)
    wide = magnitude[None].astype(np.int64)
    return (3 * wide // places) % 2 - (wide // places) % 2


def signed_digit_encode(
    x: np.ndarray,
    theta: np.ndarray,
    boundaries: np.ndarray,
    levels: np.ndarray,
    *,
    reach: float,
    ratio: int,
    ranges: int,
    digits: int,
    state: int,
    steps: int,
    radix: int,
    to: int,
) -> np.ndarray:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    top = int(levels[-1]) if steps == 1 else 1
    if top * ratio ** (ranges - 1) > np.iinfo(dtype).max:
        raise ValueError(f"SignedDigitEncode: spikes of {top} times {ratio}**{ranges - 1} do not fit {dtype}")
    z = np.abs(x) / theta
    gate = np.ones(x.shape, np.int64)
    for weight in ratio ** np.arange(1, ranges):
        gate = np.where(z > np.float32(reach) * np.float32(weight // ratio), weight, gate)
    magnitude = levels[np.searchsorted(boundaries, z / gate.astype(np.float32))].astype(np.int64)
    signed = gate * np.sign(x).astype(np.int64)
    return ((magnitude[None] if steps == 1 else naf_digits(magnitude, steps)) * signed).astype(dtype)


def execution(attributes: Attributes, packed: bool) -> Attributes:
    digits, loudest = attributes["digits"], attributes["ratio"] ** (attributes["ranges"] - 1)
    if packed or attributes["state"]:
        to = spike_type(loudest * (2 ** (digits + 1) // 3))
        return attributes | {"steps": 1, "radix": 2**digits, "to": to}
    return attributes | {"steps": digits, "radix": 2, "to": spike_type(loudest)}


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """One for each digit that is not zero; one for a whole value that is written to memory."""
    return (code != 0).astype(np.uint8) if attributes["state"] else naf_weight(code)


BODY = (
    INTEGERS_BODY
    + """
  reach = Constant <value_float: float = @reach> ()
  ratio64 = Constant <value_int: int = @ratio> ()
  ranges64 = Constant <value_int: int = @ranges> ()
  state64 = Constant <value_int: int = @state> ()
  digits64 = Constant <value_int: int = @digits> ()
  two64 = Constant <value_int = 2> ()
  nought = Constant <value_int = 0> ()
  front = Constant <value_ints = [0]> ()
  absolute = Abs (X)
  z = Div (absolute, theta)
  X_shape = Shape (X)
  ones = ConstantOfShape <value = int32[1] {1}> (X_shape)
  orders = Range (nought, ranges64, one64)
  range_weights = Pow (ratio64, orders)
  gate, z_gate, reach_gate, ratio_gate = Scan <num_scan_inputs = 1, body = widen
    (int32[] g, float[] z_in, float limit, int64 by, int64 weight)
    => (int32[] g_next, float[] z_out, float limit_out, int64 by_out) {
    below64 = Div (weight, by)
    below = Cast <to = 1> (below64)
    top = Mul (limit, below)
    beyond = Greater (z_in, top)
    weight32 = Cast <to = 6> (weight)
    g_next = Where (beyond, weight32, g)
    z_out = Identity (z_in)
    limit_out = Identity (limit)
    by_out = Identity (by)
  }> (ones, z, reach, ratio64, range_weights)
  gate_f = Cast <to = 1> (gate)
  z_fine = Div (z, gate_f)
  never = Less (X, X)
  none = Cast <to = 7> (never)
  index, z_end = Scan <num_scan_inputs = 1, body = count
    (int64[] passed, float[] z_in, float boundary) => (int64[] passed_next, float[] z_out) {
    over = Less (boundary, z_in)
    over64 = Cast <to = 7> (over)
    passed_next = Add (passed, over64)
    z_out = Identity (z_in)
  }> (none, z_fine, boundaries)
  levels64 = Cast <to = 7> (levels)
  magnitude = Gather <axis = 0> (levels64, index)
  last_step = Sub (steps64, one64)
  exponents = Range (last_step, minus64, minus64)
  lifted = Add (exponents, one64)
  places = Pow (two64, lifted)
  three64 = Add (two64, one64)
  tripled = Mul (magnitude, three64)
  train = Scan <num_scan_inputs = 1, body = digit (int64 place) => (int64[] d) {
    upper = Div (tripled, place)
    lower = Div (magnitude, place)
    upper_bit = Mod (upper, two64)
    lower_bit = Mod (lower, two64)
    d = Sub (upper_bit, lower_bit)
  }> (places)
  whole = Unsqueeze (magnitude, front)
  once = Equal (steps64, one64)
  chosen = Where (once, whole, train)
  sign_f = Sign (X)
  sign = Cast <to = 7> (sign_f)
  gate64 = Cast <to = 7> (gate)
  signed = Mul (gate64, sign)
  weighted = Mul (chosen, signed)
  S = Cast <to: int = @to> (weighted)
"""
)


def nearest(levels: np.ndarray) -> np.ndarray:
    """The boundaries that round to the nearest level."""
    return ((levels[1:] + levels[:-1]) / 2).astype(np.float32)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes = (3, 5), (2, 3, 17), (33,), (), (0, 4), (300,)
    neurons = (8, 1, 1), (8, 32, 2), (4, 4, 2), (6, 16, 3), (5, 2, 1), (8, 16, 3)
    for shape, (digits, ratio, ranges) in zip(shapes, neurons, strict=True):
        every = np.arange(2 ** (digits + 1) // 3 + 1, dtype=np.int32)
        few = every[naf_weight(every) <= 2]
        for levels in (every, few):
            theta = np.asarray(rng.random(shape[-1:] if ranges > 1 else (), np.float32) + np.float32(0.01))
            x = (rng.standard_normal(shape) * 3 * rng.choice([1.0, 30.0, 3000.0], shape)).astype(np.float32)
            attributes = {
                "reach": float(levels[-1]) + 0.5, "ratio": ratio, "ranges": ranges, "digits": digits,
                "state": 0, "steps": 1, "radix": 2, "to": 0,
            }  # fmt: skip
            for state, packed in ((0, True), (0, False), (1, False)):
                yield (
                    [x, theta, nearest(levels), levels],
                    execution(attributes | {"state": state}, packed),
                )


OP = SpikingOp(
    name="SignedDigitEncode",
    inputs=("X", "theta", "boundaries", "levels"),
    outputs=("S",),
    attributes={
        "reach": float,
        "ratio": int,
        "ranges": int,
        "digits": int,
        "state": int,
        "steps": int,
        "radix": int,
        "to": int,
    },
    numpy=signed_digit_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
