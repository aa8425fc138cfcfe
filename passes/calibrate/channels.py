"""Statistics of every channel by itself: its largest magnitudes, and whole rows picked at random."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .statistics import SiteStatistics

KEPT = 128
"""Magnitudes of a channel that are kept: a quantile q is exact while (1 - q) of the tokens are fewer."""
ROWS = 512
"""Rows that a sample holds."""


@dataclass
class ChannelStatistics(SiteStatistics):
    """Adds, at sites that feed linear layers, the KEPT largest magnitudes of each channel (`top`
    `[n, channels]`, in no order)."""

    top: np.ndarray | None = None

    def add(self, x: np.ndarray) -> None:
        super().add(x)
        if self.weight is None or not x.size:
            return
        rows = np.abs(np.ascontiguousarray(x, np.float32)).reshape(-1, x.shape[-1])
        both = rows if self.top is None else np.concatenate([self.top, rows])
        if len(both) > KEPT:
            both = np.partition(both.T, both.shape[0] - KEPT, -1)[:, -KEPT:].T
        self.top = both

    def channel_quantile(self, q: float) -> np.ndarray:
        """The magnitude `[channels]` that a share q of the tokens does not pass, float64: of n tokens the
        ⌈q·n⌉-th smallest, or the smallest that was kept where that is larger."""
        assert self.top is not None
        above = min(len(self.top) - 1, self.tokens - math.ceil(q * self.tokens))
        return np.partition(self.top, len(self.top) - 1 - above, 0)[len(self.top) - 1 - above].astype(
            np.float64
        )


@dataclass
class RowStatistics(ChannelStatistics):
    """Adds a sample of ROWS whole rows, every row seen with the same chance (`rows` `[n, channels]`)."""

    rows: np.ndarray | None = None
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, x: np.ndarray) -> None:
        super().add(x)
        if self.weight is None or not x.size:
            return
        new = np.asarray(x, np.float32).reshape(-1, x.shape[-1])
        keys = np.concatenate([self.keys, np.random.default_rng(self.tokens).random(len(new))])
        order = np.argsort(keys, kind="stable")[:ROWS]
        held = len(self.keys)
        kept, fresh = order[order < held], order[order >= held] - held
        parts = [new[fresh]] if self.rows is None else [self.rows[kept], new[fresh]]
        self.rows, self.keys = np.concatenate(parts), keys[np.r_[kept, fresh + held]]
