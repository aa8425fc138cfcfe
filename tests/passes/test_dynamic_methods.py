"""Methods gif, int2spike and dual: whole recipes on real graphs, and what each does to a site."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx_graphsurgeon as gs
import pytest

from spikec.cli import main
from spikec.compile import Settings, compile_model
from spikec.custom_ops.catalogue import OPS
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import describe
from spikec.ir.program import Program
from spikec.passes.calibrate.neuron import Neuron, Site
from spikec.passes.calibrate.saliency import KEPT, SaliencyStatistics
from spikec.passes.calibrate.statistics import SiteStatistics
from spikec.passes.calibrate.thresholds import uniform
from spikec.passes.methods import METHODS, gif, pick
from spikec.passes.methods.int2spike import SpikeCounts
from spikec.passes.rewrite.products import channel_scale, largest_weight, offset_current, rounded
from spikec.runtime.session import Compiled, run
from spikec.verify import compare_executions

STORY = Path(__file__).parents[2] / "examples" / "story"
RECIPES = [
    ("gif", None, {}),
    ("gif", None, {"addbit": 2, "n_bits": 5}),
    ("int2spike", 8, {}),
    ("int2spike", 5, {"saturate": "clip"}),
    ("int2spike", 24, {"mode": "ternary"}),
    ("dual", 3, {}),
    ("dual", 4, {"allow_uneven": True}),
    ("dual", 5, {"bits": 8, "range": "max"}),
]


def tokens(model: Path, seed: int = 0) -> dict[str, np.ndarray]:
    (name,) = (i.name for i in describe(Program.load(model).graph))
    return {name: np.random.default_rng(seed).integers(1, 200, (1, 48))}


@pytest.mark.parametrize(("name", "timesteps", "options"), RECIPES, ids=lambda v: str(v))
def test_a_recipe_on_a_real_model(tmp_path: Path, name: str, timesteps: int | None, options: dict) -> None:
    """Every rewrite is certified, the executions agree bit for bit, and the outputs stay near the ANN's."""
    feed = tokens(STORY / "model.onnx")
    settings = Settings(method=name, timesteps=timesteps, weights="int8", options=options)
    program = compile_model(STORY / "model.onnx", tmp_path / "out", settings, feeds=[feed])
    assert all(certificate.holds for certificate in program.certificates)
    compiled = Compiled(tmp_path / "out")
    compared = compare_executions(compiled, feed)
    assert compared["bit_identical"] and compared["codes"] > 100_000
    output = compiled.outputs[0]
    ann, snn = (run(compiled.session(which), feed)[output] for which in ("ann", "packed"))
    assert np.abs(ann - snn).max() > 0
    assert np.corrcoef(ann.ravel(), snn.ravel())[0, 1] > 0.9
    told = [d for d in program.diagnostics if d.code == "SPK205"]
    assert bool(told) is (options.get("saturate") == "clip")
    method = program.settings["method"]
    weights = method.weights(program.settings["options"]) or "int8"
    assert compiled.report["weights"] == weights


@pytest.mark.parametrize("name", ["gif", "int2spike", "dual"])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_recipe_on_other_graphs(tmp_path: Path, name: str, kind: str) -> None:
    model = models.save(tmp_path / "model", models.MAKERS[kind]())
    program = compile_model(model, tmp_path / "out", Settings(method=name, weights="int8"))
    assert program.certificates and all(certificate.holds for certificate in program.certificates)


# gif


def saliency(x: np.ndarray, *weights: np.ndarray) -> SaliencyStatistics:
    importance = sum((w.astype(np.float64) ** 2).sum(1) for w in weights)
    readers = [gs.Constant(f"w{i}", w) for i, w in enumerate(weights)]
    statistics = SaliencyStatistics(importance, readers=readers)  # type: ignore[arg-type]
    for part in np.array_split(x, 5):
        statistics.add(part)
    return statistics


def test_saliency_is_streamed_and_by_absolute_value() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 12)).astype(np.float32)
    a, b = (rng.standard_normal((12, n)).astype(np.float32) for n in (5, 9))
    gram = a.astype(np.float64) @ a.T + b.astype(np.float64) @ b.T
    want = np.abs(x * (x @ gram)).sum(0)
    got = saliency(x, a, b)
    np.testing.assert_allclose(got.saliency, want, rtol=1e-4)
    mask = got.salient(0.25)
    assert mask.sum() == 3 and want[mask].min() > want[~mask].max()
    assert KEPT / 2 <= len(got.rows) <= KEPT
    assert not got.salient(0.0).any() and got.salient(1.0).all()


