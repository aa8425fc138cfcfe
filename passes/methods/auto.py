"""auto: ours. The least spikes for a quality budget, certified like any other method.

Per-channel steps by reverse water-filling, sites by measured sensitivity, few signed spikes of
chosen step weights, and rounding that counts them (passes/allocate). Keys and values of attention are state:
integers in memory that the other operand's spikes read.
"""

from __future__ import annotations

from ..allocate import run as _  # noqa: F401
from ..allocate.statistics import WeightedStatistics
from ..calibrate.neuron import Neuron, Site
from .method import Method, Options


def allocated(site: Site, timesteps: int, options: Options) -> Neuron:
    raise NotImplementedError("allocate_spikes chooses all sites together")


def _digits(timesteps: int, options: Options) -> str:
    return "" if 3 <= timesteps <= 12 else "its codes have 3 to 12 signed digits; choose -T 3 to 12"


AUTO = Method(
    name="auto",
    source="spikec",
    neuron="few signed spikes of chosen step weights, thresholds by sensitivity, spike-count-aware rounding",
    guarantee="L1 to the network quantised by its encoders; L2: within --budget on calibration data held out",
    cost="the least events the search found for the budget; calibration takes minutes",
    level="L1, L2",
    collapses=True,
    timesteps=8,
    choose=allocated,
    honours=_digits,
    statistics=lambda role, importance: WeightedStatistics(importance),
    calibration=("allocate_spikes",),
)
