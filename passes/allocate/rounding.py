"""Spike-count-aware rounding: the nearby code with fewer signed digits where it costs little.

A code m of |x|/θ = z costs (z - m)² of error, in steps squared, and λ for each digit of its non-adjacent
form. The cheapest code of every z is the lower envelope of these parabolas; two neighbours a < b on it meet
at

    z = (a + b)/2 + λ·(w(b) - w(a)) / (2·(b - a))          w = number of non-zero digits

λ = 0 rounds to nearest. Rate-distortion optimal for the given exchange of error for spikes.
"""

from __future__ import annotations

import functools

import numpy as np

from spikec.custom_ops.signed_digit_encode import naf_weight


def highest(digits: int) -> int:
    """The largest code whose non-adjacent form has so many digits: 1010…"""
    return int(2 ** (digits + 1) // 3)


@functools.lru_cache(maxsize=512)
def rounding(penalty: float, digits: int) -> tuple[np.ndarray, np.ndarray]:
    """(boundaries float32, levels int32) of SignedDigitEncode for λ = `penalty` ≥ 0."""
    codes = np.arange(highest(digits) + 1)
    weights = naf_weight(codes).astype(np.float64)
    cost = codes.astype(np.float64) ** 2 + penalty * weights
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
