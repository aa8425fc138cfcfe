"""The least spikes for a budget: optimal roundings, steps by sensitivity, an honest search."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.few_spikes_encode import GROWTH, events, execution, spelling, step_weights
from spikec.ir.diagnostics import SpikecError
from spikec.passes.allocate.budget import Budget
from spikec.passes.allocate.curves import curve
from spikec.passes.allocate.plan import SitePlan, allocate, per_synapse, rate_for, setting, site_plan
from spikec.passes.allocate.rounding import rounding, tables
from spikec.passes.allocate.search import Memory, Point, Search
from spikec.passes.allocate.statistics import WeightedStatistics

BASES = range(len(GROWTH))


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("penalty", [0.0, 0.2, 0.5, 1.0])
def test_rounding_is_the_cheapest_code(penalty: float, basis: int) -> None:
    digits = 7
    boundaries, levels = rounding(penalty, basis, digits)
    spikes = spelling(basis, digits)[0]
    codes = np.arange(len(spikes))
    z = np.linspace(0, len(codes) - 1, 20011)
    cost = (z[:, None] - codes) ** 2 + penalty * spikes
    chosen = levels[np.searchsorted(boundaries, z.astype(np.float32))]
    taken = (z - chosen) ** 2 + penalty * spikes[chosen]
    np.testing.assert_allclose(taken, cost.min(-1), atol=1e-4)
    midpoints = (levels[1:] + levels[:-1]) / 2
    assert np.array_equal(boundaries, midpoints) == (penalty == 0)


@pytest.mark.parametrize("basis", BASES)
def test_every_code_is_spelt_with_the_fewest_spikes(basis: int) -> None:
    digits = 6
    count, spikes = spelling(basis, digits)
    weights = np.array(step_weights(basis, digits))
    assert set(np.unique(spikes / weights[:, None])) <= {-1, 0, 1}
    np.testing.assert_array_equal(spikes.sum(0), np.arange(len(count)))
    np.testing.assert_array_equal((spikes != 0).sum(0), count)
    every = np.array(list(itertools.product([-1, 0, 1], repeat=digits)))
    sums, used = every @ weights, np.abs(every).sum(1)
    for code in range(len(count)):
        assert used[sums == code].min() == count[code]


def test_powers_of_two_are_the_non_adjacent_form() -> None:
    count, _ = spelling(0, 8)
    codes = np.arange(len(count))
    np.testing.assert_array_equal(count, np.bitwise_count(codes ^ (3 * codes)))


def test_a_code_tells_its_spikes_in_any_range() -> None:
    x = np.random.default_rng(0).standard_normal(4000).astype(np.float32) ** 3 * 30
    for basis in BASES:
        boundaries, levels, spikes = tables(0.3, basis, 8)
        common = {"ranges": 12, "digits": 8, "basis": basis, "state": 0, "steps": 1, "to": 0}
        made = [
            OPS["FewSpikesEncode"].numpy(
                x, np.float32(0.1), boundaries, levels, spikes, **execution(common, packed)
            )
            for packed in (True, False)
        ]
        np.testing.assert_array_equal(made[0][0], made[1].sum(0))
        assert np.abs(made[0]).max() > levels[-1]
        np.testing.assert_array_equal(events(made[0][0], common), (made[1] != 0).sum(0))


def statistics(importance: np.ndarray | None = None) -> WeightedStatistics:
    found = WeightedStatistics(importance)
    found.add(np.random.default_rng(0).standard_normal((600, 64)).astype(np.float32))
    return found


@pytest.mark.parametrize("basis", BASES)
def test_a_curve_is_what_the_encoder_does(basis: int) -> None:
    x = np.random.default_rng(0).standard_normal((600, 64)).astype(np.float32)
    found = curve(statistics(), 0.35, basis, 8)
    boundaries, levels, spikes = tables(0.35, basis, 8)
    common = {"ranges": 12, "digits": 8, "basis": basis, "state": 0, "steps": 1, "to": 0}
    for at in (4, 14, 26):
        theta = np.float32(found.steps[at])
        code = OPS["FewSpikesEncode"].numpy(x, theta, boundaries, levels, spikes, **execution(common, True))[
            0
        ]
        error = ((x - code * theta) ** 2).sum() / (x**2).sum()
        assert found.events[at] == pytest.approx(events(code, common).mean(), rel=0.05, abs=1e-3)
        assert found.error[at] == pytest.approx(error, rel=0.15)


def test_sensitive_sites_get_the_spikes() -> None:
    plans = {
        name: SitePlan(p.role, p.statistics, p.curves, 0.5, sensitivity)
        for name, sensitivity in (("a", 1.0), ("b", 0.01))
        for p in [site_plan("linear", statistics(np.ones(64)), 0.5, 8)]
    }
    for wanted in (0.5, 1.0, 1.5):
        choices = allocate(plans, rate_for(plans, wanted, 8), 8)
        assert per_synapse(plans, choices) == pytest.approx(wanted, abs=0.1)
        assert choices["a"].events > choices["b"].events
        assert choices["a"].error < choices["b"].error


def test_steps_go_against_the_weights() -> None:
    norms = np.geomspace(0.1, 10, 64)
    plan = site_plan("linear", statistics(norms**2), 1.0, 8)
    theta = setting(plan, 0.5, 0, 8).theta
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
