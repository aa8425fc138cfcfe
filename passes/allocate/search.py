"""The search of `auto`: every site's sensitivity, then the exchange rate until the budget is met.

What was measured is kept in a file beside the output, so that a search that was broken off goes on where it
was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed, shorten
from spikec.ir.program import Program
from spikec.ir.session import Session, anchored

from . import surrogate
from .budget import Budget
from .plan import STATE, Choice, SitePlan, allocate, per_synapse, rate_for, setting
from .quality import Quality, Reference

PROBE_EVENTS = 1.0
"""Sites are probed at about so many events a value."""
PROBE_TOKENS = 256
SETTLING = 3
LARGEST_FACTOR = 30.0
CURVE = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Events per synapse of the points of the Pareto curve."""
BEYOND = (2.5, 3.0, 4.0)
"""More, for a budget that none of them meets."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Point:
    """One network of the Pareto curve: its exchange rate, events per synapse as the curves promise, and what
    was measured on the calibration tokens that were held out."""

    rate: float
    events: float
    kl: float | None
    ppl: float | None
    cosine: float

    def value(self, measure: str) -> float | None:
        """What a budget is held against. A perplexity that changed by less than the divergence did so by
        chance: were the text the ANN's own, its logarithm would rise by just the divergence."""
        if measure == "ppl" and self.ppl is not None and self.kl is not None:
            return max(self.ppl, math.expm1(self.kl))
        return self.events if measure == "events" else Quality(self.kl, self.ppl, self.cosine).value(measure)


