"""FewSpikesEncode: a threshold neuron whose signed spikes have step weights of their own, and few of them.

    z = |x| / θ_c,  r = the first range 0 … ranges-1 with z ≤ (top + ½)·2**r (the last saturates)
    i = #{boundaries < z / 2**r}   (where r > 0, at least the first level above top/2)
    S_t = sign(x) · 2**r · patterns[t, i],   Σ_t patterns[t, i] = levels[i]

so that code = Σ_t S_t = sign(x)·2**r·levels[i] and x ≈ θ_c·code (radix 1, sum coding). Step t has the weight
w_t of a basis (`basis`): a spike there is worth ±w_t, and patterns[t, i] ∈ {0, ±w_t} spells level i with the
fewest spikes. Weights 1, 2, 4 … give the non-adjacent form of binary numbers; weights that grow more slowly
spell more of the small levels with one spike, as in time-to-first-spike coding, and the others with two.
`levels` (int32 `[L]`, ascending from 0) are the codes that may be used, `boundaries` (float32 `[L-1]`,
ascending) where one gives way to the next: midpoints round to nearest; moved, they prefer codes of fewer
spikes. `patterns`: int32 `[digits, L]`. top is the last level; coarser ranges use only levels above half of
it, so that a code tells its range. θ: float32, a scalar or `[C]` (the last axis). X: float32, any shape,
finite; S: integers of type `to`, `[steps, *X.shape]`, steps = digits or, with all of a train in one, 1. With
`state` = 1 the train is one graded spike in both executions: a value that is written to memory once (a key, a
value of attention) and read by the other operand's spikes. Raises
ValueError when a spike does not fit the type `to`. Sources: the few-spikes neuron of Stöckl and Maass (2021),
with constant weights d_t, in LAS's outlier-aware ranges (arXiv 2505.09659); bases and roundings are ours.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import onnx

from .oat_encode import spike_type
from .spec import Attributes, Case, SpikingOp
from .train import INTEGERS_BODY

GROWTH = (2.0, 1.0, 1.3, 1.5, 1.8)
"""How the weights of each basis grow: the next is the last times so much, and at least one more."""
HIGHEST = 170
"""No level is larger: what lies beyond is left to the coarser ranges."""
UNREACHED = 99


@functools.cache
def step_weights(basis: int, digits: int) -> tuple[int, ...]:
    """w_t of a basis, largest first."""
    weights = [1]
    while len(weights) < digits:
        weights.append(max(weights[-1] + 1, round(weights[-1] * GROWTH[basis])))
    return tuple(reversed(weights))


@functools.cache
def spelling(basis: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """(fewest spikes of every code 0 … top, and those spikes `[digits, top + 1]` with their weights)."""
    weights = step_weights(basis, digits)
    total = sum(weights)
    count = np.full(2 * total + 1, UNREACHED)
    count[total] = 0
    choices = []
    for weight in weights:
        silent, plus, minus = count, np.full_like(count, UNREACHED), np.full_like(count, UNREACHED)
        plus[weight:], minus[:-weight] = count[:-weight] + 1, count[weight:] + 1
        each = np.stack([silent, plus, minus])
        choices.append(each.argmin(0))
        count = each.min(0)
    codes = np.arange(min(total, HIGHEST) + 1)
    spikes, rest = np.zeros((digits, len(codes)), np.int32), codes.copy()
    for step in range(digits - 1, -1, -1):
        sign = np.array([0, 1, -1])[choices[step][rest + total]]
        spikes[step] = sign * weights[step]
        rest = rest - spikes[step]
    return count[codes + total], spikes


def top(basis: int, digits: int) -> int:
    """The largest level of a basis."""
    return len(spelling(basis, digits)[0]) - 1


def spike_count(code: np.ndarray, basis: int, digits: int) -> np.ndarray:
    """How many spikes spell each code, whatever range it is of."""
    magnitude, largest = np.abs(code).astype(np.int64), top(basis, digits)
    gate = 2 ** np.ceil(np.log2(np.maximum(magnitude / largest, 1.0))).astype(np.int64)
    return spelling(basis, digits)[0][magnitude // gate].astype(np.uint8)


def first_coarse(levels: np.ndarray) -> int:
    """Where the levels above half of the largest begin."""
    return int(np.searchsorted(levels, levels[-1] // 2, side="right"))


def few_spikes_encode(
    x: np.ndarray,
    theta: np.ndarray,
    boundaries: np.ndarray,
    levels: np.ndarray,
    patterns: np.ndarray,
    *,
    ranges: int,
    digits: int,
    basis: int,
    state: int,
    steps: int,
    to: int,
) -> np.ndarray:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    loudest = int(levels[-1]) if steps == 1 else int(np.abs(patterns).max())
    if loudest * 2 ** (ranges - 1) > np.iinfo(dtype).max:
        raise ValueError(f"FewSpikesEncode: spikes of {loudest} times 2**{ranges - 1} do not fit {dtype}")
    z = np.abs(x) / theta
    reach, gate = np.float32(levels[-1]) + np.float32(0.5), np.ones(x.shape, np.int64)
    for weight in 2 ** np.arange(1, ranges):
        gate = np.where(z > reach * np.float32(weight // 2), weight, gate)
    index = np.searchsorted(boundaries, z / gate.astype(np.float32))
    index = np.where(gate > 1, np.maximum(index, first_coarse(levels)), index)
    train = levels[None, index] if steps == 1 else patterns[:, index]
    return (train.astype(np.int64) * (gate * np.sign(x).astype(np.int64))).astype(dtype)


def execution(attributes: Attributes, packed: bool) -> Attributes:
    basis, digits, loudest = attributes["basis"], attributes["digits"], 2 ** (attributes["ranges"] - 1)
    if packed or attributes["state"]:
        return attributes | {"steps": 1, "to": spike_type(loudest * top(basis, digits))}
    return attributes | {"steps": digits, "to": spike_type(loudest * step_weights(basis, digits)[0])}


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """One for each spike that is not zero; one for a whole value that is written to memory."""
    if attributes["state"]:
        return (code != 0).astype(np.uint8)
    return spike_count(code, attributes["basis"], attributes["digits"])


BODY = (
    INTEGERS_BODY.replace("  radix64 = Constant <value_int: int = @radix> ()\n", "")
    + """
  ranges64 = Constant <value_int: int = @ranges> ()
  two64 = Constant <value_int = 2> ()
  nought = Constant <value_int = 0> ()
  front = Constant <value_ints = [0]> ()
  half = Constant <value_float = 0.5> ()
  levels64 = Cast <to = 7> (levels)
  top64 = Gather <axis = 0> (levels64, minus64)
  top_f = Cast <to = 1> (top64)
  reach = Add (top_f, half)
  half64 = Div (top64, two64)
  upper = Greater (levels64, half64)
  lower = Not (upper)
  lower64 = Cast <to = 7> (lower)
  coarse64 = ReduceSum <keepdims = 0> (lower64)
  absolute = Abs (X)
  z = Div (absolute, theta)
  X_shape = Shape (X)
  ones = ConstantOfShape <value = int32[1] {1}> (X_shape)
  orders = Range (nought, ranges64, one64)
  range_weights = Pow (two64, orders)
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
  }> (ones, z, reach, two64, range_weights)
  gate_f = Cast <to = 1> (gate)
  z_fine = Div (z, gate_f)
  never = Less (X, X)
  none = Cast <to = 7> (never)
  passed, z_end = Scan <num_scan_inputs = 1, body = count
    (int64[] passed_in, float[] z_in, float boundary) => (int64[] passed_next, float[] z_out) {
    over = Less (boundary, z_in)
    over64 = Cast <to = 7> (over)
    passed_next = Add (passed_in, over64)
    z_out = Identity (z_in)
  }> (none, z_fine, boundaries)
  gate64 = Cast <to = 7> (gate)
  wide = Greater (gate64, one64)
  at_least = Max (passed, coarse64)
  index = Where (wide, at_least, passed)
  level_row = Unsqueeze (levels, front)
  tables = Concat <axis = 0> (level_row, patterns)
  several = Greater (steps64, one64)
  first64 = Cast <to = 7> (several)
  last64 = Add (first64, steps64)
  first = Unsqueeze (first64, front)
  last_row = Unsqueeze (last64, front)
  rows = Slice (tables, first, last_row, front)
  index_end, train = Scan <num_scan_inputs = 1, body = digit
    (int64[] at, int32[] row) => (int64[] at_next, int32[] d) {
    d = Gather <axis = 0> (row, at)
    at_next = Identity (at)
  }> (index, rows)
  train64 = Cast <to = 7> (train)
  sign_f = Sign (X)
  sign = Cast <to = 7> (sign_f)
  signed = Mul (gate64, sign)
  weighted = Mul (train64, signed)
  S = Cast <to: int = @to> (weighted)
