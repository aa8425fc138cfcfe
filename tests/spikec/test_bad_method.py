"""Mistakes about methods, timesteps and budgets: one line each, nothing compiled; a budget missed exits 4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest

from spikec.cli import main
from spikec.passes.allocate.run import _key

Refused = Callable[..., str]
AUTO = ("--method", "auto", "--data", "data.txt", "--context", "32", "--tokens", "256")


def llama_file(folder: Path) -> Path:
    (folder / "data.txt").write_text(models.text())
    return models.save(folder / "llama", models.llama)


def test_the_nearest_method(refused: Refused, tmp_path: Path) -> None:
    assert "did you mean 'las'?" in refused("compile", llama_file(tmp_path), "--method", "lass")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--method", "dual", "-T", "4"), "choose -T 1, 3, 7, 9, 21, 63"),
        (("--method", "auto", "-T", "99"), "3 to 12"),
        (("--method", "las", "-T", "40"), "2 to 16"),
        (("--method", "gif", "--set", "n_bits=none"), "wants int"),
        (("--method", "gif", "--set", "n_bits"), "is not NAME=VALUE"),
        (("--method", "gif", "--set", "nbits=4"), "did you mean 'n_bits'?"),
        (("--method", "ssa"), "ssa-weights"),
        (("--method", "las", "--stream"), "stream"),
        (("--budget", "ppl<=+1%"), "keeps no budget"),
        (("--method", "auto", "--budget", "ppl<=1"), "in percent"),
    ],
)
def test_what_cannot_be_had(refused: Refused, tmp_path: Path, words: tuple[str, ...], complaint: str) -> None:
    assert complaint in refused("compile", llama_file(tmp_path), *words)


def test_a_text_shorter_than_a_window(refused: Refused, tmp_path: Path) -> None:
    model = llama_file(tmp_path)
    (tmp_path / "data.txt").write_text("w1 w2 w3 w4 w5")
    line = refused("compile", model, "--data", "data.txt", "--context", "32")
    assert "a calibration window has 32" in line and "--context 5" in line


def test_auto_measures_on_what_it_has_not_fitted(refused: Refused, tmp_path: Path) -> None:
    model = llama_file(tmp_path)
    words = ("--method", "auto", "--data", "data.txt", "--context", "32", "--tokens", "32")
    assert "two or more calibration inputs" in refused("compile", model, *words)


def test_a_budget_out_of_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = llama_file(tmp_path)
    assert main(["compile", str(model), *AUTO, "--budget", "kl<=1e-12"]) == 4
    assert "the best reached is kl" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_search_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = llama_file(tmp_path)
    words = ["compile", str(model), *AUTO, "--budget", "kl<=0.05"]
    assert main(words) == 0
    first, searched = (tmp_path / "out" / "report.json").read_bytes(), tmp_path / "out.search.json"
    known = searched.read_bytes()
    assert main(words) == 0
    assert (tmp_path / "out" / "report.json").read_bytes() == first
    assert searched.read_bytes() == known


def test_a_search_of_other_weights_is_not_taken_up(tmp_path: Path) -> None:
    """Weights may change while the graph's file stays as it was."""
    graph, weights = tmp_path / "ann.onnx", tmp_path / "weights.bin"
    graph.write_bytes(b"graph")
    feeds = [{"input_ids": np.arange(5)[None]}]
    weights.write_bytes(b"one")
    first = _key(graph, feeds, 8)
    assert _key(graph, feeds, 8) == first
    weights.write_bytes(b"two")
    others = {
        _key(graph, feeds, 8),
        _key(graph, feeds, 6),
        _key(graph, [{"input_ids": np.arange(6)[None]}], 8),
    }
    assert len(others | {first}) == 4
