"""LIFEncode: the leaky integrate-and-fire neuron, from a current to the spikes it really fires, step by step.

    u ← beta·u + I_t;   s_t = [u ≥ θ];   u ← u - θ·s_t       for t = 0 … steps-1, from u = 0

I: float32, finite, `[1, ...]`, a constant current injected at every step, or `[steps, ...]`; theta: float32 >
0, of a shape that broadcasts to one step of I; S: int8 `[steps, ...]`, 0 or 1. The reset is soft: what is
over the threshold stays on the membrane. The leak forgets, so a train does not collapse to one integer: both
executions perform every step. All arithmetic is float32, each operation rounded once, and so equal
everywhere. Raises ValueError for another number of currents. Source: the neuron of Spikformer (Zhou et al.,
ICLR 2023, arXiv 2209.15425), its leak written as a factor; NeurTransformer (arXiv 2510.00133) is said to use
it, which we could not verify.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Case, SpikingOp


def lif_encode(current: np.ndarray, theta: np.ndarray, *, beta: float, steps: int) -> np.ndarray:
    if len(current) not in (1, steps):
        raise ValueError(f"LIFEncode: {len(current)} currents for {steps} steps")
    leak, u = np.float32(beta), np.zeros(current.shape[1:], np.float32)
    train = np.zeros((steps, *current.shape[1:]), np.int8)
    for t in range(steps):
        u = leak * u + current[min(t, len(current) - 1)]
        fired = u >= theta
        u = u - theta * fired.astype(np.float32)
        train[t] = fired
    return train


BODY = """
  beta_f = Constant <value_float: float = @beta> ()
  zero1 = Constant <value_ints = [0]> ()
  steps64 = Constant <value_int: int = @steps> ()
  steps1 = Add (zero1, steps64)
  first = Constant <value_ints = [1]> ()
  end = Constant <value_ints = [1000]> ()
  I_shape = Shape (I)
  step_shape = Slice (I_shape, first, end)
  train_shape = Concat <axis = 0> (steps1, step_shape)
  I_all = Expand (I, train_shape)
  u0 = ConstantOfShape <value = float[1] {0.0}> (step_shape)
  u, theta_end, beta_end, S = Scan <num_scan_inputs = 1, body = leak_integrate_fire
    (float[] u_in, float[] theta_in, float beta_in, float[] i)
    => (float[] u_out, float[] theta_out, float beta_out, int8[] s) {
    kept = Mul (u_in, beta_in)
    u_t = Add (kept, i)
    silent = Less (u_t, theta_in)
    fired = Not (silent)
    s = Cast <to = 3> (fired)
    s_f = Cast <to = 1> (fired)
    reset = Mul (theta_in, s_f)
    u_out = Sub (u_t, reset)
    theta_out = Identity (theta_in)
    beta_out = Identity (beta_in)
  }> (u0, theta, beta_f, I_all)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, theta, frames, steps, beta in (
        ((3, 5), (), 1, 4, 0.75),
        ((2, 3, 7, 4), (3, 1, 1), 1, 4, 0.9),
        ((2, 3, 7, 4), (3, 1, 1), 4, 4, 0.5),
        ((33,), (33,), 1, 8, 1.0),
        ((), (), 1, 3, 0.0),
        ((0, 4), (4,), 1, 2, 0.75),
        ((300, 40), (40,), 5, 5, 0.8125),
    ):
        current = (rng.standard_normal((frames, *shape)) + 0.3).astype(np.float32)
        yield [current, np.asarray(rng.random(theta) + 0.5, np.float32)], {"beta": beta, "steps": steps}
    exact = np.array([[1.0, 0.5, 0.25, 0.125, -1.0, 2.0, 0.0, 5.0]], np.float32)  # at the threshold: it fires
    yield [exact, np.array(1.0, np.float32)], {"beta": 1.0, "steps": 4}


OP = SpikingOp(
    name="LIFEncode",
    inputs=("I", "theta"),
    outputs=("S",),
    attributes={"beta": float, "steps": int},
    numpy=lif_encode,
    body=BODY,
    cases=cases,
    doc=__doc__,
)
