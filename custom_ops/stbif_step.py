"""STBIFStep: the ternary neuron with tracer, one timestep: at most one spike towards what its input asks for.

With the tracer acc (the running code) and the membrane q, q_0 = 1/2, the published neuron is

    q ← q + x_t/θ
    S = +1 if q ≥ 1 and acc < p_max;   S = -1 if q < 0 and acc > n_min
    acc ← acc + S;   q ← q - S

Its membrane is q = 1/2 + X_t/θ - acc at all times (X_t: the sum of what arrived), so q ≥ 1 says
⌊X_t/θ + ½⌋ > acc, and q < 0 says ⌊X_t/θ + ½⌋ < acc. With Q = clip(⌊X_t/θ + ½⌋, n_min, p_max), the code of the
site's encoder,

    S = sign(Q - code)

which needs no membrane and cannot drift. Q: int32; code: int32, of the shape of Q or broadcast to it (one
zero, before the first step); S: int32 in {-1, 0, 1}. Once the input has stopped, |Q - code| more steps settle
the neuron. Source: SpikeZIP-TF (arXiv 2406.03470) ST-BIF+, methods §1.6.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Attributes, Case, SpikingOp


def stbif_step(wanted: np.ndarray, code: np.ndarray) -> np.ndarray:
    return np.sign(wanted - code).astype(np.int32)


def events(spikes: np.ndarray, attributes: Attributes) -> np.ndarray:
    return np.abs(spikes)


BODY = """
  rest = Sub (Q, code)
  S = Sign (rest)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, before in (((1, 3, 5), (1, 3, 5)), ((1, 4), ()), ((1,), ()), ((1, 0, 2), ())):
        wanted, code = rng.integers(-3, 4, shape), rng.integers(-3, 4, before)
        yield [wanted.astype(np.int32), np.asarray(code, np.int32)], {}


OP = SpikingOp(
    name="STBIFStep",
    inputs=("Q", "code"),
    outputs=("S",),
    attributes={},
    numpy=stbif_step,
    body=BODY,
    cases=cases,
    doc=__doc__,
    events=events,
    kernel=False,
)
