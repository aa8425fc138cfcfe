"""The search of `auto`: every site's sensitivity, then the exchange rate until the budget is met.

Half of its time is spent on the corrections of the candidates; what was measured is kept in a file beside the
output, so that a search that was broken off goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed, shorten
from spikec.ir.program import Program
from spikec.ir.session import Session, anchored

from . import surrogate
from .budget import Budget
from .correct import Correction, correct
from .plan import STATE, Choice, SitePlan, allocate, per_synapse, rate_for, setting
from .quality import Quality, Reference

PROBE_EVENTS = 1.0
"""Sites are probed at about so many events a value."""
PROBE_TOKENS = 256
CURVE = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
"""Events per synapse of the points of the Pareto curve."""
Progress = Callable[[str, int, int], None]
Candidate = tuple[dict[str, Choice], dict[str, Correction], onnx.ModelProto]


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
        return self.events if measure == "events" else Quality(self.kl, self.ppl, self.cosine).value(measure)


class Memory:
    """Measurements kept in a file, valid for one model, data and set of options (`key`)."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.known = path, {"key": key, "sensitivities": {}, "points": {}}
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
    last: tuple[float, Candidate] | None = None
    """The candidate made last: often the one that is picked."""

    def probe(self) -> None:
        """Sensitivities κ of all sites: the divergence that one site alone causes, over its squared error."""
        model = surrogate.build(anchored(self.ann), self.program, self.digits)
        session = Session(model, surrogate.session_options())
        feeds = [shorten(self.program.settings["inputs"], self.held_out[0], PROBE_TOKENS)]
        reference = self._reference(feeds)
        roles = self.program.statistics["roles"]
        known = self.memory["sensitivities"]
        names = [name for name, plan in self.plans.items() if plan.role not in STATE]
        for number, name in enumerate(names):
            if name not in known:
                plan = self.plans[name]
                curve = plan.curves[0]
                at = len(curve.events) - 1 - int(np.searchsorted(curve.events[::-1], PROBE_EVENTS))
                at = min(max(at, 0), len(curve.events) - 1)
                alone = {name: setting(plan, float(curve.steps[at]), 0.0, self.digits)}
                quality = reference.compare(session, surrogate.settings_feed(roles, alone))
                known[name] = max(quality.distance, 1e-9) / max(float(curve.error[at]), 1e-12)
                if number % 16 == 0:
                    self.memory.keep()
            self.progress("sensitivity: site", number + 1, len(names))
        self.memory.keep()
        for name in names:
            self.plans[name] = replace(self.plans[name], sensitivity=known[name])

    def _reference(self, feeds: list[Feed]) -> Reference:
        return Reference(self.program, Session(anchored(self.ann)), feeds)

    def candidate(self, rate: float) -> Candidate:
        if self.last is not None and self.last[0] == rate:
            return self.last[1]
        choices = allocate(self.plans, rate, self.digits)
        settings = {name: choice.setting for name, choice in choices.items()}
        what = f"correction at {self.events(choices):.2f} events: layer"

        def told(done: int, count: int) -> None:
            self.progress(what, done, count)

        corrections, model = correct(self.program, self.ann, self.fitting, settings, self.digits, told)
        self.last = rate, (choices, corrections, model)
        return self.last[1]

    def events(self, choices: dict[str, Choice]) -> float:
        return per_synapse(self.plans, choices)

    def evaluate(self, rate: float) -> Point:
        """The Point of an exchange rate, from memory where it was measured before."""
        key = f"{rate:.6g}"
        if key not in self.memory["points"]:
            choices, _, model = self.candidate(rate)
            settings = {name: choice.setting for name, choice in choices.items()}
            fixed = surrogate.settings_feed(self.program.statistics["roles"], settings)
            session = Session(model, surrogate.session_options())
            quality = self._reference(self.held_out).compare(session, fixed)
            point = Point(rate, self.events(choices), quality.kl, quality.ppl, quality.cosine)
            self.memory["points"][key] = asdict(point)
            self.memory.keep()
        return Point(**self.memory["points"][key])

    def curve(self, budget: Budget) -> list[Point]:
        """Points towards the budget: those of CURVE until it lies between two, then halving."""
        points: list[Point] = []
        if budget.measure == "events":
            return [self.evaluate(rate_for(self.plans, budget.bound * 0.99, self.digits))]
        for events in CURVE:
            points.append(self.evaluate(rate_for(self.plans, events, self.digits)))
            if self._met(points[-1], budget):
                break
        return points

    def _met(self, point: Point, budget: Budget) -> bool:
        value = point.value(budget.measure)
        return value is not None and budget.met(value)

    def refine(self, points: list[Point], budget: Budget, rounds: int = 2) -> list[Point]:
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
        """The fewest events within the budget. Raises SpikecError, exit code 4, when no point is."""
        within = [point for point in points if self._met(point, budget)]
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
