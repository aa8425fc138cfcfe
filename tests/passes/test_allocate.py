"""The least spikes for a budget: optimal roundings, steps by sensitivity, an honest search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spikec.custom_ops.signed_digit_encode import naf_digits, naf_weight
from spikec.ir.diagnostics import SpikecError
from spikec.passes.allocate.budget import Budget
from spikec.passes.allocate.curves import curve
from spikec.passes.allocate.plan import SitePlan, allocate, per_synapse, rate_for, setting, site_plan
from spikec.passes.allocate.rounding import highest, rounding
from spikec.passes.allocate.search import Memory, Point, Search
from spikec.passes.allocate.statistics import WeightedStatistics


@pytest.mark.parametrize("penalty", [0.0, 0.2, 0.5, 1.0])
def test_rounding_is_the_cheapest_code(penalty: float) -> None:
    digits = 7
    boundaries, levels = rounding(penalty, digits)
    z = np.linspace(0, highest(digits), 20011)
    codes = np.arange(highest(digits) + 1)
    cost = (z[:, None] - codes) ** 2 + penalty * naf_weight(codes)
    chosen = levels[np.searchsorted(boundaries, z.astype(np.float32))]
    taken = (z - chosen) ** 2 + penalty * naf_weight(chosen)
    np.testing.assert_allclose(taken, cost.min(-1), atol=1e-4)
    midpoints = (levels[1:] + levels[:-1]) / 2
    assert np.array_equal(boundaries, midpoints) == (penalty == 0)


def test_the_non_adjacent_form() -> None:
    digits = 8
    codes = np.arange(highest(digits) + 1)
    train = naf_digits(codes, digits)
    weights = 2 ** np.arange(digits - 1, -1, -1)
    np.testing.assert_array_equal((train * weights[:, None]).sum(0), codes)
    assert not (train[1:] & train[:-1] & 1).any()  # no two neighbours fire
    np.testing.assert_array_equal(np.abs(train).sum(0), naf_weight(codes))


def statistics(importance: np.ndarray | None = None) -> WeightedStatistics:
    found = WeightedStatistics(importance)
    found.add(np.random.default_rng(0).standard_normal((600, 64)).astype(np.float32))
    return found


def test_a_curve_is_what_the_encoder_does() -> None:
    x = np.random.default_rng(0).standard_normal((600, 64)).astype(np.float32)
    found = curve(statistics(), 0.5, 8)
    boundaries, levels = rounding(0.5, 8)
    for at in (20, 50, 80):
        step = found.steps[at]
        z = np.abs(x) / step
        gate = 2.0 ** np.ceil(np.log2(np.maximum(z / (highest(8) + 0.5), 1)))
        code = levels[np.searchsorted(boundaries, z / gate)]
        error = ((np.abs(x) - code * gate * step) ** 2).sum() / (x**2).sum()
        assert found.events[at] == pytest.approx(naf_weight(code).mean(), rel=0.03, abs=1e-3)
        assert found.error[at] == pytest.approx(error, rel=0.06)


def test_sensitive_sites_get_the_spikes() -> None:
    plans = {
        name: SitePlan(p.role, p.statistics, p.curves, 0.5, sensitivity)
        for name, sensitivity in (("a", 1.0), ("b", 0.01))
        for p in [site_plan("linear", statistics(np.ones(64)), 0.5, 8)]
    }
    for wanted in (0.5, 1.0, 1.5):
        choices = allocate(plans, rate_for(plans, wanted, 8), 8)
        assert per_synapse(plans, choices) == pytest.approx(wanted, abs=0.05)
        assert choices["a"].events > choices["b"].events
        assert choices["a"].error < choices["b"].error


def test_steps_go_against_the_weights() -> None:
    norms = np.geomspace(0.1, 10, 64)
    plan = site_plan("linear", statistics(norms**2), 1.0, 8)
    theta = setting(plan, 0.5, 0.0, 8).theta
    np.testing.assert_allclose(theta * norms, 0.5, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "measure", "bound"),
    [
        ("ppl<=+1%", "ppl", 0.01),
        ("kl<=0.01", "kl", 0.01),
        (" COSINE >= 0.999 ", "cosine", 0.999),
        ("events<=1", "events", 1),
    ],
)
def test_budgets(text: str, measure: str, bound: float) -> None:
    budget = Budget.read(text)
    assert (budget.measure, budget.bound) == (measure, pytest.approx(bound))
    assert Budget.read(str(budget)) == budget


@pytest.mark.parametrize(
    "text", ["", "ppl", "ppl<=1", "kl<=1%", "cosine<=0.9", "kl<=-1", "cosine>=1", "speed<=2"]
)
def test_no_budgets(text: str) -> None:
    with pytest.raises(SpikecError, match=r"budget|bounded|cannot be met"):
        Budget.read(text)


def test_a_budget_that_cannot_be_met_tells_the_best_reached() -> None:
    search = Search.__new__(Search)
    points = [Point(1.0, 0.5, 0.3, 0.2, 0.9), Point(0.1, 1.0, 0.1, 0.05, 0.99)]
    with pytest.raises(SpikecError) as error:
        search.pick(points, Budget("ppl", 0.01))
    assert error.value.exit_code == 4 and "+10.517%" in error.value.why  # what the divergence allows
    assert search.pick(points, Budget("ppl", 0.11)) is points[1]
    assert search.pick(points, Budget("ppl", 0.5)) is points[0]
    assert search.pick(points, Budget("events", 1.0)) is points[1]


def test_measurements_are_remembered_for_the_same_model_only(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "m.json", "one")
    memory["sensitivities"]["site"] = 0.5
    memory.keep()
    assert Memory(tmp_path / "m.json", "one")["sensitivities"] == {"site": 0.5}
    assert Memory(tmp_path / "m.json", "two")["sensitivities"] == {}
    (tmp_path / "m.json").write_text("{not json")
    assert Memory(tmp_path / "m.json", "one")["points"] == {}
