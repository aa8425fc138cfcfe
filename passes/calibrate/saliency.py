"""Which channels of a site matter most: SpikeLLM's saliency, by absolute value, streaming."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from spikec.ir.weights import array

from .statistics import SiteStatistics

ROWS = 128
"""Tokens of one stretch of calibration text that saliency is measured on."""
KEPT = 128
"""Tokens whose values are kept, evenly spread over all that were seen."""


@dataclass
class SaliencyStatistics(SiteStatistics):
    """With, for a site that weights read, `saliency` E|x_c · (x Σ W Wᵀ)_c| of every channel (SpikeLLM,
    arXiv 2407.04752, OBSpiking; the absolute value is ours, its signed score calls strongly negative products
    low) and `rows`, some of its tokens `[n, C]`."""

    saliency: np.ndarray | float = 0.0
    rows: list[np.ndarray] = field(default_factory=list)
    stride: int = 1

    def add(self, x: np.ndarray) -> None:
        super().add(x)
        if not self.readers or not x.size:
            return
        tokens = np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1])
        tokens = tokens[:: -(-len(tokens) // ROWS)]
        pull = np.zeros(tokens.shape, np.float32)
        for weight in map(array, self.readers):
            pull += (tokens @ weight) @ weight.T
        self.saliency = self.saliency + np.abs(tokens * pull).sum(0, dtype=np.float64)
        self.rows += list(tokens[:: self.stride].copy())
        while len(self.rows) > KEPT:
            self.rows = self.rows[::2]
            self.stride *= 2

    def salient(self, share: float) -> np.ndarray:
        """Which channels are among the most salient `share` (bool `[C]`)."""
        score = np.atleast_1d(self.saliency)
        mask = np.zeros(score.size, bool)
        mask[np.argsort(-score, kind="stable")[: round(share * score.size)]] = True
        return mask
