"""Int2Spike: SpikingBrain's dynamic threshold, and its spike counts as unit spikes or as binary digits.

Source: SpikingBrain (arXiv 2509.05276), W8ASpike and Int2Spike, methods §1.10. The threshold is mean|x|/k of
each token, query or key. Attention weights and values have one threshold for all tokens: over the keys, which
their product sums, a mean would let a token look at later ones. The steps are fixed beforehand; a site whose
calibration data need fewer takes fewer, and a count that T steps do not hold clips (reported), or raises the
token's threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from spikec.custom_ops import int2spike

from ..calibrate.neuron import Neuron, Site
from ..calibrate.statistics import BINS, SHIFT, SiteStatistics, bin_values
from ..calibrate.thresholds import HEADROOM, uniform
from .gif import ROUNDING, clipping, signed_integer_spikes
from .method import Method, Option, Options

AXES = {"linear": -1, "q": -1, "left": -1, "k": -2}
"""What shares one threshold; the other roles have one for all tokens."""


@dataclass
class SpikeCounts(SiteStatistics):
    """With a histogram of |x| over its token's mean: the spike count that k = 1 would give."""

    axis: int = -1
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS))
    most: float = 0.0

    def add(self, x: np.ndarray) -> None:
        super().add(x)
        if not x.size:
            return
        size = np.abs(np.ascontiguousarray(x, np.float32))
        mean = size.mean(self.axis, keepdims=True, dtype=np.float64).astype(np.float32)
        ratio = size / np.where(mean > 0, mean, np.float32(1))
        bins = (ratio.view(np.uint32) >> SHIFT).reshape(-1)
        self.counts += np.bincount(bins, minlength=BINS)
        self.most = max(self.most, float(ratio.max()))

    def beyond(self, ratio: float) -> float:
        """The share of values whose count passes `ratio`."""
        return float(self.counts[bin_values() > ratio].sum() / max(self.counts.sum(), 1))


def statistics(role: str, importance: np.ndarray | None) -> SiteStatistics:
    return SpikeCounts(importance, axis=AXES[role]) if role in AXES else SiteStatistics(importance)


def honours(timesteps: int, options: Options) -> str:
    """Why a train of that mode cannot have so many steps, or nothing."""
    if options["mode"] == "bitwise":
        return "" if 2 <= timesteps <= 16 else "spike counts have 2 to 16 binary digits; choose -T 2 to 16"
    return "" if 2 <= timesteps <= 1024 else "a rate code has 2 to 1024 unit spikes; choose -T 2 to 1024"


def choose(site: Site, timesteps: int, options: Options) -> Neuron:
    bitwise = options["mode"] == "bitwise"
    lines = {"mode": options["mode"], "lines": 2 if options["mode"] == "binary" else 1}
    if not isinstance(site.statistics, SpikeCounts):
        if bitwise:
            threshold, most = uniform(site.statistics, 2**timesteps - 1), 2**timesteps - 1
            error = clipping(threshold.scale, most)
            return replace(
                threshold.neuron(timesteps), error=error, facts={"scale": threshold.scale, **lines}
            )
        return signed_integer_spikes(uniform(site.statistics, timesteps).scale, timesteps, timesteps)
    most = site.statistics.most * options["k"] * HEADROOM
    steps = min(timesteps, max(2, math.ceil(math.log2(most + 1) if bitwise else most)))
    limit = 2**steps - 1 if bitwise else steps
    beyond = site.statistics.beyond((limit + 0.5) / options["k"])
    facts = {
        **lines,
        "steps": steps,
        "largest_count": site.statistics.most * options["k"],
        "saturated": beyond,
        "clipped": beyond if options["saturate"] == "clip" else 0.0,
    }
    return neuron(limit, steps, 2 if bitwise else 1, site.statistics.axis, options, facts)


def neuron(
    limit: int, steps: int, radix: int, axis: int, options: Options, facts: dict[str, object]
) -> Neuron:
    k, no_clip = float(options["k"]), options["saturate"] == "raise"
    attributes = {
        "k": k,
        "axis": axis,
        "limit": limit,
        "no_clip": int(no_clip),
        "timesteps": steps,
        "radix": radix,
    }

    def error(x: np.ndarray) -> np.ndarray:
        size = np.abs(x).astype(np.float64)
        theta = size.mean(axis, keepdims=True) / k
        if no_clip:
            theta = np.maximum(theta, size.max(axis, keepdims=True) / limit)
        return np.asarray(np.maximum(theta / 2, size - theta * limit) * ROUNDING)

    return Neuron(
        op="Int2Spike",
        attributes=int2spike.execution(attributes, packed=True),
        largest=float(limit),
        error=error,
        radix=radix,
        dynamic=True,
        facts=facts,
    )


INT2SPIKE = Method(
    name="int2spike",
    source="SpikingBrain, arXiv 2509.05276: W8ASpike, Int2Spike",
    neuron="spike counts of a threshold mean|x|/k of each token's own",
    guarantee="L1: count times threshold, exactly; counts beyond what T steps hold saturate and are reported",
    cost="bitwise: one event per binary digit that is one; binary, ternary: k events for an average value",
    level="L1",
    collapses=True,
    timesteps=8,
    timesteps_of=lambda options: 8 if options["mode"] == "bitwise" else 64,
    choose=choose,
    options={
        "mode": Option(
            "bitwise",
            "binary digits, or unit spikes on one line (ternary) or on one for each sign (binary)",
            ("bitwise", "ternary", "binary"),
        ),
        "k": Option(3.0, "spikes of a value of average size", low=0.1, high=1000.0),
        "saturate": Option("raise", "what counts beyond the limit do: raise θ, or clip", ("raise", "clip")),
    },
    honours=honours,
    statistics=statistics,
)
