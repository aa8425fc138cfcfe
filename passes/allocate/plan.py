"""One exchange rate for the whole network: every site takes the step and rounding that are worth it.

With κ_s the divergence that site s causes per relative squared error (measured), F_s its share of the dense
MACs, ev_s(step, λ) its events a value and err_s(step, λ) its relative squared error (from its histogram),

    minimise  Σ_s κ_s·err_s + μ·Σ_s F_s·ev_s      over step, rounding λ and basis of every site

separately for each site, since both sums are. μ is the only number left: small for quality, large for few
events. Σ F_s·ev_s is the events per synapse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from spikec.custom_ops.few_spikes_encode import GROWTH

from ..calibrate.statistics import SiteStatistics
from .curves import Curve, curve
from .statistics import WeightedStatistics
from .surrogate import Setting

PENALTIES = (0.0, 0.15, 0.35, 0.6, 1.0)
KINDS = tuple((penalty, basis) for basis in range(len(GROWTH)) for penalty in PENALTIES)
"""What a site may take besides its step: λ of the rounding and the basis of the step weights."""
STATE_STEP = 2.0**-6
"""Step of a value that is kept in memory (a key, a value), over the root mean square."""
STATE = ("k", "v", "right")


@dataclass(frozen=True)
class SitePlan:
    """Everything that is known of a site: its curves by KINDS, its share of MACs, its sensitivity."""

    role: str
    statistics: SiteStatistics
    curves: tuple[Curve, ...]
    share: float
    sensitivity: float = 0.0


@dataclass(frozen=True)
class Choice:
    """What one site takes: its Setting, events a value, and relative squared error."""

    setting: Setting
    events: float
    error: float


def site_plan(role: str, statistics: SiteStatistics, share: float, digits: int) -> SitePlan:
    kinds = KINDS[:1] if role in STATE else KINDS
    curves = tuple(curve(statistics, penalty, basis, digits) for penalty, basis in kinds)
    return SitePlan(role, statistics, curves, share)


def setting(plan: SitePlan, step: float, kind: int, digits: int) -> Setting:
    """θ_c = step/‖W_c‖ for the input of linear layers, one θ for any other site."""
    norms = plan.statistics.norms if isinstance(plan.statistics, WeightedStatistics) else None
    theta = np.float32(step) if norms is None else (step / norms).astype(np.float32)
    return Setting(np.asarray(theta, np.float32), *KINDS[kind], digits)


def choice(plan: SitePlan, kind: int, at: int, digits: int) -> Choice:
    """The step of that number on the curve of that kind."""
    curve = plan.curves[kind]
    made = setting(plan, float(curve.steps[at]), kind, digits)
    return Choice(made, float(curve.events[at]), float(curve.error[at]))


def choose(plan: SitePlan, rate: float, digits: int) -> Choice:
    """The step and kind of least κ·err + μ·F·ev for μ = `rate`. A value in memory takes a step so fine that
    it costs nothing; the other operand's spikes read it."""
    if plan.role in STATE:
        fine = int(np.searchsorted(plan.curves[0].steps, STATE_STEP * plan.curves[0].rms))
        return replace(choice(plan, 0, fine, digits), events=0.0)
    cost = np.stack([plan.sensitivity * c.error + rate * plan.share * c.events for c in plan.curves])
    kind, at = np.unravel_index(int(cost.argmin()), cost.shape)
    return choice(plan, int(kind), int(at), digits)


def allocate(plans: dict[str, SitePlan], rate: float, digits: int) -> dict[str, Choice]:
    return {name: choose(plan, rate, digits) for name, plan in plans.items()}


def per_synapse(plans: dict[str, SitePlan], choices: dict[str, Choice]) -> float:
    """Events per synapse that the curves promise."""
    return sum(plans[name].share * choice.events for name, choice in choices.items())


def rate_for(plans: dict[str, SitePlan], events: float, digits: int) -> float:
    """The μ whose allocation has so many events per synapse, by bisection of log μ."""
    return bisect(lambda rate: per_synapse(plans, allocate(plans, rate, digits)) > events)


def bisect(
    too_many: Callable[[float], bool], low: float = -40.0, high: float = 10.0, rounds: int = 24
) -> float:
    """2**x at which a decreasing condition turns."""
    for _ in range(rounds):
        middle = (low + high) / 2
        low, high = (middle, high) if too_many(2.0**middle) else (low, middle)
    return float(2.0**high)
