"""What a step costs a site, from its histogram: events a value, and squared error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikec.custom_ops.few_spikes_encode import spelling

from ..calibrate.statistics import SiteStatistics, bin_values
from .rounding import rounding

STEPS = 2.0 ** np.arange(-6, 2.01, 0.25)
"""Steps tried, as multiples of the root mean square."""


@dataclass(frozen=True)
class Curve:
    """For each of `steps` (ascending, in units of u): events a value, and error relative to the energy."""

    steps: np.ndarray
    events: np.ndarray
    error: np.ndarray
    rms: float


def curve(site: SiteStatistics, penalty: float, basis: int, digits: int) -> Curve:
    """The curve of a site under rounding of that penalty to codes of that basis; all steps and bins of the
    histogram at once."""
    used = np.flatnonzero(site.histogram[1:]) + 1
    values, counts = bin_values()[used], site.histogram[used] / max(site.histogram.sum(), 1e-30)
    energy = float((values**2 * counts).sum())
    rms = np.sqrt(energy) if energy else 1.0
    boundaries, levels = rounding(penalty, basis, digits)
    steps = STEPS * rms
    z = values[None, :] / steps[:, None]
    gate = 2.0 ** np.ceil(np.log2(np.maximum(z / (levels[-1] + 0.5), 1.0)))
    code = levels[np.searchsorted(boundaries, (z / gate).astype(np.float32))]
    error = (z - code * gate) ** 2 * steps[:, None] ** 2
    events = (spelling(basis, digits)[0][code] * counts).sum(-1)
    return Curve(steps, events, (error * counts).sum(-1) / max(energy, 1e-30), float(rms))
