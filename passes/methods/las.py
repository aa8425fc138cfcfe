"""LAS: outlier-aware threshold neurons at every site, spike-equivalent products, bit-serial non-linearities.

Source: arXiv 2505.09659 (AAAI-26). Ours differs where the released code is not spike-driven: ranges are
chosen from data instead of typed, every product runs on spikes, and successive approximation replaces its
lookup tables.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spikec.ir.diagnostics import SpikecError

from ..allocate.statistics import WeightedStatistics
from ..calibrate.neuron import Neuron, Site
from ..calibrate.signs import SignStatistics, split
from ..calibrate.thresholds import choose
from .method import Method, Option, Options


def outlier_aware(site: Site, timesteps: int, options: Options) -> Neuron:
    """One threshold for the site, or one a channel, θ_c ∝ 1/‖W_c‖, with one set of ranges for all of them; or
    one a sign, without ranges (LAS's "high accuracy" variant)."""
    if isinstance(site.statistics, SignStatistics):
        return split(site.statistics, timesteps).neuron(timesteps)
    neuron = choose(site.statistics, timesteps).neuron(timesteps)
    gains = site.statistics.norms if isinstance(site.statistics, WeightedStatistics) else None
    if gains is None:
        return neuron
    in_thresholds = neuron.error
    return replace(
        neuron,
        gains=gains,
        channels=(1 / gains).astype(np.float32),
        error=lambda x: in_thresholds(x * gains) / gains,
    )


def check(options: Options) -> None:
    if options["per_channel"] and options["sign_split"]:
        raise SpikecError(
            "las has a threshold for each channel, or for each sign, not both",
            where="--set",
            fix="leave out per_channel=true or sign_split=true",
        )


LAS = Method(
    name="las",
    source="LAS, arXiv 2505.09659 (AAAI-26), doi 10.1609/aaai.v40i3.37151",
    neuron="outlier-aware threshold, bit-serial non-linear neurons",
    guarantee="L1: equals the network quantised by its encoders, and the ANN within the budget measured",
    cost="one event per binary digit that is one: about T/2 a value",
    level="L1",
    collapses=True,
    timesteps=16,
    choose=outlier_aware,
    check=check,
    statistics_if={
        "per_channel": lambda role, importance: WeightedStatistics(importance),
        "sign_split": lambda role, importance: SignStatistics(importance),
    },
    options={
        "per_channel": Option(
            False, "a threshold for each channel of a linear layer's input, by its weights"
        ),
        "sign_split": Option(False, "a threshold for each sign in place of one for each range of magnitudes"),
    },
)
