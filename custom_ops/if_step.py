"""IFStep: the integrate-and-fire neuron with soft reset, one timestep, in mean coding.

The published neuron (FAS; v₀ in units of θ) is

    v ← v + x_t;   s_t = θ where v ≥ θ, else 0;   v ← v - s_t          decoded value (1/T)·Σ s_t

With the running mean X_t = (1/t)·Σ_{τ≤t} x_τ of its input and code = Σ s_τ/θ, its membrane is
v = v₀·θ + t·X_t - θ·code at all times, so

    S = clip(⌊t·X_t/θ + v₀⌋ - code, least, 1)

which needs no membrane and cannot drift. least = 0 is the published, unsigned neuron. least = -1 is a pair
with opposite synapses on one membrane, which also fires -θ where v < 0: ours, for sites that take both signs.
An unsigned neuron can never take back what it emitted too early; with input that changes over the steps it is
not the quantiser of IFEncode, and more steps do not cure that (methods §7, golden 12). X: float32; code:
int32 `[1, *X.shape]` or a scalar (zero, before the first step); t: int64, from 1; theta, v0: float32 scalars
or one a channel of the last axis; least: float32 scalar; S: int32 `[1, *X.shape]`, in {least … 1}. Source:
FAS (arXiv 2502.04405), methods §1.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .spec import Attributes, Case, SpikingOp


def if_step(
    x: np.ndarray, code: np.ndarray, t: np.ndarray, theta: np.ndarray, v0: np.ndarray, least: np.ndarray
) -> np.ndarray:
    current = x.astype(np.float64) / np.asarray(theta).astype(np.float64)
    membrane = np.floor(current * np.asarray(t).astype(np.float64) + np.asarray(v0).astype(np.float64))[None]
    excess = np.maximum(membrane - code, np.asarray(least).astype(np.float64))
    return np.minimum(excess, 1.0).astype(np.int32)


def events(spikes: np.ndarray, attributes: Attributes) -> np.ndarray:
    return np.abs(spikes)


BODY = """
  first = Constant <value_ints = [0]> ()
  one = Constant <value = double {1.0}> ()
  X64 = Cast <to = 11> (X)
  theta64 = Cast <to = 11> (theta)
  v064 = Cast <to = 11> (v0)
  t64 = Cast <to = 11> (t)
  code64 = Cast <to = 11> (code)
  least64 = Cast <to = 11> (least)
  current = Div (X64, theta64)
  arrived = Mul (current, t64)
  v = Add (arrived, v064)
  fires = Floor (v)
  held = Unsqueeze (fires, first)
  excess = Sub (held, code64)
  enough = Max (excess, least64)
  spike = Min (enough, one)
  S = Cast <to = 6> (spike)
"""


def cases(rng: np.random.Generator) -> Iterator[Case]:
    for shape, t, least in (((3, 5), 1, 0), ((2, 3, 4), 3, -1), ((7,), 8, -1), ((), 2, 0), ((0, 2), 1, -1)):
        x = (rng.standard_normal(shape) * 2).astype(np.float32)
        size = shape[-1:] if len(shape) > 1 else ()
        theta, v0 = rng.random(size, np.float32) + np.float32(0.2), rng.random(size, np.float32)
        before = np.zeros((), np.int32) if t == 1 else rng.integers(-3, t, (1, *shape)).astype(np.int32)
        rest = [np.asarray(theta), np.asarray(v0), np.array(least, np.float32)]
        yield [x, before, np.array(t, np.int64), *rest], {}


OP = SpikingOp(
    name="IFStep",
    inputs=("X", "code", "t", "theta", "v0", "least"),
    outputs=("S",),
    attributes={},
    numpy=if_step,
    body=BODY,
    cases=cases,
    doc=__doc__,
    events=events,
    kernel=False,
)
