"""OATEncode: the outlier-aware threshold neuron, from a real activation to a spike train.

    Δ = scale,  z = |x| / Δ
    r = the first range 0 … ranges-1 with  m = ⌊z/ratio**r + ½⌋ < 2**bits;  the last saturates at 2**bits - 1
    s_t = sign(x) · ratio**r · digit_t(m)

Two ranges (LAS) with a power-of-two ratio, so that one integer code holds both; the decoded value is Δ·Σ_t
radix**(steps-1-t)·s_t. With radix 2 it integrates and fires: from v = z/ratio**r + ½ it fires at step t where
v ≥ 2**(bits-1-t), which is then subtracted, and its spikes are the digits of m. Error ≤ ratio**r·Δ/2. One
range is a plain quantiser; a third serves sites where single tokens are so massive that two would leave a
gap. X: float32, any shape, finite; S: integer type `to`, `[steps, *X.shape]`; steps and radix are bits and 2,
or 1 and 2**bits. Raises ValueError when a spike does not fit the type `to`. Source: LAS (arXiv 2505.09659)
OAT neuron; rounding to nearest, the power-of-two ratio and a third range are ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from .spec import Attributes, Case, SpikingOp
from .train import DIGITS_BODY, INTEGERS_BODY, digits, ones


def oat_encode(
    x: np.ndarray, *, scale: float, bits: int, ratio: int, ranges: int, steps: int, radix: int, to: int
) -> np.ndarray:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    if ratio ** (ranges - 1) * (min(radix, 2**bits) - 1) > np.iinfo(dtype).max:
        raise ValueError(
            f"OATEncode: {bits} bits, radix {radix}, {ranges} ranges of ratio {ratio} do not fit {dtype}"
        )
    levels = np.float32(2**bits - 1)
    z = np.abs(x) / np.float32(scale)
    magnitude, gate = np.floor(z + np.float32(0.5)), np.ones(x.shape, np.int64)
    for weight in ratio ** np.arange(1, ranges):
        beyond = magnitude > levels
        magnitude = np.where(beyond, np.floor(z / np.float32(weight) + np.float32(0.5)), magnitude)
        gate = np.where(beyond, weight, gate)
    code = np.minimum(magnitude, levels).astype(np.int64)
    return (digits(code, steps, radix) * (gate * np.sign(x).astype(np.int64))).astype(dtype)


def spike_type(largest: int) -> int:
    """The smallest integer type of a train whose spikes are at most `largest`."""
    for to in (onnx.TensorProto.INT8, onnx.TensorProto.INT16):
        if largest <= np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(to)).max:
            return int(to)
    return int(onnx.TensorProto.INT32)


def execution(attributes: Attributes, packed: bool) -> Attributes:
    bits, loudest = attributes["bits"], attributes["ratio"] ** (attributes["ranges"] - 1)
    if packed:
        return attributes | {"steps": 1, "radix": 2**bits, "to": spike_type(loudest * (2**bits - 1))}
    return attributes | {"steps": bits, "radix": 2, "to": spike_type(loudest)}


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """One for each binary digit: the range is a power of two and adds none."""
    return ones(code)


BODY = (
    INTEGERS_BODY
    + """
  delta = Constant <value_float: float = @scale> ()
  bits64 = Constant <value_int: int = @bits> ()
  ratio64 = Constant <value_int: int = @ratio> ()
  ranges64 = Constant <value_int: int = @ranges> ()
  two64 = Constant <value_int = 2> ()
  half = Constant <value_float = 0.5> ()
  span = Pow (two64, bits64)
  levels64 = Sub (span, one64)
  levels = Cast <to = 1> (levels64)
  absolute = Abs (X)
  z = Div (absolute, delta)
  z_half = Add (z, half)
  normal = Floor (z_half)
  X_shape = Shape (X)
  ones = ConstantOfShape <value = int32[1] {1}> (X_shape)
  nought = Sub (one64, one64)
  orders = Range (nought, ranges64, one64)
  range_weights = Pow (ratio64, orders)
  widest, gate = Scan <num_scan_inputs = 1, body = widen
    (float[] m, int32[] g, int64 weight) => (float[] m_next, int32[] g_next) {
    weight_f = Cast <to = 1> (weight)
    weight32 = Cast <to = 6> (weight)
    beyond = Greater (m, levels)
    z_wide = Div (z, weight_f)
    z_wide_half = Add (z_wide, half)
    wide = Floor (z_wide_half)
    m_next = Where (beyond, wide, m)
    g_next = Where (beyond, weight32, g)
  }> (normal, ones, range_weights)
  magnitude_f = Min (widest, levels)
  magnitude = Cast <to = 6> (magnitude_f)
  sign_f = Sign (X)
  sign = Cast <to = 6> (sign_f)
  signed = Mul (gate, sign)
"""
    + DIGITS_BODY
    + """
  weighted = Mul (train, signed)
  S = Cast <to: int = @to> (weighted)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes = (3, 5), (2, 3, 17), (33,), (4, 7), (), (0, 4), (300,)
    neurons = (8, 1, 1), (8, 64, 2), (4, 4, 2), (16, 64, 2), (8, 16, 2), (8, 2, 3), (8, 16, 3)
    for shape, (bits, ratio, ranges) in zip(shapes, neurons, strict=True):
        x = (rng.standard_normal(shape) * 3 * rng.choice([1.0, 30.0, 3000.0], shape)).astype(np.float32)
        common = {"scale": 6 / 2**bits, "bits": bits, "ratio": ratio, "ranges": ranges}
        loudest = ratio ** (ranges - 1)
        yield [x], {**common, "steps": bits, "radix": 2, "to": spike_type(loudest)}
        yield [x], {**common, "steps": 1, "radix": 2**bits, "to": spike_type(loudest * (2**bits - 1))}
    ties = np.array([0.0, -0.0, 0.5, 1.5, 2.5, -0.5, 254.5, 255.49, 255.5, 256.0, -1e30, 1e30], np.float32)
    two = {"scale": 1.0, "bits": 8, "ratio": 64, "ranges": 2}
    yield [ties], {**two, "steps": 8, "radix": 2, "to": onnx.TensorProto.INT8}


OP = SpikingOp(
    name="OATEncode",
    inputs=("X",),
    outputs=("S",),
    attributes={
        "scale": float,
        "bits": int,
        "ratio": int,
        "ranges": int,
        "steps": int,
        "radix": int,
        "to": int,
    },
    numpy=oat_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
