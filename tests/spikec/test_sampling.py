"""Sampled calibration inputs fit the model: no longer than it takes, and errors name the user's model."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
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


def test_data_too_long_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "LONGEST", 20)
    path = models.save(tmp_path / "bert", models.bert)
    feed = {name: np.ones((1, 40), np.int64) for name in ("input_ids", "attention_mask")}
    with pytest.raises(SpikecError, match=r"bert/model\.onnx"):
        compile_model(path, tmp_path / "out", Settings(timesteps=8), feeds=[feed])
    assert not (tmp_path / "out").exists()
