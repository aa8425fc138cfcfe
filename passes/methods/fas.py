"""FAS: integrate-and-fire neurons with soft reset in mean coding, streaming; thresholds calibrated, never
trained.

Source: arXiv 2502.04405, methods §1.2. Under constant input a neuron is QCFS with T levels exactly; deeper in
a network its input changes over the steps, and what it then emits is not (unevenness), which the second of
the paper's stages, calibration of θ and v₀ coarse to fine, makes smaller. Ours differs: no fine-tuning;
thresholds per channel, never per position; a pair of neurons on one membrane where values take both signs
(the paper's code cuts the negative lobe off, and has training absorb that); and where its neuron cannot
serve, graded delta neurons.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calibrate.channels import RowStatistics
from ..calibrate.integrate import integrate_and_fire, signed, threshold
from ..calibrate.neuron import Neuron, Site
from ..calibrate.statistics import SiteStatistics
from .graded import BITS, MASSIVE, SITES, graded_delta, own
from .method import Method, Option, Options

CALIBRATE = Option(True, "calibrate θ and v0 block by block, coarse to fine")
TOKENS = Option(512, "tokens that the calibration of θ and v0 runs on, 64 to 65536", low=64, high=65536)


def fire(site: Site, timesteps: int, options: Options) -> Neuron:
    if not own(site, options):
        return graded_delta(site, options["bits"])
    least = -1 if signed(site) else 0
    theta = threshold(site, least * timesteps, timesteps) * np.float32(timesteps)
    return integrate_and_fire(theta, np.full(theta.shape, 0.5, np.float32), timesteps, least)


def honours(timesteps: int, options: Options) -> str:
    return "" if 2 <= timesteps <= 64 else "a neuron has as many levels as steps, 2 to 64; choose -T 2 to 64"


def statistics(role: str, importance: Any) -> SiteStatistics:
    return RowStatistics(importance)


FAS = Method(
    name="fas",
    source="FAS, arXiv 2502.04405",
    neuron="integrate-and-fire, v0 = θ/2, soft reset; a pair where values take both signs",
    guarantee="QCFS with L = T exactly under constant input, so at its first layer; not collapsible: every "
    "step is run, and the report tells how far deeper layers are from the QCFS chain",
    cost="at most one spike a value and step",
    level="L2",
    collapses=False,
    timesteps=8,
    choose=fire,
    options={
        "sites": SITES,
        "massive": MASSIVE,
        "bits": BITS,
        "calibrate": CALIBRATE,
        "calibration_tokens": TOKENS,
    },
    honours=honours,
    statistics=statistics,
    calibration=("choose_thresholds", "calibrate_layers"),
)
