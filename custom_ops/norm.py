"""What SpikeRMSNorm and SpikeLayerNorm share: the squaring neuron and the bit-serial reciprocal square root.

A row's largest |x| gates its threshold: Δ = 2^(e-bits) with 2^e ≤ max|x| < 2^(e+1), so the row's integer code
c = sign(x)·⌊|x|/Δ + ½⌋ has at most bits + 1 binary digits. Σc² (each c² a telescoping product of the train
with itself) and Σc are exact integers. 1/√(ms) is range-reduced by powers of four (methods §6.5).
"""

from __future__ import annotations

import numpy as np

from .train import (
    DIGITS_BODY,
    INTEGERS_BODY,
    LAST_AXIS_BODY,
    bit_serial,
    bit_serial_body,
    digits,
    largest_body,
    sum_body,
    total,
)

REACH = 63
"""Row maxima and root mean squares between 2**-REACH and 2**REACH are exact; smaller ones count as
2**-REACH."""


def row_code(x: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """(signed integer code, its step Δ per row) of `x [..., n]`."""
    largest = np.abs(x).max(-1, keepdims=True).astype(np.float64)
    exponent = (largest[..., None] >= 2.0 ** np.arange(1 - REACH, REACH + 1)).sum(-1) - REACH
    step = 2.0 ** (exponent - bits)
    magnitude = np.floor(np.abs(x) / step.astype(np.float32) + np.float32(0.5)).astype(np.int64)
    return np.sign(x).astype(np.int64) * magnitude, step


def scale_by_rsqrt(
    x: np.ndarray, mean_square: np.ndarray, rsqrt: np.ndarray, bits: int, steps: int, radix: int
) -> np.ndarray:
    """x / √mean_square with the root as a train: v ← radix·v + r_t·x, then one shift; float32."""
    shift = (mean_square[..., None] >= 4.0 ** np.arange(1 - REACH, REACH + 1)).sum(-1) - REACH
    m = (mean_square * 4.0**-shift).astype(np.float32)
    root = 2 ** (bits + 1) - bit_serial(m, rsqrt, bits)
    v = np.zeros(x.shape)
    for spikes in digits(root, steps, radix):
        v = radix * v + spikes * x.astype(np.float64)
    return (v * 2.0 ** (-bits - 1 - shift)).astype(np.float32)


def sum_of_squares(code: np.ndarray, steps: int, radix: int) -> np.ndarray:
    """Σ c² over the last axis; each spike adds the code, shifted by the spike's weight."""
    magnitude = np.abs(code)
    return total(digits(magnitude, steps, radix) * magnitude, radix).sum(-1, keepdims=True)


CONSTANTS_BODY = (
    INTEGERS_BODY
    + LAST_AXIS_BODY
    + f"""
  bits64 = Constant <value_int: int = @bits> ()
  epsilon_f = Constant <value_float: float = @epsilon> ()
  epsilon64 = Cast <to = 11> (epsilon_f)
  two64 = Constant <value_int = 2> ()
  two = Constant <value = double {{2.0}}> ()
  four = Constant <value = double {{4.0}}> ()
  zero_d = Constant <value = double {{0.0}}> ()
  half = Constant <value_float = 0.5> ()
  radix_f = Cast <to = 11> (radix64)
  bits_f = Cast <to = 11> (bits64)
  reach = Constant <value = double {{{REACH}.0}}> ()
  lowest = Constant <value_int = {1 - REACH}> ()
  highest = Constant <value_int = {REACH + 1}> ()
  ladder = Range (lowest, highest, one64)
  ladder_f = Cast <to = 11> (ladder)
  twos = Pow (two, ladder_f)
  fours = Pow (four, ladder_f)
  X_shape = Shape (X)
  n1 = Slice (X_shape, last, end)
  n = Cast <to = 11> (n1)
"""
)


def row_code_body(x: str) -> str:
    """ONNX text of `row_code`: `<x>_code` (float32 integers) and `<x>_step` (float64)."""
    return (
        f"""
  {x}_abs = Abs ({x})
"""
        + largest_body(f"{x}_abs", f"{x}_largest_f")
        + f"""
  {x}_largest = Cast <to = 11> ({x}_largest_f)
  {x}_under = Less ({x}_largest, twos)
  {x}_above = Not ({x}_under)
  {x}_above64 = Cast <to = 11> ({x}_above)
"""
        + sum_body(f"{x}_above64", f"{x}_count")
        + f"""
  {x}_exponent = Sub ({x}_count, reach)
  {x}_low = Sub ({x}_exponent, bits_f)
  {x}_step = Pow (two, {x}_low)
  {x}_step_f = Cast <to = 1> ({x}_step)
  {x}_z = Div ({x}_abs, {x}_step_f)
  {x}_z_half = Add ({x}_z, half)
  {x}_magnitude = Floor ({x}_z_half)
  {x}_sign = Sign ({x})
  {x}_code = Mul ({x}_sign, {x}_magnitude)
"""
    )


def mean_square_body(x: str) -> str:
    """ONNX text: `mean_square` float64 = Δ²·Σc²/n + ε, from `row_code_body(x)`."""
    return (
        f"""
  code64 = Cast <to = 11> ({x}_code)
  squares = Mul (code64, code64)
"""
        + sum_body("squares", "sum_squares")
        + f"""
  step_square = Mul ({x}_step, {x}_step)
  power = Mul (sum_squares, step_square)
  mean_power = Div (power, n)
  mean_square = Add (mean_power, epsilon64)
"""
    )


def scale_by_rsqrt_body(x: str) -> str:
    """ONNX text of `scale_by_rsqrt`: `normal` float32."""
    return (
        """
  root_under = Less (mean_square, fours)
  root_above = Not (root_under)
  root_above64 = Cast <to = 11> (root_above)
"""
        + sum_body("root_above64", "root_count")
        + """
  root_shift_f = Sub (root_count, reach)
  root_down = Neg (root_shift_f)
  quarter = Pow (four, root_down)
  m64 = Mul (mean_square, quarter)
  m = Cast <to = 1> (m64)
"""
        + bit_serial_body("m", "rsqrt", "r_code")
        + """
  span = Pow (two64, bits64)
  span2 = Mul (span, two64)
  root = Sub (span2, r_code)
  magnitude = Cast <to = 6> (root)
"""
        + DIGITS_BODY
        + f"""
  train64 = Cast <to = 11> (train)
  x64 = Cast <to = 11> ({x})
  v0 = Mul (x64, zero_d)
  v, x64_end = Scan <num_scan_inputs = 1, body = accumulate
    (double[] v_in, double[] state, double[] r) => (double[] v_out, double[] state_out) {{
    grown = Mul (v_in, radix_f)
    current = Mul (r, state)
    v_out = Add (grown, current)
    state_out = Identity (state)
  }}> (v0, x64, train64)
  span2_f = Cast <to = 11> (span2)
  root_size = Pow (two, root_shift_f)
  divisor = Mul (span2_f, root_size)
  normal64 = Div (v, divisor)
  normal = Cast <to = 1> (normal64)
"""
    )
