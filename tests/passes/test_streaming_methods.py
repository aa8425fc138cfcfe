"""Methods fas, ecmt and dcgs: where their thresholds stand, and what a compiled stream of them holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spikec.cli import main
from spikec.ir.diagnostics import SpikecError
from spikec.passes.calibrate.channels import RowStatistics
from spikec.passes.calibrate.neuron import Neuron, Site
from spikec.passes.calibrate.respond import quantised, respond
from spikec.passes.methods import METHODS, pick

STORY = Path(__file__).parents[2] / "examples" / "story"


def site(x: np.ndarray, role: str = "linear") -> Site:
    statistics = RowStatistics(np.ones(x.shape[-1]) if role == "linear" else None)
    statistics.add(x)
    return Site("x", role, statistics)


def neuron_of(name: str, x: np.ndarray, role: str = "linear", steps: int = 8, **options: object) -> Neuron:
    method, steps, chosen = pick(name, steps, options)
    return method.choose(site(x, role), steps, chosen)


def activations(seed: int = 0) -> np.ndarray:
    """Channels of sizes a hundred times apart."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((400, 24)) * np.logspace(-1, 1, 24)).astype(np.float32)


@pytest.mark.parametrize("steps", [2, 4, 8, 16])
@pytest.mark.parametrize("positive", [True, False])
def test_fas_is_qcfs_for_constant_input(steps: int, positive: bool) -> None:
    x = np.abs(activations()) if positive else activations()
    neuron = neuron_of("fas", x, steps=steps)
    assert neuron.channels is not None and neuron.channels.shape == (24,)
    decoded, code = respond(neuron, [x], steps)
    value, wanted = quantised(neuron, x)
    np.testing.assert_array_equal(code, wanted)
    np.testing.assert_array_equal(decoded[-1], value)
    assert code.min() == (0 if positive else -steps) and code.max() == steps
    assert not np.array_equal(decoded[0], decoded[-1])


def test_fas_thresholds_and_membranes_are_per_channel_never_per_position() -> None:
    for role, shape in (("linear", (24,)), ("q", ()), ("p", ())):
        neuron = neuron_of("fas", np.abs(activations()), role, sites="all")
        assert neuron.constants["theta"].shape == neuron.constants["v0"].shape == shape
    theta = neuron_of("fas", activations()).constants["theta"]
    assert theta[-1] > 50 * theta[0]


def test_error_bounds_hold() -> None:
    x = activations()
    for name in ("fas", "ecmt", "dcgs"):
        neuron = neuron_of(name, x)
        made, worth = neuron.encode(x * 3)
        off = np.abs(made[0] * neuron.scale * worth - x * 3)
        assert np.all(off <= neuron.error(x * 3) * (1 + 1e-5)), name


@pytest.mark.parametrize(("name", "snr"), [("ecmt", 25), ("dcgs", 40)])
def test_ladders_come_to_a_steady_value(name: str, snr: float) -> None:
    x = activations()
    neuron = neuron_of(name, x, percentile=100)
    decoded, _ = respond(neuron, [x], 8)
    noise = [10 * np.log10((x**2).mean(0) / ((y - x) ** 2).mean(0)).mean() for y in decoded]
    assert noise[-1] > snr and noise[-1] > noise[0] + 6


def test_ecmt_sides_have_their_own_thresholds() -> None:
    x = activations()
    x[x < 0] *= 0.25
    rule = neuron_of("ecmt", x).step
    assert rule is not None
    up, down = rule.constants["positive"], rule.constants["negative"]
    assert np.all(up == 16) and 2 <= np.median(down) <= 6
    smallest = neuron_of("ecmt", x, anchor="smallest", percentile=99).step
    assert smallest is not None
    assert np.all(smallest.constants["unit"] > 30 * rule.constants["unit"])


def test_ecmt_takes_back_what_it_emitted_too_early() -> None:
    x = activations()
    neuron = neuron_of("ecmt", x)
    decoded, _ = respond(neuron, [x, *[-x / 7] * 7], 8)  # running means that change sign
    still, _ = respond(neuron, [-x / 7], 8)
    assert np.abs(decoded[-1] + x / 7).mean() < 6 * np.abs(still[-1] + x / 7).mean()


def test_massive_tokens_get_delta_neurons_unless_told() -> None:
    x = activations()
    x[0] *= 1000
    assert neuron_of("fas", x).step.op == "DeltaStep"  # type: ignore[union-attr]
    assert neuron_of("fas", x, massive="own").step.op == "IFStep"  # type: ignore[union-attr]
    assert neuron_of("fas", activations(), "v").step.op == "DeltaStep"  # type: ignore[union-attr]
    assert neuron_of("fas", activations(), "v", sites="all").step.op == "IFStep"  # type: ignore[union-attr]


@pytest.mark.parametrize(("name", "steps"), [("fas", 1), ("fas", 65), ("dcgs", 13), ("ecmt", 65)])
def test_steps_that_a_method_cannot_honour(name: str, steps: int) -> None:
    with pytest.raises(SpikecError, match="timesteps cannot be had"):
        pick(name, steps, {})


def test_none_of_them_collapses_and_says_so() -> None:
    for name in ("fas", "ecmt", "dcgs"):
        method = METHODS[name]
        assert not method.collapses and method.streams and "not collapsible" in method.guarantee


@pytest.mark.parametrize("name", ["fas", "ecmt", "dcgs"])
def test_compiled_story(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both executions of the stream give the same bits, and the perplexity is what the method can do."""
    out = tmp_path / "out"
    text = str(STORY / "heldout.txt")
    extra = ["--set", "calibrate=false"] if name == "fas" else []
    arguments = ["compile", str(STORY / "model.onnx"), "-o", str(out), "--method", name, "-T", "4"]
    assert main([*arguments, "--data", text, "--tokens", "512", "--context", "128", *extra]) == 0
    said = capsys.readouterr().out
    assert ("not collapsible" in said) == (name == "fas")
    arguments = ["verify", str(out), "--data", text, "--tokens", "256", "--context", "128", "--json"]
    main([*arguments, "--unrolled-tokens", "16"])
    found = json.loads(capsys.readouterr().out)
    assert 1e-4 < found["kl"] < {"fas": 1.5, "ecmt": 1.0, "dcgs": 0.5}[name]
