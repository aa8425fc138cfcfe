"""Integrate-and-fire neurons of streaming methods: thresholds placed by least squared error, per channel
where they may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .channels import RowStatistics
from .neuron import Neuron, Site
from .statistics import bin_values
from .step import Step

CLIPS = np.exp2(-np.arange(0, 8.01, 0.25)).astype(np.float64)
"""Where the largest code may lie, as a share of the largest value."""
SMALLEST = 1e-6
"""The least θ of a channel, as a share of the site's largest."""


def massive(site: Site) -> bool:
    """Whether single tokens are so large that one range cannot hold them and the others too."""
    return site.statistics.outlier_tokens > 0


def signed(site: Site) -> bool:
    return site.statistics.negative and site.role != "p"


def threshold(site: Site, low: float, high: float) -> np.ndarray:
    """θ, what code 1 is worth, for codes low … high: float32 `[C]` where linear layers read the site and the
    sample holds rows of it, else a scalar; of least mean squared error, massive tokens counted as their
    energy tells (`SiteStatistics`)."""
    statistics = site.statistics
    if (
        isinstance(statistics, RowStatistics)
        and statistics.rows is not None
        and statistics.weight is not None
    ):
        rows = statistics.rows.astype(np.float64)
        energy = rows**2 @ statistics.weight
        importance = 1 / (1 + energy / max(float(np.median(energy)), 1e-30))
        return _least(rows, importance[:, None], np.abs(rows).max(0), low, high)
    used = np.flatnonzero(statistics.histogram)
    used = used[used > 0]
    if not used.size:
        return np.array(1 / high, np.float32)
    values, counts = bin_values()[used][:, None], statistics.histogram[used][:, None]
    largest = np.array([statistics.largest if statistics.bound is None else statistics.bound])
    return _least(values, counts, largest, low, high)[0]


def _least(
    values: np.ndarray, importance: np.ndarray, largest: np.ndarray, low: float, high: float
) -> np.ndarray:
    """θ `[C]` of least error of `values` `[N, C]`, whose magnitudes end at `largest`."""
    floor = max(float(largest.max()), 1e-30) * SMALLEST
    best, theta = np.full(largest.shape, np.inf), np.zeros(largest.shape)
    for clip in CLIPS:
        tried = np.maximum(largest * clip / high, floor)
        code = np.clip(np.floor(values / tried + 0.5), low, high)
        error = ((code * tried - values) ** 2 * importance).sum(0)
        better = error < best
        best, theta = np.where(better, error, best), np.where(better, tried, theta)
    return theta.astype(np.float32)


def bound_of(
    theta: np.ndarray, v0: np.ndarray, low: float, high: float
) -> Callable[[np.ndarray], np.ndarray]:
    """|x - decoded| of a code ⌊x/θ + v₀⌋ in low … high."""
    wide, start = theta.astype(np.float64), v0.astype(np.float64)
    slack = 1e-6  # θ is float32, and so is what a code is worth

    def error(x: np.ndarray) -> np.ndarray:
        beyond = np.maximum(x - (high + 1 - start) * wide, (low - start) * wide - x)
        return (
            np.maximum(beyond, 0) + np.maximum(np.maximum(start, 1 - start), 1e-3) * wide + slack * np.abs(x)
        )

    return error


def decoded(theta: np.ndarray, rate: float) -> dict[str, object]:
    """`scale` or `channels` of a Neuron whose code 1 is worth θ/rate."""
    worth = (theta / np.float32(rate)).astype(np.float32)
    return {"scale": float(worth)} if theta.ndim == 0 else {"channels": worth}


def constant(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def facts(theta: np.ndarray, v0: np.ndarray) -> dict[str, object]:
    return {
        "theta": [float(np.min(theta)), float(np.median(theta)), float(np.max(theta))],
        "v0": [float(np.min(v0)), float(np.median(v0)), float(np.max(v0))],
    }


def integrate_and_fire(theta: np.ndarray, v0: np.ndarray, timesteps: int, least: int) -> Neuron:
    """The neuron of FAS in mean coding: θ and v₀ (in θ) a scalar each or one a channel; least 0, or -1 for a
    pair."""
    low, high = float(least * timesteps), float(timesteps)
    worth = decoded(theta, timesteps)
    return Neuron(
        op="IFEncode",
        attributes={},
        largest=high,
        error=bound_of(theta / np.float32(timesteps), v0, low, high),
        radix=1,
        constants={
            "theta": theta, "v0": v0, "rate": constant(timesteps), "low": constant(low),
            "high": constant(high),
        },
        facts=facts(theta, v0),
        step=Step(
            "IFStep",
            worth=tuple(timesteps / t for t in range(1, timesteps + 1)),
            constants={"least": constant(least)},
        ),
        **worth,  # type: ignore[arg-type]
    )  # fmt: skip


def integer_spiking(theta: np.ndarray, v0: np.ndarray, timesteps: int, bits: int) -> Neuron:
    """The integer-spiking neuron of Dual in sum coding, T a divisor of 2**(bits-1): α is whole then."""
    low, high = -float(2 ** (bits - 1)), float(2 ** (bits - 1) - 1)
    alpha, most = 2 ** (bits - 1) // timesteps, -(-(2**bits - 1) // timesteps)
    return Neuron(
        op="IFEncode",
        attributes={},
        largest=-low,
        error=bound_of(theta, v0, low, high),
        radix=1,
        constants={
            "theta": theta,
            "v0": v0,
            "rate": constant(1),
            "low": constant(low),
            "high": constant(high),
        },
        facts=facts(theta, v0) | {"most": most, "alpha": alpha},
        step=Step("ISStep", offset=-alpha, constants={"alpha": constant(alpha), "most": constant(most)}),
        **decoded(theta, 1),  # type: ignore[arg-type]
    )


def tunable(neuron: Neuron) -> bool:
    """Whether its θ and v₀ may be calibrated by `with_thresholds`."""
    return neuron.step is not None and neuron.step.op in ("IFStep", "ISStep")


def with_thresholds(neuron: Neuron, theta: np.ndarray, v0: np.ndarray) -> Neuron:
    """The same neuron with other θ and v₀ (float32, of the shapes that it has)."""
    rate, low, high = (float(neuron.constants[name]) for name in ("rate", "low", "high"))
    return replace(
        neuron,
        error=bound_of(theta / np.float32(rate), v0, low, high),
        constants=neuron.constants | {"theta": theta, "v0": v0},
        facts=neuron.facts | facts(theta, v0),
        **decoded(theta, rate),  # type: ignore[arg-type]
    )
