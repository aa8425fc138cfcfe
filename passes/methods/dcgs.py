"""DCGS: multi-threshold neurons in differential coding, streaming: spikes tell how the rate changes.

Source: arXiv 2503.00301 (ICML 2025), methods §1.8. Step t weighs 1/t; a neuron is driven by what its running
output lacks, so a static input settles in a few spikes. The bias of a layer is part of the running value that
its readers see from the first step on, once (the paper's probe step). Thresholds: the percentile times
`headroom` is the largest.
"""

from __future__ import annotations

import numpy as np

from ..calibrate.ladder import differential_ladder, reaches
from ..calibrate.neuron import Neuron, Site
from .ecmt import LEVELS
from .fas import statistics
from .graded import BITS, MASSIVE, SITES, graded_delta, own
from .method import Method, Option, Options

LONGEST = 12
"""Codes are counted in lcm(1 … T)-ths, of which a product must hold two in 53 bits."""


def climb(site: Site, timesteps: int, options: Options) -> Neuron:
    if not own(site, options):
        return graded_delta(site, options["bits"])
    up, down = reaches(site, options["percentile"])
    largest = np.asarray(np.maximum(up, down))
    headroom = 1.0 if site.statistics.bound is not None else options["headroom"]
    return differential_ladder(largest * headroom, timesteps, options["levels"])


def honours(timesteps: int, options: Options) -> str:
    if 1 <= timesteps <= LONGEST:
        return ""
    return f"its codes count in parts of lcm(1 … T), too fine beyond {LONGEST}; choose -T 1 to {LONGEST}"


DCGS = Method(
    name="dcgs",
    source="DCGS, ICML 2025, PMLR 267:25235, arXiv 2503.00301",
    neuron="two-sided multi-threshold, differential coding",
    guarantee="L0 for functions and products of running values; the neurons settle on a steady input; not "
    "collapsible: every step is run",
    cost="at most one signed power-of-two spike a value and step, fewer once its input is steady",
    level="L2",
    collapses=False,
    timesteps=8,
    choose=climb,
    options={
        "sites": SITES,
        "massive": MASSIVE,
        "bits": BITS,
        "levels": LEVELS,
        "percentile": Option(99.9, "of the activations, 90 to 100", low=90, high=100),
        "headroom": Option(1.0, "largest threshold, in percentiles, 0.125 to 64", low=0.125, high=64),
    },
    honours=honours,
    statistics=statistics,
)
