"""Thresholds of the bit-serial neurons: where each level of a function's output is crossed, rounded to
nearest."""

from __future__ import annotations

from functools import cache

import numpy as np


def _ascending(thresholds: np.ndarray) -> np.ndarray:
    return np.concatenate([[-np.inf], thresholds]).astype(np.float32)


@cache
def exp2_thresholds(bits: int) -> np.ndarray:
    """θ(c) for c = 0 … 2**bits-1: 2**f rounds to (2**bits + c)/2**bits beyond f = θ(c), f in [0, 1)."""
    level = np.arange(1, 2**bits)
    return _ascending(np.log2(1 + (level - 0.5) / 2**bits))


@cache
def reciprocal_thresholds(bits: int) -> np.ndarray:
    """θ(c): 1/m rounds to 1 - c/2**(bits+1) beyond m = θ(c), m in [1, 2)."""
    level = np.arange(1, 2**bits)
    return _ascending(1 / (1 - (level - 0.5) / 2 ** (bits + 1)))


@cache
def rsqrt_thresholds(bits: int) -> np.ndarray:
    """θ(c): 1/√m rounds to 1 - c/2**(bits+1) beyond m = θ(c), m in [1, 4)."""
    level = np.arange(1, 2**bits)
    return _ascending((1 - (level - 0.5) / 2 ** (bits + 1)) ** -2)