class Memory:
    """Measurements kept in a file, valid for one model, data and set of options (`key`)."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.known: dict[str, Any] = {"key": key, "sensitivities": {}, "points": {}}
        if path is not None and path.is_file():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                if stored["key"] == key and stored.keys() == self.known.keys():
                    self.known = stored
            except (ValueError, KeyError, TypeError, OSError):
                pass  # begun anew: it only saves time

    def __getitem__(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = self.known[kind]
        return found

    def keep(self) -> None:
        if self.path is not None:
            self.path.write_text(json.dumps(self.known), encoding="utf-8")


@dataclass
class Search:
    """Everything that evaluating a candidate takes."""

    program: Program
    ann: Path
    plans: dict[str, SitePlan]
    digits: int
    fitting: list[Feed]
    held_out: list[Feed]
    memory: Memory
    progress: Progress

    def __post_init__(self) -> None:
        model = surrogate.build(anchored(self.ann), self.program, self.digits)
        self.session = Session(model, surrogate.session_options())
        self.reference: Reference | None = None

    def measure(self, reference: Reference, choices: dict[str, Choice]) -> Quality:
        """The quality of the network in which these sites spike and no others."""
        settings = {name: choice.setting for name, choice in choices.items()}
        fixed = surrogate.settings_feed(self.program.statistics["roles"], settings)
        return reference.compare(self.session, fixed)

    def probe(self) -> None:
        """Sensitivities κ of all sites: the divergence that one site alone causes, over its squared error."""
        feeds = [shorten(self.program.settings["inputs"], self.fitting[0], PROBE_TOKENS)]
        reference = self._reference(feeds)
        known = self.memory["sensitivities"]
        names = [name for name, plan in self.plans.items() if plan.role not in STATE]
        for number, name in enumerate(names):
            if name not in known:
                plan = self.plans[name]
                curve = plan.curves[0]
                at = len(curve.events) - 1 - int(np.searchsorted(curve.events[::-1], PROBE_EVENTS))
                at = min(max(at, 0), len(curve.events) - 1)
                alone = setting(plan, float(curve.steps[at]), 0, self.digits)
                quality = self.measure(reference, {name: Choice(alone, 0.0, 0.0)})
                known[name] = max(quality.distance, 1e-9) / max(float(curve.error[at]), 1e-12)
                if number % 16 == 0:
                    self.memory.keep()
            self.progress("sensitivity: site", number + 1, len(names))
        self.memory.keep()
        for name in names:
            self.plans[name] = replace(self.plans[name], sensitivity=known[name])

    def settle(self) -> None:
        """Sensitivities at the working point: what one site causes at PROBE_EVENTS says little of a site that
        gets a tenth of that (attention weights). Scales every role by the divergence that all its sites cause
        together over the one promised, a few times over."""
        reference = self._reference(self.fitting[-1:])
        each = sorted({plan.role for plan in self.plans.values()} - set(STATE))
        for turn in range(SETTLING):
            choices = allocate(self.plans, rate_for(self.plans, PROBE_EVENTS, self.digits), self.digits)
            for number, role in enumerate(each):
                alone = {name: choice for name, choice in choices.items() if self.plans[name].role == role}
                promised = sum(self.plans[name].sensitivity * choice.error for name, choice in alone.items())
                measured = self.measure(reference, alone).distance
                factor = float(np.clip(measured / max(promised, 1e-12), 1 / LARGEST_FACTOR, LARGEST_FACTOR))
                for name in alone:
                    plan = self.plans[name]
                    self.plans[name] = replace(plan, sensitivity=plan.sensitivity * factor)
                self.progress("sensitivity: role", turn * len(each) + number + 1, SETTLING * len(each))

    def _reference(self, feeds: list[Feed]) -> Reference:
        return Reference(self.program, Session(anchored(self.ann)), feeds)

    def events(self, choices: dict[str, Choice]) -> float:
        return per_synapse(self.plans, choices)

    def evaluate(self, rate: float) -> Point:
        """The Point of an exchange rate, from memory where it was measured before."""
        key = f"{rate:.6g}"
        if key not in self.memory["points"]:
            if self.reference is None:
                self.reference = self._reference(self.held_out)
            choices = allocate(self.plans, rate, self.digits)
            quality = self.measure(self.reference, choices)
            point = Point(rate, self.events(choices), quality.kl, quality.ppl, quality.cosine)
            self.memory["points"][key] = asdict(point)
            self.memory.keep()
        return Point(**self.memory["points"][key])

    def curve(self, budget: Budget) -> list[Point]:
        """The points of CURVE, and one just within a budget of events."""
        points: list[Point] = []
        if budget.measure == "events":
            points.append(self.evaluate(rate_for(self.plans, budget.bound * 0.99, self.digits)))
        for number, events in enumerate(CURVE):
            points.append(self.evaluate(rate_for(self.plans, events, self.digits)))
            self.progress("curve: point", number + 1, len(CURVE))
        for events in BEYOND:
            if any(self._met(point, budget) for point in points):
                break
            points.append(self.evaluate(rate_for(self.plans, events, self.digits)))
        return points

    def _met(self, point: Point, budget: Budget) -> bool:
        value = point.value(budget.measure)
        return value is not None and budget.met(value)

    def refine(self, points: list[Point], budget: Budget, rounds: int = 3) -> list[Point]:
        """Halves the gap between the cheapest point that meets the budget and the one before it."""
        points = sorted(points, key=lambda point: point.events)
        for _ in range(rounds):
            good = next((i for i, point in enumerate(points) if self._met(point, budget)), None)
            if good is None or good == 0:
                break
            rate = float(np.sqrt(points[good].rate * points[good - 1].rate))
            points.insert(good, self.evaluate(rate))
            points.sort(key=lambda point: point.events)
        return points

    def pick(self, points: list[Point], budget: Budget) -> Point:
        """The fewest events within the budget; of a budget of events, the best quality. Raises SpikecError,
        exit code 4, when no point is within it."""
        within = [point for point in points if self._met(point, budget)]
        if within and budget.measure == "events":
            return min(within, key=lambda point: Quality(point.kl, point.ppl, point.cosine).distance)
        if within:
            return min(within, key=lambda point: point.events)
        best = min(points, key=lambda point: Quality(point.kl, point.ppl, point.cosine).distance)
        reached = best.value(budget.measure)
        raise SpikecError(
            f"the budget {budget} cannot be met",
            where="--budget",
            why=f"the best reached is {_told(budget.measure, reached)} at {best.events:.2f} events a synapse",
            fix="allow more, give more calibration text (--data, --tokens), or more timesteps (-T)",
            exit_code=4,
        )


def _told(measure: str, value: float | None) -> str:
    if value is None:
        return f"not known ({measure} needs an output over the vocabulary)"
    return f"ppl {100 * value:+.3f}%" if measure == "ppl" else f"{measure} {value:.5g}"
