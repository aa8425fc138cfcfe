"""Delta: graded delta quantisers at every site, a stream that ends as the quantised network.

Each neuron emits Q(X_t) - Q(X_{t-1}) of the running value X_t of its input, where Q is the outlier-aware code
of `las`: what was promised too early is taken back, so nothing has to settle, nothing is calibrated beyond
the quantiser, and the order of arrival does not matter. All layers run concurrently; the last step's values
are those of `las` with as many bits.
"""

from __future__ import annotations

import dataclasses

from ..calibrate.neuron import Neuron, Site
from ..calibrate.step import Step
from ..calibrate.thresholds import choose
from ..stream.arrival import ARRIVALS
from .method import Method, Option, Options


def graded_delta(site: Site, timesteps: int, options: Options) -> Neuron:
    bits = options["bits"]
    return dataclasses.replace(choose(site.statistics, bits).neuron(bits), step=Step("DeltaStep"))


def one_or_more(timesteps: int, options: Options) -> str:
    """Why a streaming neuron cannot have so many steps, or nothing."""
    settle = options.get("settle", 0)
    if not 1 <= timesteps <= 1024:
        return "a stream has 1 to 1024 steps; choose -T 1 to 1024"
    if settle >= timesteps:
        return f"its last {settle} steps are to settle; choose -T {settle + 1} or more"
    return ""


ARRIVAL = Option("even", "how the input current arrives over the steps", choices=ARRIVALS)

DELTA = Method(
    name="delta",
    source="methods §1.3.3 and §6.1 DeltaQuant: SpikeZIP's neuron (arXiv 2406.03470) made graded; ours",
    neuron="graded delta quantiser on outlier-aware codes, bit-serial non-linear neurons",
    guarantee="L1 while streaming: the last step equals las with as many bits, in any order of arrival; "
    "not collapsible: every step is run",
    cost="graded spikes, signed: the digits of every change of a code",
    level="L1",
    collapses=False,
    timesteps=8,
    choose=graded_delta,
    options={"bits": Option(8, "binary digits of a code", low=2, high=16), "arrival": ARRIVAL},
    honours=one_or_more,
)
