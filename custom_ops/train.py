"""Spike trains: an integer code and the digits that carry it through time.

A train has shape `[steps, ...]`. Step t carries the digit of weight `radix**(steps-1-t)`, most significant first, so

    code = Σ_t radix**(steps-1-t) · s_t        computed as        v ← radix·v + s_t

Unrolled execution uses radix 2 and as many steps as the code has bits: each s_t is a spike (0, ±1, or ±ratio for a
spike of the outlier range). Packed execution is the same train in radix 2**bits: one step whose single digit is the
whole code. Every op below is written once for any radix, which is why the two executions are equal.
"""

from __future__ import annotations

import numpy as np


def digits(code: np.ndarray, steps: int, radix: int) -> np.ndarray:
    """The train `[steps, ...]` of a code; the sign of the code is the sign of all its digits."""
    magnitude = np.abs(code).astype(np.int64)
    weights = radix ** np.arange(steps - 1, -1, -1, dtype=np.int64)
    weights = weights.reshape((steps,) + (1,) * magnitude.ndim)
    return np.sign(code) * ((magnitude[None] // weights) % radix)


def total(train: np.ndarray, radix: int) -> np.ndarray:
    """Decodes a train to the number it carries, in float64 (exact below 2**53)."""
    value = np.zeros(train.shape[1:], np.float64)
    for spikes in train:
        value = radix * value + spikes
    return value


def bit_serial(x: np.ndarray, thresholds: np.ndarray, bits: int, row: np.ndarray | int = 0) -> np.ndarray:
    """Successive approximation, most significant bit first (a comparator tree):

        acc = 0;  for d = 2**(bits-1) ... 1:   z = [x ≥ θ(acc + d)];   acc += z·d

    `thresholds` is `[rows, 2**bits]`, ascending along the last axis (entry 0 is never read); the result is the number
    of thresholds that x has passed. This is the neuron that replaces lookup tables of the LAS code (methods §6.5).
    """
    flat = thresholds.reshape(-1)
    acc = np.zeros(x.shape, np.int64)
    for bit in range(bits - 1, -1, -1):
        acc += (x >= flat[row * 2**bits + acc + 2**bit]).astype(np.int64) << bit
    return acc


DIGITS_BODY = """
  last_step = Sub (steps64, one64)
  exponents = Range (last_step, minus64, minus64)
  weights64 = Pow (radix64, exponents)
  weights = Cast <to = 6> (weights64)
  radix32 = Cast <to = 6> (radix64)
  train = Scan <num_scan_inputs = 1, body = digit (int32 w) => (int32[] d) {
    quotient = Div (magnitude, w)
    d = Mod (quotient, radix32)
  }> (weights)
"""
"""ONNX text: `train` int32 [steps, ...] from `magnitude` int32; needs steps64, radix64, one64, minus64."""

INTEGERS_BODY = """
  one64 = Constant <value_int = 1> ()
  minus64 = Constant <value_int = -1> ()
  steps64 = Constant <value_int: int = @steps> ()
  radix64 = Constant <value_int: int = @radix> ()
"""
"""ONNX text: the scalar constants that `DIGITS_BODY` needs."""

LAST_AXIS_BODY = """
  last = Constant <value_ints = [-1]> ()
  front = Constant <value_ints = [0]> ()
  single = Constant <value_ints = [1]> ()
  X_shape = Shape (X)
  X_rows = Slice (X_shape, front, last)
  row_shape = Concat <axis = 0> (X_rows, single)
"""
"""ONNX text: what `reduce_body` needs of X."""


def reduce_body(op: str, x: str, result: str) -> str:
    """ONNX text: `op` over the last axis, kept as 1 (ONNX Runtime leaves an empty tensor's shape as it was)."""
    return f"""
  {result}_reduced = {op} <keepdims = 1> ({x}, last)
  {result} = Reshape <allowzero = 1> ({result}_reduced, row_shape)
"""


def bit_serial_body(x: str, thresholds: str, result: str, row: str = "", emit: bool = False) -> str:
    """ONNX text of `bit_serial`; `result` is int64. `row` names an int64 tensor of row offsets (already ×2**bits).

    With `emit`, the scan also returns `<result>_bits` int64 [bits, ...]: the emitted digits z·d.
    """
    offset = f"{result}_at = Add ({result}_try, {row})" if row else f"{result}_at = Identity ({result}_try)"
    scanned = f", int64[] {result}_emit" if emit else ""
    collect = f", {result}_bits" if emit else ""
    copy = f"{result}_emit = Identity ({result}_fire)" if emit else ""
    return f"""
  {result}_bits_n = Constant <value_int: int = @bits> ()
  {result}_bit0 = Sub ({result}_bits_n, one64)
  {result}_bit = Range ({result}_bit0, minus64, minus64)
  {result}_two = Constant <value_int = 2> ()
  {result}_weights = Pow ({result}_two, {result}_bit)
  {result}_shape = Shape ({x})
  {result}_zero = ConstantOfShape <value = int64[1] {{0}}> ({result}_shape)
  {result}{collect} = Scan <num_scan_inputs = 1, body = sar (int64[] acc, int64 d) => (int64[] next{scanned}) {{
    {result}_try = Add (acc, d)
    {offset}
    {result}_theta = Gather <axis = 0> ({thresholds}, {result}_at)
    {result}_ge = GreaterOrEqual ({x}, {result}_theta)
    {result}_z = Cast <to = 7> ({result}_ge)
    {result}_fire = Mul ({result}_z, d)
    next = Add (acc, {result}_fire)
    {copy}
  }}> ({result}_zero, {result}_weights)
"""