"""
)


def nearest(levels: np.ndarray) -> np.ndarray:
    """The boundaries that round to the nearest level."""
    return ((levels[1:] + levels[:-1]) / 2).astype(np.float32)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes = (3, 5), (2, 3, 17), (33,), (), (0, 4), (300,)
    neurons = (8, 0, 1), (8, 1, 4), (4, 2, 2), (6, 3, 5), (5, 4, 1), (8, 0, 9)
    for shape, (digits, basis, ranges) in zip(shapes, neurons, strict=True):
        count, spikes = spelling(basis, digits)
        every = np.arange(len(count), dtype=np.int32)
        few = every[(count <= 2) | (every == every[-1])]
        for levels in (every, few):
            size = shape[-1:] if ranges > 1 else ()
            theta = np.asarray(rng.random(size, np.float32) + np.float32(0.01))
            x = (rng.standard_normal(shape) * 3 * rng.choice([1.0, 30.0, 3000.0], shape)).astype(np.float32)
            attributes = {
                "ranges": ranges, "digits": digits, "basis": basis, "state": 0, "steps": 1, "to": 0,
            }  # fmt: skip
            for state, packed in ((0, True), (0, False), (1, False)):
                yield (
                    [x, theta, nearest(levels), levels, np.ascontiguousarray(spikes[:, levels])],
                    execution(attributes | {"state": state}, packed),
                )


OP = SpikingOp(
    name="FewSpikesEncode",
    inputs=("X", "theta", "boundaries", "levels", "patterns"),
    outputs=("S",),
    attributes={
        "ranges": int,
        "digits": int,
        "basis": int,
        "state": int,
        "steps": int,
        "to": int,
    },
    numpy=few_spikes_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
