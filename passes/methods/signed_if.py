"""Signed integrate-and-fire: a pair of neurons a value, whose scale is a quantile of its channel.

Source: SpikingJelly's Qwen2 recipe (methods §1.9). s_c = R_c / levels, R_c a quantile of channel c; the
neurons count to ±T, so that values up to T/levels times the quantile are told apart: T buys range, not
resolution. Ours encodes every product's operands, not four sites a block: queries, keys and values with
one scale a site, and attention weights, which end at 1, with s = 1/T.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calibrate.channels import ChannelStatistics
from ..calibrate.neuron import Neuron, Site
from ..calibrate.rate import rate_neuron
from ..calibrate.statistics import SiteStatistics
from .method import Method, Option, Options

LONGEST = 512


def scale(site: Site, timesteps: int, quantile: float, levels: int) -> np.ndarray:
    """s, float32: `[channels]` where linear layers read the site, else `[1]`."""
    statistics = site.statistics
    if statistics.bound is not None:
        return np.array([statistics.bound / timesteps], np.float32)
    if site.role == "linear" and isinstance(statistics, ChannelStatistics) and statistics.top is not None:
        reach = statistics.channel_quantile(quantile)
        most = np.asarray(statistics.channel_max, np.float64)
    else:
        reach = np.array([statistics.quantile(quantile) if quantile < 1 else statistics.largest])
        most = np.array([statistics.largest])
    reach = np.where(reach > 0, reach, most)  # a channel that is silent but for a few tokens
    silent = np.min(reach, where=reach > 0, initial=np.inf)
    reach = np.where(reach > 0, reach, silent if np.isfinite(silent) else 1.0)
    return np.maximum(reach / levels, np.finfo(np.float32).tiny).astype(np.float32)


def pair(site: Site, timesteps: int, options: Options) -> Neuron:
    theta = scale(site, timesteps, options["quantile"], options["levels"])
    return rate_neuron(theta, timesteps, burst=1, half=True, channels=site.role == "linear")


def honours(timesteps: int, options: Options) -> str:
    levels = options["levels"]
    if levels <= timesteps <= LONGEST:
        return ""
    if timesteps < levels:
        return (
            f"a neuron of {levels} levels counts to {levels}, one spike a step; "
            f"choose -T {levels} to {LONGEST}, or --set levels={max(2, timesteps)}"
        )
    return f"its trains have at most {LONGEST} steps; choose -T {levels} to {LONGEST}"


def statistics(role: str, importance: Any) -> SiteStatistics:
    return ChannelStatistics(importance)


SIGNED_IF = Method(
    name="signed-if",
    source="SpikingJelly, Qwen2 recipe, github.com/fangwei123456/spikingjelly (activation_based/ann2snn)",
    neuron="a pair of integrate-and-fire neurons, scale by channel quantile",
    guarantee="L1: decodes to clamp(round(x/s), ±T)·s exactly, at any T; values beyond T·s saturate",
    cost="|x|/s unit spikes a value: about levels/3, whatever T",
    level="L1",
    collapses=True,
    timesteps=160,
    choose=pair,
    options={
        "quantile": Option(
            0.999, "share of a channel's values that its levels span, 0.99 to 1", low=0.99, high=1.0
        ),
        "levels": Option(16, "spikes that a value at the quantile fires, 2 to 512", low=2, high=LONGEST),
    },
    honours=honours,
    statistics=statistics,
)
