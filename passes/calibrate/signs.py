"""A threshold for each sign of a site, chosen from a histogram of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from spikec.custom_ops.sign_split_encode import execution

from .neuron import Neuron
from .statistics import BINS, LARGEST_SAMPLE, SHIFT, SiteStatistics, bin_values
from .thresholds import HEADROOM

LARGEST_LOG_WEIGHT = 6
"""A spike of the coarser sign weighs at most 64 times one of the finer, so that both fit int8."""
EXACT = 4.0
"""Rounding is computed value by value below so many steps, and taken as uniform from there on."""


@dataclass
class SignStatistics(SiteStatistics):
    """Adds the largest magnitude of each sign, and the histogram of the negative values alone (`below`),
    weighted like that of all."""

    below: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    highest: float = 0.0
    lowest: float = 0.0

    def add(self, x: np.ndarray) -> None:
        super().add(x)
        if not x.size:
            return
        self.highest, self.lowest = max(self.highest, float(x.max())), max(self.lowest, -float(x.min()))
        values = np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1])
        counted = values[:: max(1, values.size // LARGEST_SAMPLE)]
        importance = self._importance(np.abs(counted))
        negative = (counted < 0).reshape(-1)
        bins = np.abs(counted).view(np.uint32).reshape(-1)[negative] >> SHIFT
        weights = None if importance is None else importance[negative]
        self.below += np.bincount(bins, weights, minlength=BINS)


@dataclass(frozen=True)
class SignThresholds:
    """Steps `scale`·`positive` and `scale`·`negative`, and the relative squared error expected."""

    scale: float
    positive: int
    negative: int
    relative_error: float = 0.0

    def neuron(self, bits: int) -> Neuron:
        """The neuron of so many steps."""
        top = 2.0**bits - 1

        def error(x: np.ndarray) -> np.ndarray:
            step = self.scale * np.where(x < 0, self.negative, self.positive)
            return np.maximum(step / 2, np.abs(x) - step * top)

        return Neuron(
            op="SignSplitEncode",
            attributes=execution(
                {"scale": self.scale, "bits": bits, "positive": self.positive, "negative": self.negative},
                True,
            ),
            largest=top * max(self.positive, self.negative),
            error=error,
            scale=self.scale,
            facts=asdict(self),
        )


def split(site: SignStatistics, bits: int) -> SignThresholds:
    """Of the power-of-two ratios of two thresholds that reach HEADROOM times each sign's largest value (or
    the bound), the one of least squared error."""
    levels = 2**bits - 1
    signs = [np.maximum(site.histogram - site.below, 0), site.below]
    reaches = [
        (most * HEADROOM if site.bound is None else site.bound * (most > 0)) / levels
        for most in (site.highest, site.lowest)
    ]
    if not max(reaches):
        return SignThresholds(1.0 / levels, 1, 1)
    big = int(np.argmax(reaches))
    tried = []
    for order in range(LARGEST_LOG_WEIGHT + 1):
        scale = float(np.float32(max(reaches[1 - big], reaches[big] / 2**order)))
        positive, negative = (2**order, 1) if big == 0 else (1, 2**order)
        error = sum(
            _squared_error(histogram, scale * weight, levels)
            for histogram, weight in zip(signs, (positive, negative), strict=True)
        )
        tried.append(SignThresholds(scale, positive, negative, error / _energy(site.histogram)))
    return min(tried, key=lambda t: t.relative_error)


def _energy(histogram: np.ndarray) -> float:
    used = np.flatnonzero(histogram)
    return float((bin_values()[used] ** 2 * histogram[used]).sum()) or 1.0


def _squared_error(histogram: np.ndarray, step: float, levels: int) -> float:
    used = np.flatnonzero(histogram)
    z = bin_values()[used] / step
    code = np.minimum(np.floor(z + 0.5), levels)
    noise = np.where((z < EXACT) | (z > levels), (z - code) ** 2, 1 / 12)
    return float((noise * histogram[used]).sum()) * step**2
