"""StepMatMul: the telescoping product of two spike trains, one timestep (QKᵀ, attention·V).

    O' = O + (A - a)·b + a·B          so that      O' = A·B      when      O = (A - a)·(B - b)

A, B: int32 `[1, ..., M, K]` and `[1, ..., K, N]`, the running codes with this step's spikes a, b (int32, the
same shapes) in them; O: float64, the product so far, of the shape of O' or broadcast to it (one zero, before
the first step); O': float64 `[..., M, N]`. Each spike adds or subtracts a row of the other operand's running
code (methods §6.3 rule 3). All sums are integers, exact while |O| < 2**53.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Case, SpikingOp


def step_matmul(
    sum_a: np.ndarray, a: np.ndarray, sum_b: np.ndarray, b: np.ndarray, out: np.ndarray
) -> np.ndarray:
    sum_a, a, sum_b, b = (x[0].astype(np.float64) for x in (sum_a, a, sum_b, b))
    return out + ((sum_a - a) @ b + a @ sum_b)


BODY = """
  first = Constant <value_ints = [0]> ()
  A_before = Sub (A, a)
  A64 = Cast <to = 11> (A_before)
  a64 = Cast <to = 11> (a)
  B64 = Cast <to = 11> (B)
  b64 = Cast <to = 11> (b)
  A_now = Squeeze (A64, first)
  a_now = Squeeze (a64, first)
  B_now = Squeeze (B64, first)
  b_now = Squeeze (b64, first)
  left = MatMul (A_now, b_now)
  right = MatMul (a_now, B_now)
  both = Add (left, right)
  O_next = Add (O, both)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for lead_a, lead_b, (m, k, n), start in (
        ((2, 3), (2, 3), (5, 16, 7), False),
        ((2, 3), (3,), (2, 5, 2), True),
        ((), (), (3, 4, 5), True),
        ((0,), (0,), (2, 3, 2), True),
    ):
        inputs = [
            rng.integers(-9000, 9000, (1, *lead, *size)).astype(np.int32)
            for lead, size in ((lead_a, (m, k)), (lead_a, (m, k)), (lead_b, (k, n)), (lead_b, (k, n)))
        ]
        shape = (*np.broadcast_shapes(lead_a, lead_b), m, n)
        out = np.zeros(()) if start else rng.integers(-(2**30), 2**30, shape).astype(np.float64)
        yield [*inputs, out], {}


OP = SpikingOp(
    name="StepMatMul",
    inputs=("A", "a", "B", "b", "O"),
    outputs=("O_next",),
    attributes={},
    numpy=step_matmul,
    body=BODY,
    cases=cases,
    doc=__doc__,
    kernel=False,
)
