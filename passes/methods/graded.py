"""Which sites of a streaming method its own neuron takes, and the graded delta neuron for the others."""

from __future__ import annotations

import dataclasses

from ..calibrate.integrate import massive
from ..calibrate.neuron import Neuron, Site
from ..calibrate.step import Step
from ..calibrate.thresholds import choose
from .method import Option, Options

SITES = Option(
    "linear",
    "where the method's own neuron is: linear (what linear layers read), or all (also what attention "
    "multiplies); elsewhere are graded delta neurons",
    choices=("linear", "all"),
)
MASSIVE = Option(
    "delta",
    "sites where single tokens are massive: delta (graded delta neurons), or own (the method's)",
    choices=("delta", "own"),
)
BITS = Option(8, "binary digits of the graded delta neurons, 2 to 16", low=2, high=16)


def own(site: Site, options: Options) -> bool:
    """Whether the method's own neuron takes the site."""
    if options["sites"] == "linear" and site.role != "linear":
        return False
    return options["massive"] == "own" or not massive(site)


def graded_delta(site: Site, bits: int) -> Neuron:
    """Outlier-aware codes of which each step emits what has changed: exact once its input is."""
    return dataclasses.replace(choose(site.statistics, bits).neuron(bits), step=Step("DeltaStep"))
