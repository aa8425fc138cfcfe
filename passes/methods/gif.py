"""SpikeLLM: generalised integrate-and-fire neurons; salient channels get more steps.

Source: arXiv 2407.04752 (ICLR 2025), methods §1.5. Ours differs from the released code where that is wrong or
not spike-driven: saliency by absolute value; the range of salient and other channels is each its own, kept a
power of two apart so that one integer train carries both; the topmost codes are not lost (one more step);
codes are symmetric, so that a zero is silent; thresholds are each token's own, of activations that it has
itself, and the attention operands are encoded too (values of attention with a threshold for all tokens, which
a later token cannot change).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from spikec.custom_ops import gif_encode, is_encode

from ..calibrate.neuron import Neuron, Site
from ..calibrate.saliency import SaliencyStatistics
from ..calibrate.thresholds import uniform
from .method import Method, Option, Options

ROUNDING = 1 + 1e-4
"""Relative float32 rounding of thresholds and quotients."""
FINEST, COARSEST = -4, 8
"""The step of salient channels is 2**FINEST to 2**COARSEST of the others'."""


def levels(bits: int) -> int:
    """The largest code of a symmetric quantiser."""
    return int(2 ** (bits - 1) - 1)


def steps(options: Options) -> int:
    """Steps of the salient channels: 2**addbit, and one more for the topmost codes."""
    return int(-(-levels(options["n_bits"] + options["addbit"]) // levels(options["n_bits"])))


def honours(timesteps: int, options: Options) -> str:
    """Why the steps of n_bits and addbit are others, or nothing."""
    needed, bits, more = steps(options), options["n_bits"], options["addbit"]
    if timesteps == needed:
        return ""
    reason = f"salient channels of {bits}+{more} bits take {needed} steps of {bits} bits"
    return f"{reason}; choose -T {needed}, or another --set addbit=N"


def choose(site: Site, timesteps: int, options: Options) -> Neuron:
    if site.role == "linear":
        return weighted_groups(site, timesteps, options)
    most = levels(options["kv"])
    if site.role in ("v", "right"):
        return integer_spikes(site, most, timesteps)
    return neuron(
        [2 * most + 1 if site.role == "p" else most], [1], timesteps, -2 if site.role == "k" else -1
    )


def weighted_groups(site: Site, timesteps: int, options: Options) -> Neuron:
    """Two groups of channels, and the ratio of their steps that costs least on the tokens kept."""
    statistics = site.statistics
    assert isinstance(statistics, SaliencyStatistics) and statistics.weight is not None
    mask = statistics.salient(options["salient"])
    low, high = levels(options["n_bits"]), levels(options["n_bits"] + options["addbit"])
    highest = np.where(mask, high, low)
    ratio = np.ones(mask.size, int)
    if mask.any() and not mask.all():
        size = np.abs(np.stack(statistics.rows)).astype(np.float64)
        power = best_ratio(size / highest, mask, statistics.weight, size**2 @ statistics.weight)
        ratio = np.where(mask, 2 ** max(power, 0), 2 ** max(-power, 0))
    facts = {"salient_channels": int(mask.sum()), "ratio": float(ratio[mask].max() / ratio[~mask].max())
             if mask.any() and not mask.all() else 1.0}  # fmt: skip
    return neuron(highest.tolist(), ratio.tolist(), timesteps, -1, chunk=low, facts=facts)


def best_ratio(share: np.ndarray, mask: np.ndarray, weight: np.ndarray, energy: np.ndarray) -> int:
    """log2 of the salient channels' step over the others': least squared error Σ_c θ²·ratio_c²·‖W_c‖²/12 of
    the tokens, each over its own energy (`share` is |x| over the largest code)."""
    inside, outside = share[:, mask].max(1), share[:, ~mask].max(1)
    calm = 1 / (1 + energy / max(float(np.median(energy)), 1e-30))
    costs = {}
    for power in range(FINEST, COARSEST + 1):
        a, b = 2.0 ** max(power, 0), 2.0 ** max(-power, 0)
        theta = np.maximum(inside / a, outside / b)
        costs[power] = float(calm @ theta**2 * (a**2 * weight[mask].sum() + b**2 * weight[~mask].sum()))
    return min(costs, key=costs.__getitem__)


def neuron(
    highest: list[int],
    ratio: list[int],
    timesteps: int,
    axis: int,
    chunk: int | None = None,
    facts: Mapping[str, object] | None = None,
) -> Neuron:
    """The generalised integrate-and-fire neuron whose threshold each token sets."""
    chunk = -(-max(highest) // timesteps) if chunk is None else chunk
    attributes = {"axis": axis, "levels": highest, "ratio": ratio, "timesteps": timesteps, "chunk": chunk}
    reach, step = np.multiply(highest, ratio), np.array(ratio)

    def error(x: np.ndarray) -> np.ndarray:
        theta = (np.abs(x) / reach).max(axis, keepdims=True)
        return np.broadcast_to(theta * step / 2 * ROUNDING, x.shape)

    return Neuron(
        op="GIFEncode",
        attributes=gif_encode.execution(attributes, packed=True),
        largest=float(reach.max()),
        error=error,
        radix=1,
        dynamic=True,
        facts={"levels": max(highest), **(facts or {})},
    )


def integer_spikes(site: Site, most: int, timesteps: int) -> Neuron:
    """A threshold for all tokens, codes -most … most, spikes spread evenly over the steps."""
    threshold = uniform(site.statistics, most)
    return signed_integer_spikes(threshold.scale, most, timesteps)


def clipping(scale: float, most: int) -> Callable[[np.ndarray], np.ndarray]:
    """The error of codes -most … most: half a step, or what is clipped."""
    return lambda x: np.maximum(scale / 2, np.abs(x) - scale * most) * ROUNDING


def signed_integer_spikes(scale: float, most: int, timesteps: int) -> Neuron:
    attributes = {"scale": scale, "offset": 0, "ceiling": most, "signed": 1, "timesteps": timesteps}
    return Neuron(
        op="ISEncode",
        attributes=is_encode.execution(attributes, packed=True),
        largest=float(most),
        error=clipping(scale, most),
        scale=scale,
        radix=1,
        facts={"scale": scale, "levels": most},
    )


GIF = Method(
    name="gif",
    source="SpikeLLM, arXiv 2407.04752 (ICLR 2025)",
    neuron="generalised integrate-and-fire, more steps for salient channels, thresholds of each token's own",
    guarantee="L1: equals the mixed-precision network of its encoders; no code saturates",
    cost="as many unit spikes as the code says: about a third of 2**(n_bits - 1) a value",
    level="L1",
    collapses=True,
    timesteps=3,
    timesteps_of=steps,
    choose=choose,
    options={
        "n_bits": Option(4, "bits of a step, the sign included", low=2, high=8),
        "addbit": Option(1, "bits more of salient channels: 2**addbit + 1 steps", low=0, high=3),
        "salient": Option(0.1, "share of the channels that are salient", low=0.0, high=1.0),
        "kv": Option(8, "bits of the operands of attention", low=2, high=12),
    },
    honours=honours,
    statistics=lambda role, importance: SaliencyStatistics(importance),
)
