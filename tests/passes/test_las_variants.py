"""LAS with a threshold for each channel: certified, the same in both executions, and what its code says."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np

from spikec.compile import Settings, compile_model
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
