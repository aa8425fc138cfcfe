"""ST-BIF (SpikeZIP-TF): ternary neurons with tracer at every site, streaming; exact once they have settled.

Source: arXiv 2406.03470, methods §1.6. Non-linearities work on running values, as the paper's softmax and
LayerNorm do. Ours differs in that nothing is retrained: the levels are placed by least squared error on
calibration data, and negative and positive levels are as many (a power of two less one each); attention
weights, which have no negative side, use all the levels there.
"""

from __future__ import annotations

import dataclasses

from ..calibrate.neuron import Neuron, Site
from ..calibrate.step import Step
from ..calibrate.thresholds import clipped
from .delta import ARRIVAL, one_or_more
from .method import Method, Option, Options

LEVELS = tuple(2**bits for bits in range(2, 9))


def ternary(site: Site, timesteps: int, options: Options) -> Neuron:
    bits = options["levels"].bit_length() - (1 if site.role == "p" else 2)
    return dataclasses.replace(clipped(site.statistics, bits).neuron(bits), step=Step("STBIFStep"))


STBIF = Method(
    name="stbif",
    source="SpikeZIP-TF, ICML 2024, arXiv 2406.03470",
    neuron="ternary with tracer (ST-BIF), bit-serial non-linear neurons",
    guarantee="L1 once every neuron has settled, and the report counts those that have not; not collapsible: "
    "every step is run",
    cost="at most one ternary spike a value and step",
    level="L1 at equilibrium",
    collapses=False,
    timesteps=64,
    choose=ternary,
    options={
        "levels": Option(32, "levels of the quantiser", choices=LEVELS),
        "arrival": dataclasses.replace(ARRIVAL, default="front"),
        "settle": Option(0, "last steps in which no input arrives", low=0, high=1023),
    },
    honours=one_or_more,
)
