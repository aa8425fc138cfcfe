"""MultiThresholdStep: the two-sided multi-threshold neuron, one timestep, in mean and in differential coding.

The published neurons have 2N thresholds ±λᵢ, λᵢ = λ·2ⁱ (i < N), and fire at most one signed spike a step,
that of the largest threshold that the membrane reaches:

    ECMT (mean)           m ← m + x_t;                         fires ±λᵢ where ±m ≥ λᵢ - slack·λ    (slack ½)
    DCGS (differential)   m ← m + (x_t - bias) + e_in - e_out; fires ±λᵢ where ±m ≥ gain·λᵢ         (gain ¾)
                          e_in ← e_in + (x_t - bias)/t;        e_out ← e_out + s/t

with m ← m - s after it.
In mean coding the running input is X_t = (1/t)·Σ x, the running output Y_t = (1/t)·Σ s; in differential
coding X_t = e_in and Y_t = e_out, which begin with what the probe step brought (the bias, once). In both the
membrane is

    m = t·X_t - (t-1)·Y_{t-1}  (mean)        m = t·(X_t - Y_{t-1})  (differential)

at all times: by induction, as m - s = t·(X_t - Y_t). So a step needs the running code alone. With u (`unit`)
the value that thresholds are counted in, and n = λ/u a whole number (`positive` or `negative`, by m's sign),

    m/u = t·X_t/u - carry[t]·code        carry[t]: 1 (mean), t/lcm(1 … T) (differential)
    S = ±n·2ⁱ for the largest i < N with |m|/u ≥ gain·n·2ⁱ - slack·n, with the sign of m; else 0

X: float32; code: int32 `[1, *X.shape]` or a scalar (zero, before the first step); t: int64, from 1; unit:
float32, scalar or one a channel of the last axis; positive, negative (n_p, n_n): float32 whole numbers like
unit; carry: float64 `[T]`; gain, slack: float32 scalars; ladder: float32 `[N]`, 1, 2, 4 … ascending; S: int32
`[1, *X.shape]`. Sources: ECMT (arXiv 2502.21193), DCGS (arXiv 2503.00301); methods §1.7, §1.8. Both sides'
thresholds as whole multiples of one unit are ours: codes stay integers.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Attributes, Case, SpikingOp


def multi_threshold_step(
    x: np.ndarray,
    code: np.ndarray,
    t: np.ndarray,
    unit: np.ndarray,
    positive: np.ndarray,
    negative: np.ndarray,
    carry: np.ndarray,
    gain: np.ndarray,
    slack: np.ndarray,
    ladder: np.ndarray,
) -> np.ndarray:
    wide = [np.asarray(part).astype(np.float64) for part in (x, unit, positive, negative, gain, slack)]
    value, unit64, up, down, share, less = wide
    membrane = (value / unit64 * np.float64(t))[None] - code * carry[t - 1]
    size = np.where(membrane >= 0, up, down)
    reach = (np.abs(membrane) / size + less) / share
    fired = np.zeros(membrane.shape)
    for level in ladder.astype(np.float64):
        fired = np.where(reach >= level, level, fired)
    return (fired * size * np.sign(membrane)).astype(np.int32)


def events(spikes: np.ndarray, attributes: Attributes) -> np.ndarray:
    """One a step: its weight is a power of two, the line that it takes."""
    return (spikes != 0).astype(np.int32)


BODY = """
  first = Constant <value_ints = [0]> ()
  nothing = Constant <value = double {0.0}> ()
  one = Constant <value_int = 1> ()
  X64 = Cast <to = 11> (X)
  unit64 = Cast <to = 11> (unit)
  up = Cast <to = 11> (positive)
  down = Cast <to = 11> (negative)
  share = Cast <to = 11> (gain)
  less = Cast <to = 11> (slack)
  levels = Cast <to = 11> (ladder)
  t64 = Cast <to = 11> (t)
  code64 = Cast <to = 11> (code)
  row = Sub (t, one)
  weight = Gather (carry, row)
  current = Div (X64, unit64)
  arrived = Mul (current, t64)
  held = Unsqueeze (arrived, first)
  emitted = Mul (code64, weight)
  m = Sub (held, emitted)
  below = Less (m, nothing)
  size = Where (below, down, up)
  absolute = Abs (m)
  relative = Div (absolute, size)
  raised = Add (relative, less)
  reach = Div (raised, share)
  silent = Mul (reach, nothing)
  reached, fired = Scan <num_scan_inputs = 1, body = climb
    (double[] r, double[] before, double level) => (double[] r_next, double[] after) {
    short = Less (r, level)
    r_next = Identity (r)
    after = Where (short, before, level)
  }> (reach, silent, levels)
  sign = Sign (m)
  sized = Mul (fired, size)
  signed = Mul (sized, sign)
  S = Cast <to = 6> (signed)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, t, gain, slack in (
        ((3, 5), 1, 1.0, 0.5),
        ((2, 3, 4), 3, 1.0, 0.5),
        ((7,), 4, 0.75, 0.0),
        ((), 2, 0.75, 0.0),
        ((0, 2), 1, 1.0, 0.5),
    ):
        x = (rng.standard_normal(shape) * 2).astype(np.float32)
        size = shape[-1:] if len(shape) > 1 else ()
        unit = rng.random(size, np.float32) + np.float32(0.02)
        up, down = (rng.integers(1, 17, size).astype(np.float32) for _ in range(2))
        carry = np.ones(4) if slack else np.arange(1, 5) / 12
        before = np.zeros((), np.int32) if t == 1 else rng.integers(-30, 30, (1, *shape)).astype(np.int32)
        ladder = np.float32(2) ** np.arange(8, dtype=np.float32)
        rule = [np.array(part, np.float32) for part in (gain, slack)]
        rest = [np.asarray(part) for part in (unit, up, down)]
        yield [x, before, np.asarray(t, np.int64), *rest, carry, *rule, ladder], {}


OP = SpikingOp(
    name="MultiThresholdStep",
    inputs=("X", "code", "t", "unit", "positive", "negative", "carry", "gain", "slack", "ladder"),
    outputs=("S",),
    attributes={},
    numpy=multi_threshold_step,
    body=BODY,
    cases=cases,
    doc=__doc__,
    events=events,
    kernel=False,
)
