"""Graded spikes: how a neuron that may fire several unit spikes a step spends an integer code over its steps.

    v ← |code|;  for t = 0 … steps-1:  s_t = min(⌊v / w_t⌋, most),  v ← v - w_t·s_t,  w_t = radix**(steps-1-t)

every s_t with the sign of the code. With radix 1 it is a rate code: unit spikes while the membrane holds any
(most = 1, unary) or up to `most` at a time (a generalised integrate-and-fire step). With radix 2 and most = 1
the spikes are binary digits. One step with `most` = the largest code is the packed train.
"""

from __future__ import annotations

import numpy as np
import onnx


def graded(code: np.ndarray, steps: int, radix: int, most: int) -> np.ndarray:
    """The train `[steps, ...]` of integer codes."""
    membrane = np.abs(code).astype(np.int64)
    train = np.empty((steps, *code.shape), np.int64)
    for t in range(steps):
        weight = radix ** (steps - 1 - t)
        train[t] = np.minimum(membrane // weight, most)
        membrane -= weight * train[t]
    return train * np.sign(code).astype(np.int64)


def fits(name: str, most: int, to: int) -> np.dtype:
    """The type of the train. Raises ValueError when a spike of `most` does not fit it."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    if most > np.iinfo(dtype).max:
        raise ValueError(f"{name}: spikes of up to {most} do not fit {dtype}")
    return dtype


GRADED_BODY = """
  last_step = Sub (steps64, one64)
  exponents = Range (last_step, minus64, minus64)
  weights64 = Pow (radix64, exponents)
  weights = Cast <to = 6> (weights64)
  most64 = Constant <value_int: int = @most> ()
  most32 = Cast <to = 6> (most64)
  left_over, train = Scan <num_scan_inputs = 1, body = spend
    (int32[] v, int32 w) => (int32[] v_next, int32[] s) {
    whole = Div (v, w)
    s = Min (whole, most32)
    spent = Mul (s, w)
    v_next = Sub (v, spent)
  }> (magnitude, weights)
  signed = Mul (train, gate)
  S = Cast <to: int = @to> (signed)
"""
"""ONNX text: `S` from `magnitude` and `gate` (the sign, times what a spike weighs), both int32; needs
`INTEGERS_BODY` and the attribute `most`."""

PEAK_BODY = """
  peak_index = ArgMax <axis: int = @axis, keepdims = 1> (share)
  peak_reduced = GatherElements <axis: int = @axis> (share, peak_index)
  peak_axis64 = Constant <value_int: int = @axis> ()
  peak_one = Constant <value_ints = [1]> ()
  peak_start = Constant <value_ints = [0]> ()
  peak_axis = Reshape (peak_axis64, peak_one)
  peak = Slice (peak_reduced, peak_start, peak_one, peak_axis)
"""
"""ONNX text: `peak`, the maximum of `share` over `axis`, kept as 1; the Slice is for empty tensors."""
