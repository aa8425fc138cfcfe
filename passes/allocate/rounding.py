"""Spike-count-aware rounding: the nearby code with fewer spikes where it costs little.

A code m of |x|/θ = z costs (z - m)² of error, in steps squared, and λ for each spike that spells it. The
cheapest code of every z is the lower envelope of these parabolas; two neighbours a < b on it meet at

    z = (a + b)/2 + λ·(w(b) - w(a)) / (2·(b - a))          w = number of spikes

λ = 0 rounds to nearest. Rate-distortion optimal for the given exchange of error for spikes.
"""

from __future__ import annotations

import functools

import numpy as np

from spikec.custom_ops.few_spikes_encode import spelling


@functools.lru_cache(maxsize=512)
def rounding(penalty: float, basis: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """(boundaries float32, levels int32) of FewSpikesEncode for λ = `penalty` ≥ 0 and one of its bases."""
    spikes = spelling(basis, digits)[0].astype(np.float64)
    codes = np.arange(len(spikes))
    cost = codes.astype(np.float64) ** 2 + penalty * spikes
    levels: list[int] = [0]
    boundaries: list[float] = []
    for code in codes[1:]:
        while True:
            last = levels[-1]
            meet = (cost[code] - cost[last]) / (2.0 * (code - last))
            if not boundaries or meet > boundaries[-1]:
                break
            levels.pop()
            boundaries.pop()
        levels.append(int(code))
        boundaries.append(meet)
    return np.array(boundaries, np.float32), np.array(levels, np.int32)


@functools.lru_cache(maxsize=512)
def tables(penalty: float, basis: int, digits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boundaries, levels and spikes that FewSpikesEncode reads."""
    boundaries, levels = rounding(penalty, basis, digits)
    return boundaries, levels, np.ascontiguousarray(spelling(basis, digits)[1][:, levels])
