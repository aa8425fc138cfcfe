"""Multi-threshold neurons of ECMT (mean coding) and DCGS (differential coding): where their ladders stand."""

from __future__ import annotations

import math

import numpy as np

from .channels import RowStatistics
from .integrate import SMALLEST, bound_of, constant, decoded
from .neuron import Neuron, Site
from .step import Step

UNITS = 16
"""Both sides' thresholds are whole multiples of one unit, the larger of them so many."""


def reaches(site: Site, percentile: float) -> tuple[np.ndarray, np.ndarray]:
    """The percentiles of positive and of negative activations, float64: `[C]` where linear layers read the
    site and the sample holds rows of it, else scalars. A side that never occurs has the other's."""
    statistics = site.statistics
    if (
        isinstance(statistics, RowStatistics)
        and statistics.rows is not None
        and statistics.weight is not None
    ):
        rows = statistics.rows.astype(np.float64)
        up, down = _percentile(rows, percentile), _percentile(-rows, percentile)
    else:
        one = statistics.quantile(percentile / 100) if statistics.bound is None else statistics.bound
        up = down = np.array(one)
    up, down = np.where(up > 0, up, down), np.where(down > 0, down, up)
    floor = max(float(np.max(np.maximum(up, down))), 1e-30) * SMALLEST
    return np.maximum(up, floor), np.maximum(down, floor)


def _percentile(rows: np.ndarray, percentile: float) -> np.ndarray:
    """Of the positive values of each channel; 0 where there are none."""
    sorted_rows = np.sort(np.maximum(rows, 0), 0)
    positive = (sorted_rows > 0).sum(0)
    index = len(rows) - positive + np.ceil(percentile / 100 * positive).astype(int) - 1
    return np.take_along_axis(sorted_rows, np.clip(index, 0, len(rows) - 1)[None], 0)[0]


def ladder(levels: int) -> np.ndarray:
    return np.exp2(np.arange(levels)).astype(np.float32)


def mean_ladder(up: np.ndarray, down: np.ndarray, timesteps: int, levels: int) -> Neuron:
    """The ECMT neuron whose smallest thresholds are `up` and `down`; it fires λ/2 early."""
    unit = (np.maximum(up, down) / UNITS).astype(np.float32)
    whole = [np.maximum(np.rint(side / unit), 1).astype(np.float32) for side in (up, down)]
    reach = float(UNITS * 2 ** (levels - 1) * timesteps)
    step = Step(
        "MultiThresholdStep",
        worth=tuple(timesteps / t for t in range(1, timesteps + 1)),
        constants=_rule(unit, whole, np.ones(timesteps), 1.0, 0.5, levels),
    )
    return _neuron(unit, timesteps, reach, step, whole)


def differential_ladder(largest: np.ndarray, timesteps: int, levels: int) -> Neuron:
    """The DCGS neuron whose largest threshold is `largest`; it fires at three quarters of a threshold."""
    unit = (largest / 2 ** (levels - 1)).astype(np.float32)
    times = np.arange(1, timesteps + 1)
    common = math.lcm(*times.tolist())
    whole = [np.ones(unit.shape, np.float32)] * 2
    reach = float(2 ** (levels - 1) * (common // times).sum())
    step = Step(
        "MultiThresholdStep",
        weights=tuple((common // times).tolist()),
        constants=_rule(unit, whole, times / common, 0.75, 0.0, levels),
    )
    return _neuron(unit, common, reach, step, whole)


def _rule(
    unit: np.ndarray, whole: list[np.ndarray], carry: np.ndarray, gain: float, slack: float, levels: int
) -> dict[str, np.ndarray]:
    return {
        "unit": unit, "positive": whole[0], "negative": whole[1], "carry": carry.astype(np.float64),
        "gain": constant(gain), "slack": constant(slack), "ladder": ladder(levels),
    }  # fmt: skip


def _neuron(unit: np.ndarray, rate: int, reach: float, step: Step, whole: list[np.ndarray]) -> Neuron:
    """Codes are counted in unit/rate; what the ladder comes close to is the value in that grid."""
    half = np.full((), 0.5, np.float32)
    limits = {"rate": constant(rate), "low": constant(-reach), "high": constant(reach)}
    smallest = unit * np.minimum(*whole)
    return Neuron(
        op="IFEncode",
        attributes={},
        largest=reach,
        error=bound_of(unit / np.float32(rate), half, -reach, reach),
        radix=1,
        constants={"theta": unit, "v0": half, **limits},
        facts={"lambda": [float(smallest.min()), float(np.median(smallest)), float(smallest.max())]},
        step=step,
        **decoded(unit, rate),  # type: ignore[arg-type]
    )
