"""SpikeMatMul: telescoping product of two spike trains (QKᵀ, attention·V).

With a_t, b_t the weighted spikes (digit · radix**(steps-1-t)) and A, B their running sums,

    O ← O + A·b_t + a_t·(B + b_t);   A ← A + a_t;   B ← B + b_t          so that   O = (Σ a)(Σ b)
    Y = scale · O

A: integers `[steps, ..., M, K]`; B: integers `[steps, ..., K, N]`; Y: float32 `[..., M, N]`. An operand with
fewer steps than the other (one, for a static operand such as a cached key) arrives whole in its first steps.
Event times accumulated state: each spike adds or subtracts a row of the other operand's running sum (methods
§6.3 rule 3). All sums are integers, exact in float64 while |O| < 2**53; the compiler keeps a product
on host whose codes could pass that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Case, SpikingOp


def weighted(train: np.ndarray, steps: int, radix: int) -> np.ndarray:
    """Spikes times their weight, in float64, silent after their own last step."""
    own = train.shape[0]
    weights = np.float64(radix) ** np.arange(own - 1, -1, -1)
    spikes = train * weights.reshape((own,) + (1,) * (train.ndim - 1))
    return np.concatenate([spikes, np.zeros((steps - own, *train.shape[1:]))])


def matmul(a: np.ndarray, b: np.ndarray, *, scale: float, radix: int) -> np.ndarray:
    steps = max(len(a), len(b))
    sum_a, sum_b = np.zeros(a.shape[1:]), np.zeros(b.shape[1:])
    out = np.zeros(np.broadcast_shapes(a.shape[1:-2], b.shape[1:-2]) + (a.shape[-2], b.shape[-1]))
    for spikes_a, spikes_b in zip(weighted(a, steps, radix), weighted(b, steps, radix), strict=True):
        out += sum_a @ spikes_b + spikes_a @ (sum_b + spikes_b)
        sum_a += spikes_a
        sum_b += spikes_b
    return (out * np.float64(np.float32(scale))).astype(np.float32)


def _operand(x: str) -> str:
    """ONNX text: `<x>_spikes`, weighted and padded to the common number of steps, and `<x>_zero`."""
    return f"""
  {x}_last = Sub ({x}_steps0, one)
  {x}_exponents = Range ({x}_last, minus, minus)
  {x}_exponents64 = Cast <to = 11> ({x}_exponents)
  {x}_weights = Pow (radix_f, {x}_exponents64)
  {x}_64 = Cast <to = 11> ({x})
  {x}_spikes_own = Scan <num_scan_inputs = 2, body = weigh (double w, double[] s) => (double[] ws) {{
    ws = Mul (w, s)
  }}> ({x}_weights, {x}_64)
  {x}_missing = Sub (steps, {x}_steps)
  {x}_step_shape = Slice ({x}_shape, one1, end)
  {x}_zero = ConstantOfShape <value = double[1] {{0.0}}> ({x}_step_shape)
  {x}_pad_shape = Concat <axis = 0> ({x}_missing, {x}_step_shape)
  {x}_pad = ConstantOfShape <value = double[1] {{0.0}}> ({x}_pad_shape)
  {x}_spikes = Concat <axis = 0> ({x}_spikes_own, {x}_pad)
"""


BODY = (
    """
  one = Constant <value_int = 1> ()
  minus = Constant <value_int = -1> ()
  one1 = Constant <value_ints = [1]> ()
  zero1 = Constant <value_ints = [0]> ()
  end = Constant <value_ints = [1000]> ()
  radix_i = Constant <value_int: int = @radix> ()
  radix_f = Cast <to = 11> (radix_i)
  scale_f = Constant <value_float: float = @scale> ()
  scale64 = Cast <to = 11> (scale_f)
  A_shape = Shape (A)
  B_shape = Shape (B)
  A_steps = Slice (A_shape, zero1, one1)
  B_steps = Slice (B_shape, zero1, one1)
  A_steps0 = Squeeze (A_steps, zero1)
  B_steps0 = Squeeze (B_steps, zero1)
  steps = Max (A_steps, B_steps)
"""
    + _operand("A")
    + _operand("B")
    + """
  o0 = MatMul (A_zero, B_zero)
  A_end, B_end, o = Scan <num_scan_inputs = 2, body = telescope
    (double[] sum_a, double[] sum_b, double[] out, double[] a, double[] b)
    => (double[] next_a, double[] next_b, double[] next_out) {
    next_a = Add (sum_a, a)
    next_b = Add (sum_b, b)
    left = MatMul (sum_a, b)
    right = MatMul (a, next_b)
    both = Add (left, right)
    next_out = Add (out, both)
  }> (A_zero, B_zero, o0, A_spikes, B_spikes)
  scaled = Mul (o, scale64)
  Y = Cast <to = 1> (scaled)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for dtype, steps_a, steps_b, radix, lead_a, lead_b, (m, k, n) in (
        (np.int8, 8, 8, 2, (2, 3), (2, 3), (5, 16, 7)),
        (np.int16, 1, 1, 256, (2, 2), (2, 2), (4, 32, 9)),
        (np.int8, 8, 1, 2, (2,), (2,), (1, 8, 3)),
        (np.int32, 1, 1, 65536, (), (), (3, 4, 5)),
        (np.int8, 4, 4, 2, (2, 3), (3,), (2, 5, 2)),
        (np.int16, 1, 1, 256, (0,), (0,), (2, 3, 2)),
    ):
        span = 60 if dtype == np.int8 else 16000
        a = rng.integers(-span, span + 1, (steps_a, *lead_a, m, k)).astype(dtype)
        b = rng.integers(-span, span + 1, (steps_b, *lead_b, k, n)).astype(dtype)
        yield [a, b], {"scale": 0.0007, "radix": radix}


OP = SpikingOp(
    name="SpikeMatMul",
    inputs=("A", "B"),
    attributes={"scale": float, "radix": int},
    numpy=matmul,
    body=BODY,
    cases=cases,
    doc=__doc__,
)