def synthetic() -> tuple[np.ndarray, np.ndarray]:
    """Methods §2.4's activations as zoo_ref4 draws them, and which channels are its outliers."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (256, 4096))
    outliers = rng.choice(4096, 4096 // 200, replace=False)
    x[:, outliers] *= 30
    return x.astype(np.float32), np.isin(np.arange(4096), outliers)


def decibels(x: np.ndarray, decoded: np.ndarray) -> float:
    return float(10 * np.log10((x.astype(np.float64) ** 2).sum() / ((x - decoded) ** 2).sum()))


def options(name: str, **given: Any) -> dict[str, Any]:
    return pick(name, None, given)[2]


def decoded(neuron: Neuron, x: np.ndarray) -> np.ndarray:
    code, worth = neuron.encode(x)
    return neuron.scale * (code[0].astype(np.float64) - neuron.offset) * worth


def test_ranges_of_each_group_keep_the_body() -> None:
    """Methods §1.5.2: asymmetric ranges over the whole token give 7.5 dB and a body of 0.2 dB, those of each
    group after masking 17.3 and 10.1. Ours, symmetric with steps a power of two apart: 16.1 and 9.0."""
    x, outliers = synthetic()
    statistics = saliency(x, np.eye(4096, dtype=np.float32))
    neuron = gif.choose(Site("x", "linear", statistics), 3, options("gif"))
    assert statistics.salient(0.1)[outliers].all()
    got = decoded(neuron, x)
    assert np.all(np.abs(got - x) <= neuron.error(x))
    body = ~outliers
    assert decibels(x, got) == pytest.approx(16.1, abs=0.3)
    assert decibels(x[:, body], got[:, body]) == pytest.approx(9.0, abs=0.3)
    one_range = gif.neuron(neuron.attributes["levels"], [1] * 4096, 3, -1, chunk=7)
    whole = decoded(one_range, x)
    assert decibels(x, whole) < 9 and decibels(x[:, body], whole[:, body]) < 1


def test_more_bits_for_salient_channels_help() -> None:
    x, _ = synthetic()
    statistics = saliency(x, np.eye(4096, dtype=np.float32))
    sites = [gif.choose(Site("x", "linear", statistics), 3, options("gif", addbit=a)) for a in (0, 1, 2)]
    quality = [decibels(x, decoded(neuron, x)) for neuron in sites]
    assert quality == sorted(quality) and quality[2] > quality[0] + 1


# int2spike


def test_steps_follow_what_calibration_needs_and_saturation_is_told() -> None:
    x = np.random.default_rng(0).standard_normal((64, 500)).astype(np.float32)
    x[3, 7] = 300
    statistics = SpikeCounts(np.ones(500))
    statistics.add(x)
    site, method = Site("x", "linear", statistics), METHODS["int2spike"]
    wide = method.choose(site, 16, options("int2spike"))
    assert wide.facts["steps"] < 16 and wide.facts["saturated"] == 0
    assert 2 ** wide.facts["steps"] > wide.facts["largest_count"]
    narrow = method.choose(site, 5, options("int2spike", saturate="clip"))
    _, theta = narrow.encode(x)
    clips = (np.abs(x) > theta * 31.5).mean()
    assert narrow.facts["saturated"] == pytest.approx(clips) and clips > 0
    error = np.abs(decoded(narrow, x) - x)
    assert np.all(error <= narrow.error(x)) and error[3, 7] > 200


def test_attention_values_have_a_threshold_of_all_tokens() -> None:
    """A dynamic one over the keys would let a token look at later ones."""
    for name in ("int2spike", "gif"):
        method = METHODS[name]
        statistics = method.statistics("v", None)
        statistics.add(np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32))
        neuron = method.choose(Site("v", "v", statistics), method.timesteps, options(name))
        assert not neuron.dynamic


# dual


def test_the_offset_is_a_constant_of_the_layer() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((9, 40)).astype(np.float32), rng.standard_normal((40, 7)).astype(np.float32)
    statistics = SiteStatistics(np.ones(40))
    statistics.add(x)
    neuron = METHODS["dual"].choose(Site("x", "linear", statistics), 3, options("dual"))
    assert neuron.offset == 32 and neuron.attributes["ceiling"] == 63
    most = largest_weight("int6")
    scale = channel_scale([w], most)
    synapses = rounded(w, scale, most)
    assert np.abs(synapses).max() == most == 31
    code, _ = neuron.encode(x)
    current = OPS["SpikeLinear"].numpy(code, synapses, scale, scale=neuron.scale, radix=1)
    exact = decoded(neuron, x) @ (synapses * scale.astype(np.float64))
    np.testing.assert_allclose(current + offset_current(synapses, scale, neuron), exact, rtol=0, atol=1e-5)
    assert np.abs(current - exact).max() > 1


def test_silent_negatives_need_no_offset() -> None:
    x = np.abs(np.random.default_rng(0).standard_normal((9, 40))).astype(np.float32)
    statistics = SiteStatistics(np.ones(40))
    statistics.add(x)
    neuron = METHODS["dual"].choose(Site("x", "linear", statistics), 3, options("dual"))
    assert neuron.offset == 0 and neuron.encode(x)[0].max() == 63


@pytest.mark.parametrize(
    ("bits", "exact"), [(4, "1, 3, 5, 15"), (6, "1, 3, 7, 9, 21, 63"), (8, "1, 3, 5, 15, 17")]
)
def test_timesteps_that_are_not_exact_are_refused(bits: int, exact: str) -> None:
    with pytest.raises(SpikecError, match="4 timesteps cannot be had with method dual") as error:
        pick("dual", 4, {"bits": bits})
    assert exact in str(error.value) + " ".join(error.value.details)
    assert pick("dual", 4, {"bits": bits, "allow_uneven": True})[1] == 4
    for timesteps in (0, 2**bits):
        with pytest.raises(SpikecError, match="cannot be had"):
            pick("dual", timesteps, {"bits": bits, "allow_uneven": True})


def test_uneven_timesteps_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "compile",
        str(STORY / "model.onnx"),
        "-o",
        str(tmp_path / "out"),
        "--method",
        "dual",
        "-T",
        "4",
    ]
    assert main(command) != 0
    assert "--allow-uneven" in capsys.readouterr().err
    assert main([*command, "--allow-uneven"]) == 0
    assert main([*command[:-4], "--method", "las", "--allow-uneven"]) != 0


@pytest.mark.parametrize(
    ("name", "timesteps", "given"),
    [
        ("gif", 4, {}),
        ("gif", 3, {"addbit": 2}),
        ("int2spike", 17, {}),
        ("int2spike", 2000, {"mode": "binary"}),
    ],
)
def test_other_timesteps_that_cannot_be_had(name: str, timesteps: int, given: dict) -> None:
    with pytest.raises(SpikecError, match="cannot be had"):
        pick(name, timesteps, given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gif", {"salient": 1.5}),
        ("gif", {"n_bits": "four"}),
        ("int2spike", {"mode": "unary"}),
        ("dual", {"bits": 5}),
    ],
)
def test_bad_options(name: str, given: dict) -> None:
    with pytest.raises(SpikecError, match="is no value of option"):
        pick(name, None, given)


def test_default_timesteps_follow_the_options() -> None:
    assert pick("gif", None, {"addbit": 2})[1] == 5
    assert pick("int2spike", None, {"mode": "ternary"})[1] == 64


# thresholds of one range


def test_a_uniform_step_is_the_best_of_its_kind() -> None:
    x = np.random.default_rng(0).standard_normal((400, 50)).astype(np.float32)
    statistics = SiteStatistics()
    statistics.add(x)
    chosen = uniform(statistics, 7)

    def measured(scale: float) -> float:
        code = np.clip(np.rint(x / scale), -7, 7)
        return float(((code * scale - x) ** 2).sum() / (x**2).sum())

    assert chosen.relative_error == pytest.approx(measured(chosen.scale), rel=0.1)
    assert all(measured(chosen.scale) <= 1.02 * measured(chosen.scale * f) for f in (0.7, 0.85, 1.2, 1.5))
    assert chosen.scale * 7 < np.abs(x).max()
    assert uniform(statistics, 7, clip=False).scale * 7 == pytest.approx(np.abs(x).max())
