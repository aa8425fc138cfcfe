"""Mistakes around a good model: one line saying what is wrong and how to mend it, exit 1, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest

from spikec.cli import main

Refused = Callable[..., str]


def llama_file(folder: Path) -> Path:
    return models.save(folder / "llama", models.llama)


# Data


@pytest.mark.parametrize("content", [b"", b" \n\t ", b"\x00\x01\x02\x00", b"\xff\xfe\x80binary", b"w1"])
@pytest.mark.parametrize("command", ["compile", "verify"])
def test_no_text(refused: Refused, tmp_path: Path, llama: Path, command: str, content: bytes) -> None:
    subject = llama_file(tmp_path) if command == "compile" else llama
    (tmp_path / "data.txt").write_bytes(content)
    assert "data.txt: " in refused(command, subject, "--data", "data.txt")


@pytest.mark.parametrize("command", ["compile", "verify"])
def test_no_text_file(refused: Refused, tmp_path: Path, llama: Path, command: str) -> None:
    subject = llama_file(tmp_path) if command == "compile" else llama
    assert "no such text file" in refused(command, subject, "--data", "absent.txt")
    assert "is a folder" in refused(command, subject, "--data", tmp_path)


def test_data_longer_than_the_model_takes(refused: Refused, tmp_path: Path) -> None:
    model = models.save(tmp_path / "bert", models.bert)
    (tmp_path / "data.txt").write_text(models.text())
    line = refused("compile", model, "--data", "data.txt", "--context", models.LONGEST + 1)
    assert "ONNX Runtime cannot run this model" in line and "--context" in line


GOOD = {"input_ids": np.ones((2, 5), np.int64)}


@pytest.mark.parametrize("command", ["compile", "verify"])
@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"ids": GOOD["input_ids"]}, "has no array for input 'input_ids'"),
        ({}, "has no array for input"),
        ({"input_ids": np.ones(5, np.int64)}, "has shape [5]"),
        ({"input_ids": np.ones((2, 5), np.float32)}, "is float32"),
        ({"input_ids": np.ones((0, 5), np.int64)}, "is empty"),
        ({"input_ids": np.full((2, 5), models.VOCABULARY)}, "ONNX Runtime cannot run this model"),
        ({"input_ids": np.array([[None]])}, "is not an .npz file of plain arrays"),
    ],
)
def test_arrays(
    refused: Refused, tmp_path: Path, llama: Path, command: str, arrays: dict, complaint: str
) -> None:
    subject = llama_file(tmp_path) if command == "compile" else llama
    np.savez(tmp_path / "a.npz", **arrays)
    assert complaint in refused(command, subject, "--npz", "a.npz")


@pytest.mark.parametrize("kind", ["text", "empty", "npy", "cut", "flipped"])
def test_corrupted_npz(refused: Refused, llama: Path, tmp_path: Path, kind: str) -> None:
    np.savez_compressed(tmp_path / "a.npz", input_ids=np.arange(90).reshape(2, 45))
    np.save(tmp_path / "a.npy", GOOD["input_ids"])
    whole = (tmp_path / "a.npz").read_bytes()
    content = {
        "text": b"hello", "empty": b"", "npy": (tmp_path / "a.npy").read_bytes(), "cut": whole[:-60],
        "flipped": whole[:60] + bytes(b ^ 255 for b in whole[60:100]) + whole[100:],
    }[kind]  # fmt: skip
    (tmp_path / "a.npz").write_bytes(content)
    assert "a.npz: is not an .npz file" in refused("verify", llama, "--npz", "a.npz")


# Tokenizer


@pytest.mark.parametrize("command", ["compile", "run", "verify"])
def test_tokenizer_of_another_model(refused: Refused, tmp_path: Path, llama: Path, command: str) -> None:
    models.save(tmp_path / "other", models.llama, size=models.VOCABULARY + 1)
    (tmp_path / "data.txt").write_text(models.text())
    words = {
        "compile": (llama_file(tmp_path),),
        "run": (llama, "--prompt", "w1 w2"),
        "verify": (llama, "--data", "data.txt"),
    }[command]
    assert "do not belong together" in refused(command, *words, "--tokenizer", tmp_path / "other")


@pytest.mark.parametrize("command", ["compile", "run", "verify"])
def test_missing_tokenizer(refused: Refused, tmp_path: Path, llama: Path, command: str) -> None:
    model = llama_file(tmp_path)
    (model.parent / "tokenizer.json").unlink()
    (tmp_path / "data.txt").write_text(models.text())
    words = {
        "compile": (model, "--data", "data.txt"),
        "run": (llama, "--prompt", "w1", "--tokenizer", "absent"),
        "verify": (llama, "--data", "data.txt", "--tokenizer", tmp_path),
    }[command]
    assert "tokenizer" in refused(command, *words)


def test_tokenizer_that_is_none(refused: Refused, tmp_path: Path, llama: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("[]")
    assert "is not a tokenizer file" in refused("run", llama, "--prompt", "w1", "--tokenizer", tmp_path)


# Settings


@pytest.mark.parametrize("timesteps", ["0", "1", "17", "99", "-1"])
def test_timesteps(refused: Refused, tmp_path: Path, timesteps: str) -> None:
    assert "2 to 16" in refused("compile", llama_file(tmp_path), "-T", timesteps)


@pytest.mark.parametrize("words", [("--method", "magic"), ("--weights", "int3")])
def test_unknown_choice(refused: Refused, tmp_path: Path, words: tuple[str, str]) -> None:
    line = refused("compile", llama_file(tmp_path), *words)
    assert f"{words[0]}: unknown" in line and "choose one of" in line


@pytest.mark.parametrize(
    "words", [("--prompt", ""), ("--prompt", "  "), ("--prompt", "w1", "--max-tokens", "0")]
)
def test_nothing_to_continue(refused: Refused, llama: Path, words: tuple[str, ...]) -> None:
    refused("run", llama, *words)


@pytest.mark.parametrize("words", [("--tokens", "1"), ("--context", "0"), ("--tokens", "-5")])
def test_no_tokens(refused: Refused, tmp_path: Path, llama: Path, words: tuple[str, str]) -> None:
    (tmp_path / "data.txt").write_text(models.text())
    assert "must be two or more" in refused("verify", llama, "--data", "data.txt", *words)


# Folders


@pytest.mark.parametrize("words", [("run", "--prompt", "w1"), ("verify", "--npz", "a.npz")])
def test_not_a_compiled_folder(refused: Refused, tmp_path: Path, words: tuple[str, ...]) -> None:
    command, *options = words
    (tmp_path / "folder").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "report.json").write_text(json.dumps([1, 2]))
    (tmp_path / "file").touch()
    for folder in ("folder", "absent", "file"):
        assert f"{folder}: is not a compiled model" in refused(command, folder, *options)
    assert "is not a report of spikec" in refused(command, "foreign", *options)


def test_nothing_to_explain(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no model")
    for absent in ("absent", "SPK1", "absent.d/x"):
        assert f"{absent}: is not a compiled model" in refused("explain", absent)
    assert "folder: is not a compiled model" in refused("explain", "folder")
    assert "no such file" in refused("explain", "absent.onnx")
    assert "empty: is an empty file" in refused("explain", "empty")
    assert "text: is not an ONNX model" in refused("explain", "text")
    line = refused("explain", "SPK999")
    assert "no such diagnostic code" in line and "SPK" in line.partition(";")[2]


def test_a_node_that_is_not_there(refused: Refused, tmp_path: Path, llama: Path) -> None:
    for target in (llama_file(tmp_path), llama):
        line = refused("explain", target, "Softmaxx_32")
        assert "no node or value named like 'Softmaxx_32'" in line and "did you mean Softmax_" in line
        assert "did you mean" not in refused("explain", target, "%%%%")


def test_strict_is_no_way_around_a_bad_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no model")
    for command in ("inspect", "compile"):
        assert "text: is not an ONNX model" in refused(command, "text", "--strict")
        assert "no such file" in refused(command, "absent.onnx", "--strict")


@pytest.mark.parametrize("name", ["model.onnx", "ann.onnx", "weights.bin"])
def test_damaged_compiled_folder(refused: Refused, tmp_path: Path, name: str) -> None:
    assert main(["compile", str(llama_file(tmp_path)), "-o", "out", "-T", "4"]) == 0
    np.savez(tmp_path / "a.npz", **GOOD)
    damaged = tmp_path / "out" / name
    damaged.write_bytes(damaged.read_bytes()[:3000])
    assert " again\n" in refused("verify", "out", "--npz", "a.npz")
    damaged.unlink()
    assert "run spikec compile again" in refused("verify", "out", "--npz", "a.npz")


def test_language_models_only_can_be_run(refused: Refused, tmp_path: Path) -> None:
    assert main(["compile", str(models.save(tmp_path / "bert", models.bert)), "-o", "out", "-T", "4"]) == 0
    assert "cannot continue a text" in refused("run", "out", "--prompt", "w1 w2")


def test_out_is_something_else(refused: Refused, tmp_path: Path) -> None:
    model = llama_file(tmp_path)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("precious")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "report.json").write_text("{}")
    (tmp_path / "mixed" / "thesis.txt").write_text("precious")
    assert "is a file" in refused("compile", model, "-o", "file")
    assert "is not a compiled model" in refused("compile", model, "-o", "folder")
    assert "thesis.txt" in refused("compile", model, "-o", "mixed")
    assert "is not a compiled model" in refused("compile", model, "-o", ".")
    assert (tmp_path / "mixed" / "thesis.txt").read_text() == "precious"


def test_out_cannot_be_written(refused: Refused, tmp_path: Path) -> None:
    model = llama_file(tmp_path)
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("compile", model, "-o", "file/out")
    refused("compile", model, "-o", "/proc/nothing/out")


def test_a_failure_leaves_no_folder_on_the_way(refused: Refused, tmp_path: Path) -> None:
    model = models.save(tmp_path / "bert", models.bert)
    (tmp_path / "data.txt").write_text(models.text())
    refused("compile", model, "-o", "a/b/out", "--data", "data.txt", "--context", models.LONGEST + 1)


# In a process of its own


def program(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        f"import sys; {code}; from spikec.cli import main; sys.exit(main())",
        *words,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_full_disk(tmp_path: Path) -> None:
    model, out = llama_file(tmp_path), tmp_path / "out"
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000))"
    result = program(full, "compile", str(model), "-o", str(out))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1 and "cannot write the compiled model" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["llama"]


def test_a_real_process_says_one_line_too(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", input_ids=np.full((2, 5), models.VOCABULARY)
    )  # ONNX Runtime has much to say to that
    words = ("--npz", str(tmp_path / "a.npz"), "-o", str(tmp_path / "out"))
    result = program("pass", "compile", str(llama_file(tmp_path)), *words)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("spikec: error: ")
