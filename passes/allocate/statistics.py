"""Statistics of a site in units of what an error there costs downstream.

A step θ_c of channel c costs θ_c²/12 · ‖W_c‖² in the layers that read it, so that with u = |x_c|·‖W_c‖ one
step on u, the same for all channels, spreads the error best: θ_c = step/‖W_c‖ (reverse water-filling).
"""

from __future__ import annotations

import numpy as np

from ..calibrate.statistics import SiteStatistics

CALM = 4.0
"""Rows of more than this many times the median's energy count as if they had only that much: a massive
token's residual is as large as its activations."""


def row_weights(energy: np.ndarray) -> np.ndarray:
    """min(1, CALM · median / energy) of every row."""
    middle = max(float(np.median(energy)), 1e-30)
    return np.asarray(np.minimum(1.0, CALM * middle / np.maximum(energy, 1e-30)))


class WeightedStatistics(SiteStatistics):
    """The histogram and maxima of u = |x_c|·norms[c]; rows weighted by `row_weights`."""

    def __init__(self, importance: np.ndarray | None = None) -> None:
        super().__init__(None if importance is None else np.asarray(importance, np.float64))
        self.shape: tuple[int, ...] = ()
        self.norms = None
        if importance is not None:
            norms = np.sqrt(np.asarray(importance, np.float64))
            self.norms = np.maximum(norms, 1e-3 * max(float(norms.mean()), 1e-30)).astype(np.float32)

    def add(self, x: np.ndarray) -> None:
        self.shape = x.shape
        super().add(x if self.norms is None else x * self.norms)

    def _importance(self, rows: np.ndarray) -> np.ndarray | None:
        if self.norms is None:
            return None
        weights = row_weights(np.einsum("tc,tc->t", rows, rows, dtype=np.float64))
        return np.repeat(weights, rows.shape[-1])

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        u = super().draw(rng, shape)
        return u if self.norms is None else (u / self.norms).astype(np.float32)
