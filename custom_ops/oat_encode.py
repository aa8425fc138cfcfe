"""OATEncode: the outlier-aware threshold neuron, from a real activation to a spike train.

    Δ = scale,  z = |x| / Δ
    m = ⌊z + ½⌋                       if that is < 2**bits        (normal range, gate = 1)
    m = min(⌊z/ratio + ½⌋, 2**bits-1) otherwise                   (outlier range, gate = ratio)
    s_t = sign(x) · gate · digit_t(m)

Two ranges with one power-of-two ratio, so that one integer code holds both: code = Σ_t radix**(steps-1-t)·s_t and
the decoded value is Δ·code. Error ≤ Δ/2 in the normal range, ≤ ratio·Δ/2 in the outlier range, saturating at
ratio·(2**bits-1)·Δ. X: float32, any shape; S: integer type `to`, `[steps, *X.shape]`, radix**steps = 2**bits.
X must be finite. Source: LAS (arXiv 2505.09659) OAT neuron; rounding to nearest and the power-of-two ratio are ours.
Raises ValueError when the train does not fit the type `to`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from .spec import Case, SpikingOp
from .train import DIGITS_BODY, INTEGERS_BODY, digits


def oat_encode(
    x: np.ndarray, *, scale: float, bits: int, ratio: int, steps: int, radix: int, to: int
) -> np.ndarray:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    if ratio * (min(radix, 2**bits) - 1) > np.iinfo(dtype).max:
        raise ValueError(
            f"OATEncode: a digit of {bits} bits, radix {radix}, ratio {ratio} does not fit {dtype}"
        )
    levels = np.float32(2**bits - 1)
    z = np.abs(x) / np.float32(scale)
    normal = np.floor(z + np.float32(0.5))
    wide = np.minimum(np.floor(z / np.float32(ratio) + np.float32(0.5)), levels)
    outlier = normal > levels
    magnitude = np.where(outlier, wide, normal).astype(np.int64)
    gate = np.where(outlier, ratio, 1) * np.sign(x).astype(np.int64)
    return (digits(magnitude, steps, radix) * gate).astype(dtype)


BODY = (
    INTEGERS_BODY
    + """
  delta = Constant <value_float: float = @scale> ()
  bits64 = Constant <value_int: int = @bits> ()
  ratio64 = Constant <value_int: int = @ratio> ()
  two64 = Constant <value_int = 2> ()
  half = Constant <value_float = 0.5> ()
  span = Pow (two64, bits64)
  levels64 = Sub (span, one64)
  levels = Cast <to = 1> (levels64)
  ratio_f = Cast <to = 1> (ratio64)
  ratio32 = Cast <to = 6> (ratio64)
  one32 = Cast <to = 6> (one64)
  absolute = Abs (X)
  z = Div (absolute, delta)
  z_half = Add (z, half)
  normal = Floor (z_half)
  z_wide = Div (z, ratio_f)
  z_wide_half = Add (z_wide, half)
  wide_floor = Floor (z_wide_half)
  wide = Min (wide_floor, levels)
  outlier = Greater (normal, levels)
  magnitude_f = Where (outlier, wide, normal)
  magnitude = Cast <to = 6> (magnitude_f)
  gate = Where (outlier, ratio32, one32)
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
    for bits, ratio, shape in (
        (8, 1, (3, 5)),
        (8, 64, (2, 3, 17)),
        (4, 4, (33,)),
        (16, 64, (4, 7)),
        (8, 16, ()),
        (8, 2, (0, 4)),
    ):
        x = (rng.standard_normal(shape) * 3 * rng.choice([1.0, 30.0], shape)).astype(np.float32)
        common = {"scale": 6 / 2**bits, "bits": bits, "ratio": ratio}
        yield [x], {**common, "steps": bits, "radix": 2, "to": onnx.TensorProto.INT8}
        wide = ratio * (2**bits - 1) > 32767
        to = onnx.TensorProto.INT32 if wide else onnx.TensorProto.INT16
        yield [x], {**common, "steps": 1, "radix": 2**bits, "to": to}
    ties = np.array([0.0, -0.0, 0.5, 1.5, 2.5, -0.5, 254.5, 255.49, 255.5, 256.0, -1e30, 1e30], np.float32)
    yield [ties], {"scale": 1.0, "bits": 8, "ratio": 64, "steps": 8, "radix": 2, "to": onnx.TensorProto.INT8}


OP = SpikingOp(
    name="OATEncode",
    inputs=("X",),
    outputs=("S",),
    attributes={"scale": float, "bits": int, "ratio": int, "steps": int, "radix": int, "to": int},
    numpy=oat_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
)
