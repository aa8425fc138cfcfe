"""How one site is encoded: the operator, its constants, and what a code is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikec.custom_ops.catalogue import OPS

from .statistics import SiteStatistics
from .step import Step


@dataclass(frozen=True)
class Site:
    """A tensor that will be encoded. `role` is what reads it: "linear" (the input of constant weights), "q",
    "k" (keys, already transposed `[..., channels, keys]`), "p" (attention weights), "v", or "left", "right"
    of any other product of two activations."""

    name: str
    role: str
    statistics: SiteStatistics


@dataclass(frozen=True)
class Neuron:
    """The encoder of one site, `code = op(x, *constants)`, and its decoded value
    x ≈ scale · (code - offset) · worth.

    `worth` is `channels` where given (float32 `[C]`, one value a channel of the last axis: folded into the
    weights of the layers that read the site, and so allowed for role "linear" only), or, where `dynamic`, the
    operator's second output (broadcastable to x, one along the axis that a product sums over). `offset` is
    folded into a constant of each layer that reads the site, and so for role "linear" only too. `gains`
    (float32 `[C]`), where given, multiply x before it is encoded. `attributes`
    are those of the packed train; `radix` that of the unrolled one. `error(x)` bounds |x - decoded| for every
    value; certificates hold the rewrite to it. `step` is how a method that does not collapse steps it.
    """

    op: str
    attributes: dict[str, Any]
    largest: float
    error: Callable[[np.ndarray], np.ndarray]
    scale: float = 1.0
    offset: int = 0
    radix: int = 2
    channels: np.ndarray | None = None
    gains: np.ndarray | None = None
    dynamic: bool = False
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    step: Step | None = None

    def encode(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | np.float32]:
        """(the packed train `[1, *x.shape]`, what code 1 is worth besides `scale`), by the definition."""
        x = x if self.gains is None else x * self.gains
        made = OPS[self.op].numpy(x, *self.constants.values(), **self.attributes)
        if self.dynamic:
            return made[0], made[1]
        return made, np.float32(1) if self.channels is None else self.channels
