"""STA: burst neurons, whose threshold is the one of least squared error on a grid.

Source: STA (ICLR 2024) as SpikingJelly implements it (methods §1.9): u = r + I, n = trunc(u/V), a graded
spike n·V, V = f·max/T with f the best of 31 factors from 0.125 to 2. The value is driven as x/T at each
of T steps (with x at t = 0 the whole code would be one burst and T mean nothing), so T counts levels: the
code goes to T/f. The steps collapse to trunc(x/V), a bias toward zero that the published V pays for with
a smaller step; `rounding=half` starts the membrane at V/2 and rounds to nearest. Events are unit spikes:
a burst of n is n.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calibrate.channels import RowStatistics
from ..calibrate.neuron import Neuron, Site
from ..calibrate.rate import rate_neuron
from ..calibrate.statistics import SiteStatistics, bin_values
from .method import Method, Option, Options

FACTORS = np.linspace(0.125, 2.0, 31)
BURST = 127
"""Units of one spike: what int8 holds; a code of 256 steps then fits int16."""
LONGEST = 256
COARSE = 16.0
"""From so many steps on rounding is taken as uniform: a bin of the histogram is wider than a step there."""


def squared_error(z: np.ndarray, half: bool) -> np.ndarray:
    """Of values in steps, in steps²."""
    code = np.floor(z + 0.5) if half else np.floor(z)
    return np.where(z < COARSE, (z - code) ** 2, 1 / 12 if half else 1 / 3)


def grid(site: Site, timesteps: int, half: bool, per_channel: bool) -> tuple[np.ndarray, float]:
    """(V float32, `[channels]` or `[1]`; the factor of least squared error)."""
    statistics = site.statistics
    most = np.array([statistics.largest if statistics.bound is None else statistics.bound])
    values, counts = bin_values(), statistics.histogram
    values, counts = values[counts > 0], counts[counts > 0]
    importance = np.ones(1)
    if per_channel and isinstance(statistics, RowStatistics) and statistics.rows is not None:
        most, importance = np.asarray(statistics.channel_max, np.float64), np.asarray(statistics.weight)
        values, counts = np.abs(statistics.rows.astype(np.float64)), importance
    most = np.where(most > 0, most, np.max(most) if np.max(most) > 0 else 1.0)
    errors = []
    for factor in FACTORS:
        v = factor * most / timesteps
        errors.append(float((counts * v**2 * squared_error(values / v, half)).sum()))
    best = float(FACTORS[int(np.argmin(errors))])
    v = np.maximum(best * most / timesteps, np.finfo(np.float32).tiny)
    return v.astype(np.float32), best


def burst(site: Site, timesteps: int, options: Options) -> Neuron:
    half = options["rounding"] == "half"
    v, factor = grid(site, timesteps, half, options["per_channel"])
    made = rate_neuron(v, timesteps, BURST, half, channels=site.role == "linear")
    made.facts["factor"] = factor
    return made


def honours(timesteps: int, options: Options) -> str:
    return (
        "" if 1 <= timesteps <= LONGEST else f"its trains have 1 to {LONGEST} steps; choose -T 1 to {LONGEST}"
    )


def statistics(role: str, importance: Any) -> SiteStatistics:
    return RowStatistics(importance)


STA = Method(
    name="sta",
    source="STA, ICLR 2024 (openreview XrunSYwoLr); encoder and grid as in SpikingJelly",
    neuron="burst neuron, threshold of least squared error among 31",
    guarantee="L1: decodes to trunc(x/V)·V (to nearest with rounding=half) at any T",
    cost="|x|/V unit spikes a value; the finest V is max/8T, so one outlier erases the rest of its site",
    level="L1",
    collapses=True,
    timesteps=8,
    choose=burst,
    options={
        "rounding": Option("trunc", "trunc (published) or half (to nearest)", choices=("trunc", "half")),
        "per_channel": Option(False, "true gives each input channel of linear layers a threshold of its own"),
    },
    honours=honours,
    statistics=statistics,
)
