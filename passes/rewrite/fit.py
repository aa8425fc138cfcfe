"""Constants of a SpikeFunction neuron for any scalar function: gates, thresholds, bases and strides.

The axis is cut where the function turns (so that it is monotone between cuts) and where it crosses zero or a
power of two (so that the error stays relative to the output); in each segment the thresholds are where the
output crosses the middle between two levels, found by bisection of the function itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

SMALLEST_OCTAVE = -6
"""Below 2**SMALLEST_OCTAVE the step is absolute: 2**(SMALLEST_OCTAVE - bits)."""
REACH = 2.0**13
GRID = np.concatenate([-np.geomspace(REACH, 2.0**-10, 3000), [0.0], np.geomspace(2.0**-10, REACH, 3000)])
BISECTIONS = 60
LARGEST_CODE = 2.0**30


@dataclass(frozen=True)
class Neuron:
    """The inputs of SpikeFunction, the value of its smallest step, and the range of X it covers."""

    edges: np.ndarray
    thresholds: np.ndarray
    base: np.ndarray
    stride: np.ndarray
    scale: float
    low: float
    high: float

    @property
    def bits(self) -> int:
        """Bits an octave."""
        return int(self.thresholds.shape[-1]).bit_length() - 1


def fit(function: Function, bits: int) -> Neuron:
    """Thresholds of `function`, `bits` bits an octave, where in [-REACH, REACH] its codes
    fit int32; constant beyond. Raises ValueError when it is not even finite around 0."""
    unit = 2.0 ** (SMALLEST_OCTAVE - bits)
    domain = _domain(function, LARGEST_CODE * unit)
    cuts = _cuts(function, domain, LARGEST_CODE * unit)
    edges, rows, base, stride = [], [], [], []
    for left, right in pairwise(cuts):
        low, high = function(np.array([left, right]))
        octave = np.ceil(np.log2(max(abs(low), abs(high), 2.0**SMALLEST_OCTAVE) * (1 - 1e-9)))
        step = 2.0 ** (max(octave, SMALLEST_OCTAVE) - bits)
        first, last = round(low / step), round(high / step)
        direction = 1 if last >= first else -1
        count = min(abs(last - first), 2**bits - 1)
        levels = (first + direction * (np.arange(1, count + 1) - 0.5)) * step
        row = np.full(2**bits, np.inf, np.float32)
        row[0] = -np.inf
        row[1 : count + 1] = _solve(function, levels, left, right, direction)
        edges.append(left)
        rows.append(row)
        base.append(round(first * step / unit))
        stride.append(direction * round(step / unit))
    edges[0] = -np.inf
    return Neuron(
        np.array(edges, np.float32),
        np.array(rows),
        np.array(base, np.int32),
        np.array(stride, np.int32),
        float(unit),
        float(domain[0]),
        float(domain[-1]),
    )


def _domain(function: Function, largest: float) -> np.ndarray:
    """The grid points around 0 on which the function is finite and at most `largest`."""
    with np.errstate(all="ignore"):
        y = function(GRID)
    bad = np.flatnonzero(~(np.abs(y) <= largest))
    middle = len(GRID) // 2
    first = bad[bad < middle].max(initial=-1) + 1
    last = bad[bad > middle].min(initial=len(GRID)) - 1
    if middle in bad or last - first < 2:
        raise ValueError("it is not finite around 0")
    return GRID[first : last + 1]


def _cuts(function: Function, domain: np.ndarray, largest: float) -> np.ndarray:
    """Where the function turns or its magnitude crosses a power of two up to `largest`, with both ends."""
    octaves = range(SMALLEST_OCTAVE, math.ceil(math.log2(largest)) + 1)
    y = function(domain)
    slope = np.sign(np.where(np.abs(np.diff(y)) > 1e-12, np.diff(y), 0))
    moving = np.flatnonzero(slope)
    turns = [
        _turn(function, domain[a], domain[b + 1], slope[a])
        for a, b in pairwise(moving)
        if slope[a] != slope[b]
    ]
    bends = [domain[0], *turns, domain[-1]]
    cuts = list(bends)
    for left, right in pairwise(bends):
        low, high = function(np.array([left, right]))
        crossings = [0.0] + [s * 2.0**k for k in octaves for s in (-1, 1)]
        crossings = [c for c in crossings if min(low, high) < c < max(low, high)]
        cuts += _solve(function, np.array(crossings), left, right, 1 if high > low else -1).tolist()
    return np.unique(np.array(cuts))


def _turn(function: Function, left: float, right: float, rising: float) -> float:
    """The extremum between two grid points, by ternary search."""
    for _ in range(BISECTIONS):
        third = (right - left) / 3
        a, b = function(np.array([left + third, right - third])) * rising
        left, right = (left + third, right) if a < b else (left, right - third)
    return 0.5 * (left + right)


def _solve(function: Function, levels: np.ndarray, left: float, right: float, direction: int) -> np.ndarray:
    """Where a monotone stretch of the function crosses each level, by bisection."""
    low, high = np.full(levels.shape, left), np.full(levels.shape, right)
    for _ in range(BISECTIONS if levels.size else 0):
        middle = 0.5 * (low + high)
        below = (function(middle) < levels) if direction > 0 else (function(middle) > levels)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high
