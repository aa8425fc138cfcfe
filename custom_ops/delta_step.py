"""DeltaStep: the graded delta quantiser, one timestep: emit at once all that the running code lacks.

    S = Q - code            so that      code + S = Q(X_t)      whatever arrived before

Q: int32, the code that the site's encoder gives for the running value X_t of its input; code: int32, the sum
of what this neuron has emitted, of the shape of Q or broadcast to it (one zero, before the first step); S:
int32, graded and signed: a neuron that promised too much takes it back. Over all steps it telescopes to the
code of the last running value for any order of arrival, so no calibration and no settling are needed. Source:
DeltaQuant of methods §1.3.3 and §6.1, a graded form of SpikeZIP's ternary neuron with tracer (arXiv
2406.03470).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Attributes, Case, SpikingOp
from .train import ones


def delta_step(wanted: np.ndarray, code: np.ndarray) -> np.ndarray:
    return (wanted - code).astype(np.int32)


def events(spikes: np.ndarray, attributes: Attributes) -> np.ndarray:
    """A graded spike counts as the binary digits of its size that are one."""
    return ones(spikes)


BODY = """
  S = Sub (Q, code)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, before in (((1, 3, 5), (1, 3, 5)), ((1, 4), ()), ((1,), ()), ((1, 0, 2), ())):
        wanted, code = rng.integers(-9000, 9000, shape), rng.integers(-9000, 9000, before)
        yield [wanted.astype(np.int32), np.asarray(code, np.int32)], {}


OP = SpikingOp(
    name="DeltaStep",
    inputs=("Q", "code"),
    outputs=("S",),
    attributes={},
    numpy=delta_step,
    body=BODY,
    cases=cases,
    doc=__doc__,
    events=events,
    kernel=False,
)
