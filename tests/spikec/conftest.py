"""Shared by the tests of the command line: a compiled model, and a command that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import models
import pytest

from spikec.cli import main

Refused = Callable[..., str]
Compile = Callable[[str, str], Path]


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs a command that must be refused and write nothing; returns the one line it said."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> str:
        before = listing(tmp_path)
        capfd.readouterr()
        assert main([str(word) for word in words]) == 1
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1, err
        assert err.startswith("spikec: error: ")
        assert "; " in err, f"no way out is named: {err}"
        assert listing(tmp_path) == before
        return err

    return run


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """`compiled(kind, weights)`: the folder, made once and never changed."""
    root = tmp_path_factory.mktemp("models")

    @cache
    def make(kind: str, weights: str) -> Path:
        model = models.save(root / kind, models.MAKERS[kind])
        out = root / f"{kind}-{weights}"
        assert main(["compile", str(model), "-o", str(out), "-T", "8", "--weights", weights]) == 0
        return out

    return make


@pytest.fixture
def llama(compiled: Compile) -> Path:
    """A compiled language model."""
    return compiled("llama", "int8")


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(models.text())
    return path
