"""The pass of method `auto`: sensitivities, exchange rate, and the neurons that follow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from spikec.custom_ops.few_spikes_encode import GROWTH, execution, first_coarse, step_weights
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.storage import fingerprint

from ..calibrate.neuron import Neuron
from ..calibrate.thresholds import HEADROOM
from .budget import Budget
from .plan import KINDS, STATE, Choice, SitePlan, allocate, site_plan
from .rounding import tables
from .search import Memory, Search
from .statistics import WeightedStatistics

HELD_OUT = 4
"""One of so many calibration inputs is kept from the fit, to measure on."""


@compiler_pass(after=["observe"])
def allocate_spikes(
    program: Program,
    *,
    model: Path,
    feeds: list[Feed],
    timesteps: int = 8,
    search: Path | None = None,
    progress: Callable[..., None] | None = None,
) -> None:
    """`program.neurons` of the fewest events within the budget; `program.statistics["pareto"]`: the points
    measured on the way."""
    if len(feeds) < 2:
        raise SpikecError(
            "method auto needs two or more calibration inputs",
            why="it fits on some and measures on others",
            fix="give --data TEXT with more tokens, or a smaller --context",
        )
    fitting = [feed for index, feed in enumerate(feeds) if index % HELD_OUT != HELD_OUT - 1]
    held_out = [feed for index, feed in enumerate(feeds) if index % HELD_OUT == HELD_OUT - 1]
    held_out = held_out or [fitting.pop()]
    plans = _plans(program, timesteps)

    def report(what: str, done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, what)

    memory = Memory(search, _key(model, feeds, timesteps))
    job = Search(program, model, plans, timesteps, fitting, held_out, memory, report)
    job.probe()
    job.settle()
    budget = Budget.read(program.settings["budget"] or _default(program))
    points = job.refine(job.curve(budget), budget)
    chosen = job.pick(points, budget)
    choices = allocate(job.plans, chosen.rate, timesteps)
    for name, choice in choices.items():
        program.neurons[name] = _neuron(job.plans[name], choice, timesteps)
    program.statistics["pareto"] = {
        "budget": str(budget),
        "chosen": asdict(chosen),
        "points": [asdict(point) for point in sorted(points, key=lambda point: point.events)],
        "tokens": int(sum(next(iter(feed.values())).size for feed in held_out)),
    }


def _default(program: Program) -> str:
    return "ppl<=+1%" if program.settings.get("vocabulary") and _scores(program) else "cosine>=0.999"


def _scores(program: Program) -> bool:
    vocabulary = program.settings["vocabulary"]
    return any(output.shape and output.shape[-1] == vocabulary for output in program.graph.outputs)


def _plans(program: Program, digits: int) -> dict[str, SitePlan]:
    sites, roles = program.statistics["sites"], program.statistics["roles"]
    fan_out: dict[str, int] = dict.fromkeys(sites, 0)
    for finding in program.of("linear"):
        fan_out[finding.sources[0].name] += finding.facts["weight"].shape[1]
    for finding in program.of("matmul_dynamic"):
        left, right = finding.sources
        if roles[left.name] != "linear":
            fan_out[left.name] = sites[right.name].shape[-1]
    macs = {name: site.count * fan_out[name] for name, site in sites.items()}
    total = max(1, sum(macs.values()))
    return {name: site_plan(roles[name], site, macs[name] / total, digits) for name, site in sites.items()}


def _key(model: Path, feeds: list[Feed], timesteps: int) -> str:
    """Of all that the measurements depend on: the graph, its weights wherever they lie, the data, the steps
    and what a site may take."""
    files = [model, *sorted(path for path in model.parent.glob("*.bin") if path.stem != "original")]
    parts = [timesteps, KINDS, GROWTH, *(fingerprint(path) for path in files)]
    seen = hashlib.sha256(repr(parts).encode())
    for feed in feeds:
        for name in sorted(feed):
            seen.update(np.ascontiguousarray(feed[name]).tobytes())
    return seen.hexdigest()


def _neuron(plan: SitePlan, choice: Choice, digits: int) -> Neuron:
    """FewSpikesEncode with as many ranges as the largest value seen needs."""
    boundaries, levels, patterns = tables(choice.setting.penalty, choice.setting.basis, digits)
    theta, top = choice.setting.theta, int(levels[-1])
    norms = plan.statistics.norms if isinstance(plan.statistics, WeightedStatistics) else None
    step = theta if norms is None else theta * norms
    reach = HEADROOM * plan.statistics.largest / max(float(np.max(step)), 1e-30) / (top + 0.5)
    ranges = 1 + max(0, int(np.ceil(np.log2(max(reach, 1.0)))))
    attributes: dict[str, Any] = {
        "ranges": ranges, "digits": digits, "basis": choice.setting.basis,
        "state": int(plan.role in STATE), "steps": 1, "to": 0,
    }  # fmt: skip
    edges = np.concatenate([[0.0], boundaries, [top + 0.5]])
    slack = np.maximum(levels - edges[:-1], edges[1:] - levels)
    coarse = first_coarse(levels)

    def error(x: np.ndarray) -> np.ndarray:
        z = np.abs(x) / theta
        gate = 2.0 ** np.clip(np.ceil(np.log2(np.maximum(z / (top + 0.5), 1.0))), 0, ranges - 1)
        fine = z / gate
        index = np.searchsorted(boundaries, fine)
        lifted = np.where(gate > 1, np.maximum(levels[coarse] - fine, 0), 0)
        return np.asarray(np.maximum(np.maximum(slack[index], lifted), fine - top) * gate * theta)

    scalar = theta.ndim == 0
    return Neuron(
        op="FewSpikesEncode",
        attributes=execution(attributes, True),
        largest=float(top * 2 ** (ranges - 1)),
        error=error,
        scale=float(theta) if scalar else 1.0,
        radix=1,
        channels=None if scalar else theta,
        constants={"theta": theta, "boundaries": boundaries, "levels": levels, "patterns": patterns},
        facts={
            "step": float(np.max(step)), "penalty": choice.setting.penalty, "ranges": ranges,
            "step_weights": list(step_weights(choice.setting.basis, digits)),
            "events_per_value": choice.events, "relative_error": choice.error,
            "sensitivity": plan.sensitivity, "share_of_macs": plan.share,
        },
    )  # fmt: skip
