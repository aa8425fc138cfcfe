"""ECMT: two-sided multi-threshold neurons in mean coding, streaming, with expectation compensation.

Source: arXiv 2502.21193, methods §1.7. Non-linearities and products work on running means, which is what
expectation compensation makes their receivers add up to, exactly. In the paper the percentile is the smallest
threshold, and the ladder above it takes the outliers (`anchor` = smallest); with the percentile as the
largest, ours by default, small values are told apart as well.
"""

from __future__ import annotations

import numpy as np

from ..calibrate.ladder import mean_ladder, reaches
from ..calibrate.neuron import Neuron, Site
from .fas import statistics
from .graded import BITS, MASSIVE, SITES, graded_delta, own
from .method import Method, Option, Options

LEVELS = Option(8, "thresholds of either sign, 2 to 10", low=2, high=10)


def climb(site: Site, timesteps: int, options: Options) -> Neuron:
    if not own(site, options):
        return graded_delta(site, options["bits"])
    up, down = reaches(site, options["percentile"])
    if options["anchor"] == "largest" or site.statistics.bound is not None:
        up, down = (side / 2 ** (options["levels"] - 1) for side in (up, down))
    return mean_ladder(np.asarray(up), np.asarray(down), timesteps, options["levels"])


def honours(timesteps: int, options: Options) -> str:
    return "" if 1 <= timesteps <= 64 else "a train of this method has 1 to 64 steps; choose -T 1 to 64"


ECMT = Method(
    name="ecmt",
    source="ECMT, ACM MM 2024, arXiv 2502.21193",
    neuron="two-sided multi-threshold, ladder of powers of two, expectation compensation",
    guarantee="L0 for functions and products of running means; a neuron whose input is steady comes within "
    "its smallest threshold over T; not collapsible: every step is run",
    cost="at most one signed power-of-two spike a value and step",
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
        "anchor": Option("largest", "the threshold that the percentile is", choices=("largest", "smallest")),
    },
    honours=honours,
    statistics=statistics,
)
