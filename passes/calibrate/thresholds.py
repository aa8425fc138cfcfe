"""Thresholds of the outlier-aware encoder, chosen from data: the step and range ratio of least squared error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

from .statistics import SiteStatistics, bin_values

LARGEST_LOG_RATIO = 6
"""A spike of the outlier range weighs at most 64, so that a signed spike fits int8."""
STEPS_TRIED = np.exp2(np.linspace(-3.0, 0.5, 57))
HEADROOM = 1.25
"""The outlier range reaches this far beyond the largest value seen."""


@dataclass(frozen=True)
class Threshold:
    """One encoder: code step Δ (`scale`), outlier range `ratio` times coarser, and the relative error expected."""

    scale: float
    ratio: int
    relative_error: float
    outliers: float


@compiler_pass(after=["observe"])
def choose_thresholds(program: Program, *, timesteps: int = 16) -> None:
    """`program.thresholds`: a Threshold by site name."""
    for name, site in program.statistics["sites"].items():
        program.thresholds[name] = choose(site, timesteps)


def choose(site: SiteStatistics, bits: int) -> Threshold:
    """The (Δ, ratio) of least mean squared error whose outlier range covers HEADROOM times the maximum."""
    levels = 2**bits - 1
    used = np.flatnonzero(site.histogram)
    used = used[used > 0]
    if not used.size:
        return Threshold(1.0 / levels, 1, 0.0, 0.0)
    values, counts = bin_values()[used], site.histogram[used]
    energy = float((values**2 * counts).sum())
    reach = site.largest * HEADROOM / levels
    best: Threshold | None = None
    for log_ratio in range(LARGEST_LOG_RATIO + 1):
        ratio = 2**log_ratio
        scales = reach / ratio * (STEPS_TRIED[STEPS_TRIED >= 1.0] if log_ratio else np.ones(1))
        for scale in scales:
            error, outliers = _squared_error(values, counts, float(scale), ratio, levels)
            if best is None or error / energy < best.relative_error:
                best = Threshold(float(np.float32(scale)), ratio, error / energy, outliers / counts.sum())
    assert best is not None
    return best


def _squared_error(values: np.ndarray, counts: np.ndarray, scale: float, ratio: int, levels: int) -> tuple[float, float]:
    """(Σ counts·error², Σ counts in the outlier range): uniform rounding noise, exact below four steps."""
    z = values / scale
    outlier = z >= levels + 0.5
    step = np.where(outlier, scale * ratio, scale)
    noise = np.where(z < 4, ((np.floor(z + 0.5) - z) * scale) ** 2, step**2 / 12)
    top = scale * ratio * levels
    noise = np.where(values > top, (values - top) ** 2, noise)
    return float((noise * counts).sum()), float(counts[outlier].sum())
