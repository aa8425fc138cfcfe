"""Models in spellings that no exporter gives: recognised in full, and the same numbers once normalised."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import pytest
from exports.handmade import MODELS
from normalised import difference, feed, normalise, run

from spikec.compile import FRONT
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.passes.methods import METHODS
from spikec.report import found


@pytest.mark.parametrize("name", MODELS)
def test_counts(tmp_path: Path, name: str) -> None:
    onnx.save(MODELS[name].make(), tmp_path / "model.onnx")
    program = Program.load(tmp_path / "model.onnx")
    program.settings["method"] = METHODS["las"]
    pipeline.run(program, FRONT, {})
    expected = asdict(MODELS[name].counts)
    assert {kind: found(program)[kind] for kind in expected} == expected


@pytest.mark.parametrize("name", MODELS)
def test_numbers(tmp_path: Path, name: str) -> None:
    made = MODELS[name]
    program, path = normalise(tmp_path, made.make())
    onnx.save((made.reference or made.make)(), tmp_path / "reference.onnx")
    for batch, length in ((1, 5), (2, 9)):
        inputs = feed(tmp_path / "reference.onnx", batch, length)
        for which, value in program.settings.get("chosen", {}).items():
            inputs[which] = np.full(inputs[which].shape, value)
        assert difference(run(tmp_path / "reference.onnx", inputs), run(path, inputs)) <= 1e-5
