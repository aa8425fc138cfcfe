"""SignSplitEncode: threshold neurons of one range for each sign, one integer code for both.

    w = positive where x > 0, negative where x < 0
    m = min(2**bits - 1, ⌊|x| / (scale·w) + ½⌋);   S_t = sign(x) · w · digit_t(m)

so that x ≈ scale · Σ_t radix**(steps-1-t)·S_t with an error of at most scale·w/2 within the sign's range.
The weights are powers of two, which keeps the code an integer on the finer sign's grid. X: float32, any
shape, finite; S: integers of type `to`, `[steps, *X.shape]`; steps and radix are bits and 2, or 1 and
2**bits. Raises ValueError when a spike does not fit the type `to`. Source: the "high accuracy" variant of
LAS's outlier-aware neuron (arXiv 2505.09659, methods §1.1.2 c), with thresholds from data, rounding to
nearest and the power-of-two ratio ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from .oat_encode import spike_type
from .spec import Attributes, Case, SpikingOp
from .train import DIGITS_BODY, INTEGERS_BODY, digits, ones


def sign_split_encode(
    x: np.ndarray, *, scale: float, bits: int, positive: int, negative: int, steps: int, radix: int, to: int
) -> np.ndarray:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    if max(positive, negative) * (min(radix, 2**bits) - 1) > np.iinfo(dtype).max:
        raise ValueError(
            f"SignSplitEncode: {bits} bits, radix {radix}, weights {positive}, {negative} do not fit {dtype}"
        )
    weight = np.where(x < 0, np.float32(negative), np.float32(positive))
    z = np.abs(x) / np.float32(scale) / weight
    code = np.minimum(np.floor(z + np.float32(0.5)), np.float32(2**bits - 1)).astype(np.int64)
    signed = np.sign(x).astype(np.int64) * weight.astype(np.int64)
    return (digits(code, steps, radix) * signed).astype(dtype)


def execution(attributes: Attributes, packed: bool) -> Attributes:
    bits, loudest = attributes["bits"], max(attributes["positive"], attributes["negative"])
    if packed:
        return attributes | {"steps": 1, "radix": 2**bits, "to": spike_type(loudest * (2**bits - 1))}
    return attributes | {"steps": bits, "radix": 2, "to": spike_type(loudest)}


def events(code: np.ndarray, attributes: Attributes) -> np.ndarray:
    """One for each binary digit: the sign's weight is a power of two and adds none."""
    return ones(code)


BODY = (
    INTEGERS_BODY
    + """
  delta = Constant <value_float: float = @scale> ()
  bits64 = Constant <value_int: int = @bits> ()
  positive64 = Constant <value_int: int = @positive> ()
  negative64 = Constant <value_int: int = @negative> ()
  two64 = Constant <value_int = 2> ()
  half = Constant <value_float = 0.5> ()
  nought = Constant <value_float = 0.0> ()
  span = Pow (two64, bits64)
  levels64 = Sub (span, one64)
  levels = Cast <to = 1> (levels64)
  positive_f = Cast <to = 1> (positive64)
  negative_f = Cast <to = 1> (negative64)
  below = Less (X, nought)
  weight = Where (below, negative_f, positive_f)
  absolute = Abs (X)
  z_fine = Div (absolute, delta)
  z = Div (z_fine, weight)
  z_half = Add (z, half)
  rounded = Floor (z_half)
  magnitude_f = Min (rounded, levels)
  magnitude = Cast <to = 6> (magnitude_f)
  sign_f = Sign (X)
  signed_f = Mul (sign_f, weight)
  signed = Cast <to = 6> (signed_f)
"""
    + DIGITS_BODY
    + """
  weighted = Mul (train, signed)
  S = Cast <to: int = @to> (weighted)
"""
)


def cases(rng: np.random.Generator) -> Iterator[Case]:
    shapes = (3, 5), (2, 3, 17), (), (0, 4), (300,)
    for shape, (bits, positive, negative) in zip(
        shapes, ((8, 1, 4), (4, 64, 1), (16, 1, 2), (8, 1, 1), (6, 1, 16)), strict=True
    ):
        x = (rng.standard_normal(shape) * 3 * rng.choice([1.0, 30.0, 3000.0], shape)).astype(np.float32)
        given = {"scale": 6 / 2**bits, "bits": bits, "positive": positive, "negative": negative}
        for packed in (True, False):
            yield [x], execution(given, packed)
    ties = np.array([0.0, -0.0, 0.5, 1.5, -0.5, -1.0, -2.0, 254.5, 255.5, -1021, -1e30, 1e30], np.float32)
    yield [ties], execution({"scale": 1.0, "bits": 8, "positive": 1, "negative": 4}, False)


OP = SpikingOp(
    name="SignSplitEncode",
    inputs=("X",),
    outputs=("S",),
    attributes={
        "scale": float,
        "bits": int,
        "positive": int,
        "negative": int,
        "steps": int,
        "radix": int,
        "to": int,
    },
    numpy=sign_split_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
    events=events,
)
