"""SpikeFunction: a hierarchically gated bit-serial neuron for any scalar function.

The input's range is cut into segments in which the function is monotone and its output lies within one
octave; a comparator gates the segment g, which then approximates its output bit by bit:

    g = max(0, #{edges < X} - 1);   c = bit_serial(X; θ_g);   code = base_g + stride_g · c

S_0 carries base_g (the gate's spike), S_1 … S_bits the bits times stride_g; with steps = 1 they arrive
summed. The value is scale·ΣS (radix 1, sum coding), error ≤ one stride. X: float32, any shape; edges:
float32 `[G]` ascending, the first -∞; thresholds: float32 `[G, 2**bits]`; base, stride: int32 `[G]`; S: int32
`[steps, *X.shape]`, steps 1 or bits + 1. NaN passes no threshold: it gives base_0. Sources: LAS's HG neuron
(arXiv 2505.09659) with the successive approximation of methods §6.5 in place of its tables; `fit` computes
the constants.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Attributes, Case, SpikingOp
from .train import INTEGERS_BODY, bit_serial, bit_serial_body


def function(
    x: np.ndarray,
    edges: np.ndarray,
    thresholds: np.ndarray,
    base: np.ndarray,
    stride: np.ndarray,
    *,
    bits: int,
    steps: int,
) -> np.ndarray:
    segment = np.maximum((x[..., None] > edges).sum(-1) - 1, 0)
    code = bit_serial(x, thresholds, bits, segment)
    digits = (code[None] >> np.arange(bits - 1, -1, -1).reshape((-1,) + (1,) * x.ndim)) & 1
    weights = (1 << np.arange(bits - 1, -1, -1)).reshape((-1,) + (1,) * x.ndim)
    train = np.concatenate([base[segment][None], digits * weights * stride[segment]]).astype(np.int32)
    return train if steps > 1 else train.sum(0, keepdims=True, dtype=np.int32)


BODY = (
    INTEGERS_BODY.replace("  radix64 = Constant <value_int: int = @radix> ()\n", "")
    + """
  bits64 = Constant <value_int: int = @bits> ()
  minus1 = Constant <value_ints = [-1]> ()
  X_shape = Shape (X)
  front = Constant <value_ints = [0]> ()
  flat = Reshape (thresholds, minus1)
  never = Less (X, X)
  none = Cast <to = 7> (never)
  gates, X_end = Scan <num_scan_inputs = 1, body = count
    (int64[] passed, float[] x_gate, float edge) => (int64[] passed_next, float[] x_next) {
    over = Less (edge, x_gate)
    over64 = Cast <to = 7> (over)
    passed_next = Add (passed, over64)
    x_next = Identity (x_gate)
  }> (none, X, edges)
  behind = Sub (gates, one64)
  nought = Sub (one64, one64)
  segment = Max (behind, nought)
  two64 = Constant <value_int = 2> ()
  span = Pow (two64, bits64)
  row = Mul (segment, span)
"""
    + bit_serial_body("X", "flat", "code", row="row", emit=True)
    + """
  stride64 = Cast <to = 7> (stride)
  base64 = Cast <to = 7> (base)
  stride_x = Gather <axis = 0> (stride64, segment)
  base_x = Gather <axis = 0> (base64, segment)
  strides = Mul (code_bits, stride_x)
  gate = Unsqueeze (base_x, front)
  train = Concat <axis = 0> (gate, strides)
  length = Add (bits64, one64)
  folded = Div (length, steps64)
  steps1 = Unsqueeze (steps64, front)
  folded1 = Unsqueeze (folded, front)
  shape = Concat <axis = 0> (steps1, folded1, X_shape)
  train_folded = Reshape <allowzero = 1> (train, shape)
  fold_axis = Constant <value_ints = [1]> ()
  S64 = ReduceSum <keepdims = 0> (train_folded, fold_axis)
  S = Cast <to = 6> (S64)
"""
)


def execution(attributes: Attributes, packed: bool) -> Attributes:
    return attributes | {"steps": 1 if packed else attributes["bits"] + 1}


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for bits, segments, shape in ((4, 3, (3, 5)), (8, 1, (2, 2, 9)), (6, 5, ()), (5, 2, (0, 3))):
        edges = np.sort(np.r_[-np.inf, rng.standard_normal(segments - 1)]).astype(np.float32)
        thresholds = np.sort(rng.standard_normal((segments, 2**bits)), -1).astype(np.float32)
        base = rng.integers(-50, 50, segments).astype(np.int32)
        stride = (2 ** rng.integers(0, 5, segments) * rng.choice([-1, 1], segments)).astype(np.int32)
        x = (2 * rng.standard_normal(shape)).astype(np.float32)
        if x.ndim > 1:
            x[..., -1] = np.nan
        for steps in (1, bits + 1):
            yield [x, edges, thresholds, base, stride], {"bits": bits, "steps": steps}


OP = SpikingOp(
    name="SpikeFunction",
    inputs=("X", "edges", "thresholds", "base", "stride"),
    outputs=("S",),
    attributes={"bits": int, "steps": int},
    numpy=function,
    body=BODY,
    cases=cases,
    doc=__doc__,
    execution=execution,
)
