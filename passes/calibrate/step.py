"""How a neuron that does not collapse is stepped: what it emits in a timestep, and what its spikes weigh."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Step:
    """The streaming form of a `Neuron`, whose own operator tells what code it is after.

        Q = neuron.op(X_t);   S_t = op(Q, code_{t-1}, ...);   code_t = code_{t-1} + weights[t]·S_t + offset
        running value of the site = neuron.scale · worth[t] · code_t

    `op` is a catalogue operator with first output S (int32) whose inputs are wired by name: "Q" (int32, the
    neuron's own operator on the running value), "X" (float32, the running value), "code" (int32, before this
    step), "t" (int64 scalar, from 1), one of `constants` or of the neuron's, or else a state (float32, of X's
    shape), which an output `<name>_next` replaces; states and code start as one zero that broadcasts.
    `weights` and `worth` have one entry a timestep; empty means all ones. With θ the worth of a spike:

        sum coding            scale = θ
        mean coding           scale = θ/T                  worth[t] = T/t
        differential coding   scale = θ/lcm(1 … T)         weights[t] = lcm(1 … T)/t

    so that `scale` is what a code is worth in the end. Codes are integers in all three, which makes the
    event-driven execution exact.
    """

    op: str
    attributes: dict[str, Any] = field(default_factory=dict)
    weights: tuple[int, ...] = ()
    offset: int = 0
    worth: tuple[float, ...] = ()
    constants: dict[str, np.ndarray] = field(default_factory=dict)
