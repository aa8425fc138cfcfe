"""LAS: outlier-aware threshold neurons at every site, spike-equivalent products, bit-serial non-linearities.

Source: arXiv 2505.09659 (AAAI-26). Ours differs where the released code is not spike-driven: ranges are
chosen from data instead of typed, every product runs on spikes, and successive approximation replaces its
lookup tables.
"""

from __future__ import annotations

from ..calibrate.neuron import Neuron, Site
from ..calibrate.thresholds import choose
from .method import Method, Options


def outlier_aware(site: Site, timesteps: int, options: Options) -> Neuron:
    return choose(site.statistics, timesteps).neuron(timesteps)


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
)
