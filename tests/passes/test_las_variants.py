"""LAS with a threshold for each channel, or each sign: certified, and the same in both executions."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import pytest

from spikec.compile import Settings, compile_model
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import feed_tokens
from spikec.passes.calibrate.signs import SignStatistics, split
from spikec.passes.methods import pick
from spikec.runtime.session import Compiled
from spikec.verify import verify


def test_a_threshold_for_each_channel(tmp_path: Path) -> None:
    model = models.save(tmp_path / "llama", models.llama)
    settings = Settings(timesteps=8, options={"per_channel": True}, weights="int8")
    program = compile_model(model, tmp_path / "out", settings)
    assert program.certificates and all(c.holds for c in program.certificates)
    linear = {finding.sources[0].name for finding in program.of("linear")}
    for name, neuron in program.neurons.items():
        assert (neuron.gains is not None) == (name in linear)
    neuron = program.neurons[next(iter(linear))]
    assert neuron.gains is not None and neuron.gains.std() > 0
    x = program.statistics["sites"][next(iter(linear))].draw(np.random.default_rng(0), (5, len(neuron.gains)))
    code, worth = neuron.encode(x)
    decoded = code[0] * np.float64(neuron.scale) * worth
    assert np.all(np.abs(decoded - x) <= neuron.error(x) * 1.001 + 1e-9)
    compiled = Compiled(tmp_path / "out")
    feed = {i.name: np.random.default_rng(1).integers(1, 9, (1, 12)) for i in compiled.inputs}
    result = verify(compiled, [feed], unrolled_tokens=8)
    assert result["cosine"] > 0.999
    assert result["unrolled"]["bit_identical"]


def skewed(rows: int = 3000) -> np.ndarray:
    """Positives that reach far, negatives that do not, like the output of a SiLU."""
    rng = np.random.default_rng(0)
    x = np.where(rng.random((rows, 16)) < 0.5, -rng.random((rows, 16)) * 0.28, rng.exponential(2, (rows, 16)))
    return x.astype(np.float32)


@pytest.mark.parametrize("flip", [1, -1])
def test_each_sign_has_its_own_threshold(flip: int) -> None:
    x = flip * skewed()
    statistics = SignStatistics(np.ones(16))
    for part in np.array_split(x, 5):
        statistics.add(part)
    assert (statistics.highest, statistics.lowest) == (x.max(), -x.min())
    np.testing.assert_allclose(statistics.below.sum() / statistics.histogram.sum(), (x < 0).mean(), rtol=0.1)
    chosen = split(statistics, 8)
    coarse, fine = (chosen.positive, chosen.negative)[::flip]
    assert fine == 1 and coarse == 64
    neuron = chosen.neuron(8)
    decoded = neuron.encode(x)[0][0] * np.float64(neuron.scale)
    error = np.abs(decoded - x)
    assert np.all(error <= neuron.error(x) * 1.00001)
    small = flip * x < 0
    assert error[small].max() < 0.6 * chosen.scale and error[~small].max() > 10 * chosen.scale
    measured = float((error**2).sum() / (x.astype(np.float64) ** 2).sum())
    assert 0.5 * measured < chosen.relative_error < 2 * measured


def test_a_site_of_one_sign() -> None:
    x = np.abs(skewed())
    statistics = SignStatistics(np.ones(16))
    statistics.add(x)
    chosen = split(statistics, 8)
    assert np.isclose(chosen.scale * chosen.positive * 255, 1.25 * x.max())


def test_a_threshold_for_each_sign(tmp_path: Path) -> None:
    model = models.save(tmp_path / "bert", models.bert)
    settings = Settings(timesteps=8, options={"sign_split": True}, weights="int8")
    program = compile_model(model, tmp_path / "out", settings)
    assert program.certificates and all(c.holds for c in program.certificates)
    assert {neuron.op for neuron in program.neurons.values()} == {"SignSplitEncode"}
    assert (
        len({(n.attributes["positive"], n.attributes["negative"]) for n in program.neurons.values()}) > 1
    )  # GELU
    compiled = Compiled(tmp_path / "out")
    feed = feed_tokens(compiled.inputs, np.random.default_rng(1).integers(1, 9, (1, 12)))
    result = verify(compiled, [feed], unrolled_tokens=8)
    assert result["cosine"] > 0.995
    assert result["unrolled"]["bit_identical"]


def test_a_threshold_for_each_channel_and_sign_is_refused() -> None:
    with pytest.raises(SpikecError, match="not both"):
        pick("las", 8, {"per_channel": "true", "sign_split": "true"})
