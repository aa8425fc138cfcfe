"""Sampled calibration inputs fit the model: no longer than it takes, and errors name the user's model."""

from __future__ import annotations

import json
from pathlib import Path

import models
import numpy as np
import onnx
import pytest

from spikec.compile import Settings, compile_model
from spikec.ir.diagnostics import SpikecError


@pytest.mark.parametrize(("longest", "length"), [(20, 16), (4, 4), (64, 64)])
def test_few_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: int, length: int) -> None:
    monkeypatch.setattr(models, "LONGEST", longest)
    path = models.save(tmp_path / "bert", models.bert)
    program = compile_model(path, tmp_path / "out", Settings(timesteps=8))
    assert {v.shape for v in program.settings["probe"].values()} == {(1, length)}
    notes = [d.text for d in program.diagnostics if f"sequences of {length} tokens" in d.text]
    assert len(notes) == (length < 64)


def test_inputs_that_are_no_tokens(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 8] x) => (float[N, 8] y) '
        "<float[8] gain = {1, 1, 1, 1, 1, 1, 1, 1}> "
        "{ n = LayerNormalization (x, gain) h = MatMul (n, w) r = Relu (h) y = MatMul (r, w) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32), "w"))
    onnx.save(model, tmp_path / "mlp.onnx")
    program = compile_model(tmp_path / "mlp.onnx", tmp_path / "out", Settings(timesteps=8))
    assert program.settings["probe"]["x"].shape == (1, 8)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "drawn at random" in report["calibration"] and report["coverage"]["nodes"]["spiking"] == 3


def test_data_too_long_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LONGEST", 20)
    path = models.save(tmp_path / "bert", models.bert)
    feed = {name: np.ones((1, 40), np.int64) for name in ("input_ids", "attention_mask")}
    with pytest.raises(SpikecError, match=r"bert/model\.onnx"):
        compile_model(path, tmp_path / "out", Settings(timesteps=8), feeds=[feed])
    assert not (tmp_path / "out").exists()
