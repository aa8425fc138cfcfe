"""SpikeSoftmax: softmax over the last axis by bit-serial exponentials and one bit-serial reciprocal.

    t = (x - max x)·log₂e;  e = ⌊t⌋;  p = 2^(e-bits)·(2^bits + E(t-e)) ≈ 2^t      (p = 0 up to 2^REACH)
    σ = Σ p = m·2^k, m ∈ [1,2);   r = 2^(bits+1) - R(m) ≈ 2^(bits+1)/m
    v ← radix·v + r_t·p;   Y = v·2^(-bits-1-k)

E and R are bit-serial neurons (`exp2`, `reciprocal`: float32 thresholds `[2**bits]`); r is emitted as a train
of `steps` digits (radix**steps ≥ 2**(bits+2)). Shifts by e and k are exponent arithmetic. X: float32 `[...,
L]`, additive masks welcome (a fully masked row gives zeros); Y: float32. Sums over up to 2**(29 - bits)
entries are exact, so that any order gives the same bits. Total variation from softmax ≤ about 5e-5 at bits =
12. Source: methods §6.5 (range reduction after MBE, arXiv 2508.07710, and LAS's spike-equivalent softmax).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Case, SpikingOp
from .tables import exp2_thresholds, reciprocal_thresholds
from .train import (
    DIGITS_BODY,
    INTEGERS_BODY,
    LAST_AXIS_BODY,
    bit_serial,
    bit_serial_body,
    bit_serial_execution,
    digits,
    largest_body,
    sum_body,
)

LOG2E = np.float32(1.4426950408889634)
REACH = -24
LONGEST = 24
"""Rows of up to 2**LONGEST entries are normalised; the sum is exact up to 2**(29 - bits) of them."""


def softmax(
    x: np.ndarray, exp2: np.ndarray, reciprocal: np.ndarray, *, bits: int, steps: int, radix: int
) -> np.ndarray:
    if x.size == 0:
        return x.copy()
    with np.errstate(invalid="ignore", over="ignore"):
        t = (x - x.max(-1, keepdims=True)) * LOG2E
    alive = t > np.float32(REACH)
    t = np.where(alive, t, np.float32(REACH))
    exponent = np.floor(t)
    mantissa = bit_serial(t - exponent, exp2, bits) + 2**bits
    p = np.where(alive, np.ldexp(mantissa.astype(np.float64), exponent.astype(np.int64) - bits), 0.0)
    total = p.sum(-1, keepdims=True)
    shift = (total[..., None] >= 2.0 ** np.arange(1, LONGEST + 1)).sum(-1)
    inverse = 2 ** (bits + 1) - bit_serial(np.ldexp(total, -shift).astype(np.float32), reciprocal, bits)
    v = np.zeros_like(p)
    for spikes in digits(inverse, steps, radix):
        v = radix * v + spikes * p
    return np.ldexp(v, -bits - 1 - shift).astype(np.float32)


BODY = (
    INTEGERS_BODY
    + LAST_AXIS_BODY
    + f"""
  bits64 = Constant <value_int: int = @bits> ()
  two64 = Constant <value_int = 2> ()
  two = Constant <value = double {{2.0}}> ()
  radix_f = Cast <to = 11> (radix64)
  log2e = Constant <value_float = {float(LOG2E)!r}> ()
  reach = Constant <value_float = {float(REACH)!r}> ()
"""
    + largest_body("X", "largest")
    + """
  centred = Sub (X, largest)
  t_raw = Mul (centred, log2e)
  alive = Less (reach, t_raw)
  t = Where (alive, t_raw, reach)
  exponent = Floor (t)
  fraction = Sub (t, exponent)
"""
    + bit_serial_body("fraction", "exp2", "e_code")
    + """
  span = Pow (two64, bits64)
  mantissa = Add (e_code, span)
  mantissa64 = Cast <to = 11> (mantissa)
  bits_f = Cast <to = 11> (bits64)
  exponent64 = Cast <to = 11> (exponent)
  exponent_low = Sub (exponent64, bits_f)
  weight = Pow (two, exponent_low)
  p_alive = Mul (mantissa64, weight)
  silent = Constant <value = double {0.0}> ()
  p = Where (alive, p_alive, silent)
"""
    + sum_body("p", "sigma")
    + f"""
  shifts = Constant <value_ints = [{", ".join(str(k) for k in range(1, LONGEST + 1))}]> ()
  shifts_f = Cast <to = 11> (shifts)
  powers = Pow (two, shifts_f)
  under = Less (sigma, powers)
  above = Not (under)
  above64 = Cast <to = 11> (above)
"""
    + sum_body("above64", "shift_f")
    + """
  size = Pow (two, shift_f)
  m64 = Div (sigma, size)
  m = Cast <to = 1> (m64)
"""
    + bit_serial_body("m", "reciprocal", "r_code")
    + """
  span2 = Mul (span, two64)
  inverse = Sub (span2, r_code)
  magnitude = Cast <to = 6> (inverse)
"""
    + DIGITS_BODY
    + """
  train64 = Cast <to = 11> (train)
  v0 = Mul (p, silent)
  v, p_end = Scan <num_scan_inputs = 1, body = accumulate
    (double[] v_in, double[] state, double[] r) => (double[] v_out, double[] state_out) {
    grown = Mul (v_in, radix_f)
    current = Mul (r, state)
    v_out = Add (grown, current)
    state_out = Identity (state)
  }> (v0, p, train64)
  span2_f = Cast <to = 11> (span2)
  divisor = Mul (span2_f, size)
  y64 = Div (v, divisor)
  Y = Cast <to = 1> (y64)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for bits, shape, sigma in (
        (12, (3, 17), 2.0),
        (8, (2, 2, 5, 64), 4.0),
        (12, (1, 1), 1.0),
        (10, (2, 300), 0.1),
        (8, (0, 4), 1.0),
    ):
        x = (sigma * rng.standard_normal(shape)).astype(np.float32)
        if x.size > 10:
            x[..., -1] = -3.4028235e38
            x.reshape(-1, shape[-1])[0] = -np.inf
        tables = [exp2_thresholds(bits), reciprocal_thresholds(bits)]
        yield [x, *tables], {"bits": bits, "steps": bits + 2, "radix": 2}
        yield [x, *tables], {"bits": bits, "steps": 1, "radix": 2 ** (bits + 2)}


OP = SpikingOp(
    name="SpikeSoftmax",
    inputs=("X", "exp2", "reciprocal"),
    attributes={"bits": int, "steps": int, "radix": int},
    numpy=softmax,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=bit_serial_execution,
)
