"""Neurons that count: a steady current fires them evenly, and the number of spikes is the code."""

from __future__ import annotations

import numpy as np

from spikec.custom_ops.burst_encode import execution

from .neuron import Neuron


def rate_neuron(theta: np.ndarray, timesteps: int, burst: int, half: bool, channels: bool) -> Neuron:
    """The BurstEncode neuron of thresholds θ (float32 `[C]`, folded into the weights, or `[1]`); it rounds to
    nearest (`half`) or toward zero, and saturates at θ·timesteps·burst."""
    folded = channels and theta.size > 1
    top = np.float64(timesteps * burst)
    wide = theta.astype(np.float64)

    def error(x: np.ndarray) -> np.ndarray:
        return np.maximum(wide / 2 if half else wide, np.abs(x) - top * wide)

    return Neuron(
        op="BurstEncode",
        attributes=execution({"timesteps": timesteps, "burst": burst, "half": int(half)}, packed=True),
        largest=float(top),
        error=error,
        scale=1.0 if folded else float(theta[0]),
        radix=1,
        channels=theta if folded else None,
        constants={"theta": theta if folded else theta[:1]},
        facts={
            "theta": [float(theta.min()), float(np.median(theta)), float(theta.max())],
            "saturates_at": float(top * wide.max()),
        },
    )
