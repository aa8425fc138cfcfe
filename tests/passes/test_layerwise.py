"""Layer-wise calibration: its streaming prefix is the model's, its search finds thresholds, errors fall."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spikec.compile import Settings, compile_model
from spikec.data import calibration_feeds
from spikec.ir.diagnostics import SpikecError
from spikec.ir.program import Program
from spikec.passes.calibrate.integrate import integer_spiking, integrate_and_fire
from spikec.passes.calibrate.layerwise import windows
from spikec.passes.calibrate.levels import Levels
from spikec.passes.calibrate.respond import respond
from spikec.passes.calibrate.tune import alignment, tune
from spikec.passes.methods import pick
from spikec.runtime.session import Compiled

STORY = Path(__file__).parents[2] / "examples" / "story"


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((150, 12)).astype(np.float32)


def half(theta: np.ndarray) -> np.ndarray:
    return np.full(theta.shape, 0.5, np.float32)


@pytest.mark.parametrize("kind", ["if", "is"])
def test_alignment_is_the_error_of_the_neuron_itself(kind: str) -> None:
    """All candidates at once give what each gives by itself, step by step."""
    x, rng = rows(), np.random.default_rng(1)
    running = [x * f for f in (0.3, 1.4, 0.8, 1.0)]
    thetas = (rng.random((5, 12)) + 0.2).astype(np.float32)
    starts = rng.random((5, 12)).astype(np.float32)

    def made(theta: np.ndarray, v0: np.ndarray):  # type: ignore[no-untyped-def]
        return integrate_and_fire(theta, v0, 4, -1) if kind == "if" else integer_spiking(theta, v0, 4, 6)

    got = alignment(made(thetas[0], starts[0]), thetas, starts, running, x, 4)
    for k in range(5):
        decoded, _ = respond(made(thetas[k], starts[k]), running, 4)
        want = ((decoded[-1].astype(np.float64) - x) ** 2).sum(0)
        np.testing.assert_allclose(got[k], want, rtol=1e-4)


def test_the_search_brings_back_thresholds_that_are_off_by_channel() -> None:
    x = np.abs(rows())
    right = np.full(12, 2.0, np.float32)
    wrong = (right * np.tile([1.25, 0.8], 6)).astype(np.float32)
    start = integrate_and_fire(wrong, half(wrong), 8, 0)
    target = respond(integrate_and_fire(right, half(right), 8, 0), [x], 8)[0][-1]
    coarse, fine = tune(start, [x], target, None, 8)
    factor = coarse.constants["theta"] / wrong
    assert np.allclose(factor, factor[0])
    off = [np.abs(n.constants["theta"] / right - 1).max() for n in (start, coarse, fine)]
    assert off[2] < 0.13 < off[1]  # candidates lie up to 12 % apart
    error = [((respond(n, [x], 8)[0][-1] - target) ** 2).mean() for n in (start, coarse, fine)]
    assert error[2] < error[1] / 2 and error[1] <= error[0]


def test_membranes_take_a_bias_away() -> None:
    """Values below half a step are lost with v0 = 1/2; a channel whose values all lie there gets more."""
    x = np.full((100, 12), 0.18, np.float32) * np.random.default_rng(0).uniform(0.9, 1.1, (100, 12)).astype(
        np.float32
    )
    theta = np.full(12, 2.0, np.float32)
    _, fine = tune(integrate_and_fire(theta, half(theta), 4, 0), [x], x, None, 4)
    value = respond(fine, [x], 4)[0][-1]
    assert np.abs(value - x).mean() < np.abs(x).mean() * 0.9


def test_one_threshold_a_site_with_a_membrane_a_channel() -> None:
    x = rows()
    theta = np.array(0.11, np.float32)
    start = integer_spiking(theta, np.full(12, 0.5, np.float32), 4, 6)
    coarse, fine = tune(start, [x * 1.5, x * 0.4, x * 0.8, x], x, np.arange(1.0, 13.0), 4)
    assert coarse.constants["theta"].shape == fine.constants["theta"].shape == ()
    assert coarse.constants["v0"].shape == fine.constants["v0"].shape == (12,)
    assert np.all(coarse.constants["v0"] == 0.5) and len(np.unique(fine.constants["v0"])) > 1
    error = [
        ((respond(n, [x * 1.5, x * 0.4, x * 0.8, x], 4)[0][-1] - x) ** 2).sum() for n in (start, coarse, fine)
    ]
    assert error[2] < error[1] < error[0]


def test_a_site_that_is_an_input_is_read_as_it_is(recognise: Callable[..., Program]) -> None:
    """Only what a node makes is encoded on the way; the levels give what the model gives."""
    w, u = (np.random.default_rng(k).standard_normal((8, 8)).astype(np.float32) for k in (0, 1))
    text = """(float[1,n,8] x) => (float[1,n,8] y) {
      h = MatMul (x, w)  r = Relu (h)  z = MatMul (r, u)  q = Relu (z)  y = MatMul (q, w)
    }"""
    program = recognise(text, w=w, u=u)
    assert {f.sources[0].name for f in program.of("linear")} == {"x", "r"}
    levels = Levels(program.source, program, [])
    assert levels.sites == [["r"], []]
    x = rows()[None, :5, :8]
    want = np.maximum(np.maximum(x @ w, 0) @ u, 0) @ w
    np.testing.assert_allclose(levels.finish(0, levels.start({"x": x})), want, rtol=1e-4, atol=1e-4)


def compiled(folder: Path, method: str = "fas", **options: object) -> Program:
    program = Program.load(STORY / "model.onnx")
    tokenizer = STORY / "tokenizer.json"
    feeds = calibration_feeds(program, STORY / "heldout.txt", None, tokenizer, 512, 128)
    settings = Settings(method, 4, options={"calibration_tokens": 128, **options})
    return compile_model(program, folder, settings, feeds=feeds, tokenizer=tokenizer)


def test_errors_of_the_story_model_go_down(tmp_path: Path) -> None:
    program = compiled(tmp_path / "tuned")
    found = program.statistics["layerwise"]
    blocks = found["blocks"]
    assert len(blocks) == 5 and {block["kept"] for block in blocks.values()} <= {"neither", "coarse", "fine"}
    assert found["divergence_after"] < found["divergence_before"]
    assert sum(block["after"] < block["before"] for block in blocks.values()) >= 4
    assert 0.05 < found["chain_mismatch"]["of_active"] < 0.9
    again = compiled(tmp_path / "measured", calibrate=False).statistics["layerwise"]
    for block, before in blocks.items():
        assert again["blocks"][block]["before"] == pytest.approx(before["before"], rel=1e-6)
        assert again["blocks"][block]["kept"] == "nothing"
    assert (tmp_path / "tuned/model.onnx").read_bytes() != (tmp_path / "measured/model.onnx").read_bytes()


def test_the_prefix_is_the_compiled_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes after the last step are those of the model that was written. Its norms are bit-serial, which tips
    a few; deeper, one code that differs changes what arrives later, and neurons that cannot settle drift
    apart."""
    codes: dict[str, np.ndarray] = {}
    fire = Levels.fire

    def watched(self: Levels, *given: object) -> tuple[object, dict[str, np.ndarray]]:
        after, found = fire(self, *given)  # type: ignore[arg-type]
        codes.update(found)
        return after, found

    monkeypatch.setattr(Levels, "fire", watched)
    program = compiled(tmp_path / "out", calibrate=False)
    feeds = calibration_feeds(
        Program.load(STORY / "model.onnx"), STORY / "heldout.txt", None, STORY / "tokenizer.json", 512, 128
    )
    assert feeds is not None
    _, held = windows(program, feeds, 128)
    own = [site for site in codes if program.neurons[site].step.op == "IFStep"][:4]
    session = Compiled(tmp_path / "out").session("packed", outputs=[f"{site}/spikes" for site in own])
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(None, held), strict=True))
    same, lit = [], 0
    for site in own:
        got, want = found[f"{site}/spikes"].reshape(4, -1).sum(0), codes[site].reshape(-1)
        lit += np.count_nonzero(want)
        same.append((got == want)[(got != 0) | (want != 0)].mean())
    assert len(own) == 4 and lit > 1000 and min(same) > 0.97, same


def test_dual_streams_uneven_and_calibration_helps(tmp_path: Path) -> None:
    program = compiled(tmp_path / "out", "dual", stream=True, allow_uneven=True)
    assert not program.settings["method"].collapses
    found = program.statistics["layerwise"]
    assert found["divergence_after"] < found["divergence_before"]
    assert sum(block["after"] < block["before"] for block in found["blocks"].values()) >= 4
    steps = {neuron.step.op for neuron in program.neurons.values()}
    assert steps == {"ISStep", "DeltaStep"}
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["method"]["collapses"] is False and report["layerwise"]["blocks"]["0"]["before"] > 0


@pytest.mark.parametrize(
    ("steps", "options", "fix"),
    [
        (4, {}, "--allow-uneven"),
        (3, {"allow_uneven": True}, "1, 2, 4, 8, 16, 32"),
        (64, {"allow_uneven": True}, "32"),
    ],
)
def test_steps_that_a_streaming_dual_refuses(steps: int, options: dict[str, bool], fix: str) -> None:
    with pytest.raises(SpikecError, match="cannot be had") as error:
        pick("dual", steps, {"stream": True, **options})
    assert fix in str(error.value) + " ".join(error.value.details)
