"""Spike trains: an integer code and the digits that carry it through time.

A train has shape `[steps, ...]`. Step t carries the digit of weight `radix**(steps-1-t)`, most significant
first, so

    code = Σ_t radix**(steps-1-t) · s_t        computed as        v ← radix·v + s_t

Unrolled execution uses radix 2 and as many steps as the code has bits: each s_t is a spike (0, ±1, or ±ratio
for a spike of the outlier range). Packed execution is the same train in radix 2**bits: one step whose single
digit is the whole code. Every op below is written once for any radix, which is why the two executions are
equal.
"""

from __future__ import annotations

import numpy as np


def digits(code: np.ndarray, steps: int, radix: int) -> np.ndarray:
    """The train `[steps, ...]` of a code; the sign of the code is the sign of all its digits."""
    magnitude = np.abs(code).astype(np.int64)
    weights = radix ** np.arange(steps - 1, -1, -1, dtype=np.int64)
    weights = weights.reshape((steps,) + (1,) * magnitude.ndim)
    return np.sign(code) * ((magnitude[None] // weights) % radix)


def unary(code: np.ndarray, steps: int, largest: int = 1) -> np.ndarray:
    """The train `[steps, ...]` of radix 1 that emits a code as soon as it can:

        s_t = sign(code) · min(largest, max(0, |code| - largest·t))

    one spike a step while any remains, or, graded, at most `largest` units a step. Σ_t s_t = code where
    |code| ≤ steps·largest.
    """
    magnitude = np.abs(code).astype(np.int64)
    before = largest * np.arange(steps, dtype=np.int64).reshape((steps,) + (1,) * magnitude.ndim)
    return np.sign(code) * np.clip(magnitude[None] - before, 0, largest)


def rate(drive: np.ndarray, start: int, threshold: int, steps: int) -> np.ndarray:
    """The train `[steps, ...]` of a neuron that integrates the same integer at every step and fires as often
    as the threshold goes into its membrane:

        v_0 = start;   u = v_{t-1} + drive;   n_t = ⌊u / threshold⌋;   v_t = u - n_t · threshold

    so Σ_t n_t = ⌊(start + steps·drive) / threshold⌋. `drive` and `start` are not negative.
    """
    membrane = np.full(drive.shape, start, np.int64)
    train = np.empty((steps, *drive.shape), np.int64)
    for t in range(steps):
        membrane += drive
        train[t] = membrane // threshold
        membrane -= train[t] * threshold
    return train


def ones(code: np.ndarray) -> np.ndarray:
    """How many binary digits of |code| are one: the events of a binary-weighted train."""
    return np.bitwise_count(np.abs(code))


def bit_serial_execution(attributes: dict[str, int], packed: bool) -> dict[str, int]:
    """Steps and radix of an op whose serial neuron emits `bits` + 2 digits."""
    bits = attributes["bits"]
    return attributes | (
        {"steps": 1, "radix": 2 ** (bits + 2)} if packed else {"steps": bits + 2, "radix": 2}
    )


def total(train: np.ndarray, radix: int) -> np.ndarray:
    """Decodes a train to the number it carries, in float64 (exact below 2**53)."""
    value = np.zeros(train.shape[1:], np.float64)
    for spikes in train:
        value = radix * value + spikes
    return value


def bit_serial(x: np.ndarray, thresholds: np.ndarray, bits: int, row: np.ndarray | int = 0) -> np.ndarray:
    """Successive approximation, most significant bit first (a comparator tree):

        acc = 0;  for d = 2**(bits-1) ... 1:   z = [x > θ(acc + d)];   acc += z·d

    `thresholds` is `[rows, 2**bits]`, ascending along the last axis (entry 0 is never read); the result is
    the number of thresholds that x has passed. This is the neuron that replaces lookup tables of the LAS code
    (methods §6.5).
    """
    flat = thresholds.reshape(-1)
    acc = np.zeros(x.shape, np.int64)
    for bit in range(bits - 1, -1, -1):
        acc += (x > flat[row * 2**bits + acc + 2**bit]).astype(np.int64) << bit
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

UNARY_BODY = """
  largest32 = Cast <to = 6> (largest64)
  unary_zero64 = Sub (one64, one64)
  unary_zero = Cast <to = 6> (unary_zero64)
  unary_end = Mul (steps64, largest64)
  unary_before64 = Range (unary_zero64, unary_end, largest64)
  unary_before = Cast <to = 6> (unary_before64)
  train = Scan <num_scan_inputs = 1, body = emit (int32 before) => (int32[] d) {
    left = Sub (magnitude, before)
    owed = Max (left, unary_zero)
    d = Min (owed, largest32)
  }> (unary_before)
"""
"""ONNX text of `unary`: int32 `train` from int32 `magnitude`; needs steps64, largest64, one64."""

RATE_BODY = """
  rate_nought64 = Sub (one64, one64)
  rate_times = Range (rate_nought64, steps64, one64)
  rate_rest = Sub (drive, drive)
  rate_start = Add (rate_rest, start)
  rate_end, rate_drive, rate_threshold, train = Scan <num_scan_inputs = 1, body = integrate
    (int32[] v, int32[] i, int32 th, int64 t) => (int32[] v_next, int32[] i_next, int32 th_next, int32[] n) {
    u = Add (v, i)
    n = Div (u, th)
    fired = Mul (n, th)
    v_next = Sub (u, fired)
    i_next = Identity (i)
    th_next = Identity (th)
  }> (rate_start, drive, threshold, rate_times)
"""
"""ONNX text of `rate`: int32 `train` from int32 `drive`, `start` and `threshold`; needs steps64, one64."""

INTEGERS_BODY = """
  one64 = Constant <value_int = 1> ()
  minus64 = Constant <value_int = -1> ()
  steps64 = Constant <value_int: int = @steps> ()
  radix64 = Constant <value_int: int = @radix> ()
"""
"""ONNX text: the scalar constants that `DIGITS_BODY` needs."""

LAST_AXIS_BODY = """
  last = Constant <value_ints = [-1]> ()
  end = Constant <value_ints = [1000]> ()
  single = Constant <value_ints = [1]> ()
  unit = Constant <value = double {1.0}> ()
"""
"""ONNX text: what `sum_body` and `largest_body` need."""


def sum_body(x: str, result: str) -> str:
    """ONNX text: Σ of float64 `x` over the last axis, kept as 1, by a product with ones: ONNX Runtime's
    ReduceSum leaves an empty tensor's shape as it was, and mending it by a Reshape would hide the rank from
    release 1.20."""
    return f"""
  {result}_shape = Shape ({x})
  {result}_n = Slice ({result}_shape, last, end)
  {result}_column = Concat <axis = 0> ({result}_n, single)
  {result}_ones = Expand (unit, {result}_column)
  {result} = MatMul ({x}, {result}_ones)
"""


def largest_body(x: str, result: str) -> str:
    """ONNX text: the maximum of `x` over the last axis, kept as 1. ReduceMax differs before opset 18,
    and ONNX Runtime reads a body in the model's opset; the Slice is for the empty tensors of `sum_body`."""
    return f"""
  {result}_index = ArgMax <axis = -1, keepdims = 1> ({x})
  {result}_reduced = GatherElements <axis = -1> ({x}, {result}_index)
  {result}_start = Constant <value_ints = [0]> ()
  {result} = Slice ({result}_reduced, {result}_start, single, last)
"""


def bit_serial_body(x: str, thresholds: str, result: str, row: str = "", emit: bool = False) -> str:
    """ONNX text of `bit_serial`; `result` is int64. `row` names an int64 tensor of row offsets (already
    ×2**bits).

    With `emit`, the scan also returns `<result>_bits` int64 [bits, ...]: the emitted digits z·d. What the
    scan reads from outside is carried as state, and its start is made from `x` itself, because ONNX Runtime
    1.20 infers no shapes through captured values or computed shapes.
    """
    carried = [("x", "float", x), ("table", "float", thresholds), *([("row", "int64", row)] if row else [])]
    state_in = "".join(f", {kind}[] {name}" for name, kind, _ in carried)
    state_out = "".join(f", {kind}[] {name}_next" for name, kind, _ in carried)
    starts = "".join(f", {outer}" for _, _, outer in carried)
    ends = "".join(f", {result}_{name}" for name, _, _ in carried)
    copies = "\n    ".join(f"{name}_next = Identity ({name})" for name, _, _ in carried)
    at = "Add (trial, row)" if row else "Identity (trial)"
    return f"""
  {result}_bits_n = Constant <value_int: int = @bits> ()
  {result}_bit0 = Sub ({result}_bits_n, one64)
  {result}_bit = Range ({result}_bit0, minus64, minus64)
  {result}_two = Constant <value_int = 2> ()
  {result}_weights = Pow ({result}_two, {result}_bit)
  {result}_never = Less ({x}, {x})
  {result}_zero = Cast <to = 7> ({result}_never)
  {result}{ends}{f", {result}_bits" if emit else ""} = Scan <num_scan_inputs = 1, body = sar
    (int64[] acc{state_in}, int64 d) => (int64[] next{state_out}{", int64[] emitted" if emit else ""}) {{
    trial = Add (acc, d)
    at = {at}
    theta = Gather <axis = 0> (table, at)
    crossed = Less (theta, x)
    z_serial = Cast <to = 7> (crossed)
    fire = Mul (z_serial, d)
    next = Add (acc, fire)
    {copies}
    {"emitted = Identity (fire)" if emit else ""}
  }}> ({result}_zero{starts}, {result}_weights)
"""
