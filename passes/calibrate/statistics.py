"""Streaming statistics of one site: a fine logarithmic histogram of magnitudes, channel maxima, outlier
tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

MANTISSA_BITS = 6
SHIFT = 23 - MANTISSA_BITS
BINS = 1 << (8 + MANTISSA_BITS)
"""64 bins an octave over the whole float32 range: 1 % wide, so quantisation error can be read off the
histogram."""

LARGEST_SAMPLE = 1 << 20
"""Values of one tensor that enter the histogram (every n-th row of a larger one); maxima see them all."""
CHANNEL_RATIO = 6.0
TOKEN_RATIO = 20.0


def bin_values() -> np.ndarray:
    """The magnitude in the middle of every bin; 0 for the first."""
    bits = (np.arange(BINS, dtype=np.uint32) << SHIFT) + (1 << (SHIFT - 1))
    with np.errstate(invalid="ignore"):
        values = bits.astype(np.uint32).view(np.float32).astype(np.float64)
    values[0] = 0.0
    return values


@dataclass
class SiteStatistics:
    """Activations `[..., channels]` seen so far at one site. `weight`, when given, is each channel's
    importance Σ_n W[c, n]² (how much an error there costs downstream); the histogram is weighted by it.
    `bound`, when given, is what no value can pass; `readers` are the constant weights `[C, N]` that read the
    site."""

    weight: np.ndarray | None = None
    bound: float | None = None
    readers: list[gs.Constant] = field(default_factory=list)
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    channel_max: np.ndarray | None = None
    outlier_tokens: int = 0
    tokens: int = 0
    count: int = 0
    negative: bool = False

    def add(self, x: np.ndarray) -> None:
        if not x.size:  # an expert that no token was sent to
            return
        magnitude = np.abs(np.ascontiguousarray(x, np.float32))
        rows = magnitude.reshape(-1, magnitude.shape[-1])
        counted = rows[:: max(1, rows.size // LARGEST_SAMPLE)]
        bins = (counted.view(np.uint32) >> SHIFT).reshape(-1)
        self.histogram += np.bincount(bins, self._importance(counted), minlength=BINS)
        self.negative |= bool(x.size and x.min() < 0)
        self.count += rows.size
        if self.weight is None:
            self.channel_max = np.maximum(
                0.0 if self.channel_max is None else self.channel_max, rows.max(initial=0.0)
            )
            return
        row_max = rows.max(-1)
        seen = rows.max(0)
        self.channel_max = seen if self.channel_max is None else np.maximum(self.channel_max, seen)
        self.outlier_tokens += (
            int((row_max > TOKEN_RATIO * np.quantile(row_max, 0.99)).sum()) if len(rows) > 1 else 0
        )
        self.tokens += len(rows)

    def _importance(self, rows: np.ndarray) -> np.ndarray | None:
        """Each value's weight: its channel's importance, over the row's energy where that is far above the
        median's.

        A massive token's residual is as large as its activations, so the same relative error costs it no more
        than it costs any other token; without this the one token on position 0 would set the step for all the
        rest.
        """
        if self.weight is None:
            return None
        energy = (rows.astype(np.float64) ** 2) @ self.weight
        calm = 1 / (1 + energy / max(float(np.median(energy)), 1e-30))
        return np.asarray(calm[:, None] * self.weight).reshape(-1)

    @property
    def largest(self) -> float:
        return float(np.max(self.channel_max)) if self.channel_max is not None else 0.0

    def quantile(self, q: float) -> float:
        """The magnitude below which a share q of the (weighted) histogram lies."""
        total = np.cumsum(self.histogram)
        return float(bin_values()[int(np.searchsorted(total, q * total[-1]))]) if total[-1] else 0.0

    @property
    def outlier_channels(self) -> list[int]:
        """Channels whose maximum is over six times the median channel's."""
        if self.weight is None or self.channel_max is None:
            return []
        return np.flatnonzero(self.channel_max > CHANNEL_RATIO * np.median(self.channel_max)).tolist()

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Values distributed like the site's, for certificates."""
        total = self.histogram.sum()
        if not total:
            return np.zeros(shape, np.float32)
        picks = rng.choice(BINS, shape, p=self.histogram / total)
        values = np.minimum(bin_values()[picks] * (1 + 0.01 * rng.random(shape)), self.largest)
        return (values * (rng.choice([-1, 1], shape) if self.negative else 1)).astype(np.float32)

    def summary(self) -> dict[str, object]:
        """What the report keeps."""
        return {
            "max": self.largest,
            "p50": self.quantile(0.5),
            "p99": self.quantile(0.99),
            "p99.9": self.quantile(0.999),
            "outlier_channels": self.outlier_channels[:32],
            "outlier_tokens": self.outlier_tokens,
            "values": self.count,
        }
