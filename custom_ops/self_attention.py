"""SpikeSelfAttention: spike-based self-attention, two products of 0/1 spikes at each step and no softmax.

    A_t = (Q_t K_t) ⊙ causal;   I_t = scale · (A_t V_t)          for every step t by itself

Q: int8 `[steps, ..., M, K]`; K: int8 `[steps, ..., K, N]`, transposed already; V: int8 `[steps, ..., N, D]`;
the leading axes of all three are equal; I: float32 `[steps, ..., M, D]`, the current of the neuron that
follows. With `causal` 1, query m sees the keys n ≤ m + N - M (of a longer cache all the earlier ones), with 0
all. A_t counts the channels in which query and key fire together, an integer; every product is an
accumulation. Sums are exact in float64, the product with scale rounds once. Raises ValueError when shapes do
not fit. Source: the spiking self-attention of Spikformer (Zhou et al., ICLR 2023, arXiv 2209.15425).
NeurTransformer (arXiv 2510.00133) names its attention so; its own equations could not be obtained, that they
are these is assumed (verified = false).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Case, SpikingOp


def self_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, *, scale: float, causal: int) -> np.ndarray:
    (m, inner), n = q.shape[-2:], v.shape[-2]
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2] or k.shape[-2:] != (inner, n):
        raise ValueError(f"SpikeSelfAttention: {q.shape}, {k.shape} and {v.shape} do not fit")
    visible = np.arange(n) <= np.arange(m)[:, None] + (n - m) if causal else np.ones((m, n), bool)
    counts = (q.astype(np.float64) @ k.astype(np.float64)) * visible
    return ((counts @ v.astype(np.float64)) * np.float64(np.float32(scale))).astype(np.float32)


BODY = """
  scale_f = Constant <value_float: float = @scale> ()
  scale64 = Cast <to = 11> (scale_f)
  causal_i = Constant <value_int: int = @causal> ()
  nought = Constant <value_int = 0> ()
  one = Constant <value_int = 1> ()
  minus2 = Constant <value_ints = [-2]> ()
  minus1 = Constant <value_ints = [-1]> ()
  end = Constant <value_ints = [1000]> ()
  first = Constant <value_ints = [0]> ()
  Q_shape = Shape (Q)
  K_shape = Shape (K)
  m1 = Slice (Q_shape, minus2, minus1)
  n1 = Slice (K_shape, minus1, end)
  m = Squeeze (m1, first)
  n = Squeeze (n1, first)
  row = Range (nought, m, one)
  column = Range (nought, n, one)
  rows = Unsqueeze (row, minus1)
  longer = Sub (n1, m1)
  last = Add (rows, longer)
  later = Greater (column, last)
  is_causal = Cast <to = 9> (causal_i)
  hidden = And (later, is_causal)
  visible = Not (hidden)
  visible64 = Cast <to = 11> (visible)
  scale_end, seen, I = Scan <num_scan_inputs = 3, body = attend
    (double scale_in, double[] visible_in, int8[] q, int8[] k, int8[] v)
    => (double scale_out, double[] visible_out, float[] i) {
    q64 = Cast <to = 11> (q)
    k64 = Cast <to = 11> (k)
    v64 = Cast <to = 11> (v)
    counts = MatMul (q64, k64)
    attended = Mul (counts, visible_in)
    mixed = MatMul (attended, v64)
    scaled = Mul (mixed, scale_in)
    i = Cast <to = 1> (scaled)
    scale_out = Identity (scale_in)
    visible_out = Identity (visible_in)
  }> (scale64, visible64, Q, K, V)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for steps, lead, m, k, n, d, causal in (
        (4, (2, 3), 7, 16, 7, 8, 1),
        (4, (2, 3), 7, 16, 7, 8, 0),
        (2, (3,), 1, 5, 9, 4, 1),
        (3, (), 6, 33, 11, 65, 1),
        (1, (1, 2), 40, 32, 40, 32, 1),
        (2, (0, 2), 3, 4, 3, 4, 1),
    ):
        spikes = [
            (rng.random((steps, *lead, *matrix)) < share).astype(np.int8)
            for matrix, share in (((m, k), 0.3), ((k, n), 0.4), ((n, d), 0.2))
        ]
        yield spikes, {"scale": 0.0371, "causal": causal}


OP = SpikingOp(
    name="SpikeSelfAttention",
    inputs=("Q", "K", "V"),
    outputs=("I",),
    attributes={"scale": float, "causal": int},
    numpy=self_attention,
    body=BODY,
    cases=cases,
    doc=__doc__,
)
