"""The commands on tiny models: a LLaMA with and without grouped queries, and a BERT with a padding mask."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest

from spikec.cli import EXIT_CODES, main
from spikec.passes.classify import VERDICTS

KINDS = sorted(models.MAKERS)
WEIGHTS = ("fp32", "int8")

Compile = Callable[[str, str], Path]


def output_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def json_of(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    return json.loads(output_of(capsys, *words, "--json"))


def some_ids(batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(length).integers(0, models.VOCABULARY, (batch, length))


# compile


def test_version_answers_before_anything_heavy_is_imported() -> None:
    code = "import sys; sys.argv = ['spikec', '--version']\nfrom spikec.cli import main\n"
    code += "try: main()\nexcept SystemExit: print({'numpy', 'onnx', 'onnxruntime'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.startswith("spikec ") and result.stdout.endswith("set()\n")


@pytest.mark.parametrize("kind", KINDS)
def test_compile_tells_what_became_of_the_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    model = models.save(tmp_path, models.MAKERS[kind])
    result = json_of(capsys, "compile", model, "-o", tmp_path / "out", "-T", 8)
    for measure in ("nodes", "macs"):
        assert set(result["coverage"][measure]) == {*VERDICTS}
    assert (
        sum(result["coverage"]["nodes"].values())
        == len(result["decisions"])
        == len(models.MAKERS[kind]().graph.node)
    )
    assert result["coverage"]["dense_macs_in_blocks"] == 0
    assert result["blocks"] == models.LAYERS
    assert result["found"]["attention"] == models.LAYERS
    assert result["found"]["rope"] == (0 if kind == "bert" else 2 * models.LAYERS)
    assert all(certificate["holds"] for certificate in result["certificates"])
    assert result["diagnostics"] == []
    assert result["seconds"] > 0 and result["peak_mb"] > 0
    assert {step["pass"] for step in result["passes"]} >= {"check_runs", "observe", "unroll"}
    recognition = result["recognition"]
    assert 0 < recognition["seconds"] < result["seconds"]
    assert recognition["share"] == pytest.approx(recognition["seconds"] / result["seconds"], abs=0.01)


def test_the_summary_of_a_compile(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = models.save(tmp_path, models.llama)
    words = output_of(capsys, "compile", model, "-o", tmp_path / "out", "-T", 4)
    assert len(words.splitlines()) <= 15
    assert "everything in scope converted" in words and "of which recognition" in words
    assert [line.split()[0] for line in words.splitlines()[3 : 3 + len(VERDICTS)]] == [*VERDICTS]


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    words = capsys.readouterr().out
    assert all(f"  {code:<4}{text}" in words for code, text in EXIT_CODES.items())
    assert set(EXIT_CODES) == {0, 1, 2, 3, 4, 5, 70}


@pytest.mark.parametrize("weights", WEIGHTS)
def test_same_input_and_flags_give_the_same_bytes(compiled: Compile, tmp_path: Path, weights: str) -> None:
    first = compiled("gqa", weights)
    model = models.save(tmp_path / "elsewhere", models.MAKERS["gqa"])
    for _ in range(2):  # the second time over the first one's folder
        assert (
            main(["compile", str(model), "-o", str(tmp_path / "x/out"), "-T", "8", "--weights", weights]) == 0
        )
        assert {p.name for p in first.iterdir()} == {p.name for p in (tmp_path / "x/out").iterdir()}
        for path in first.iterdir():
            assert path.read_bytes() == (tmp_path / "x/out" / path.name).read_bytes(), path.name
    assert {p.name for p in (tmp_path / "x").iterdir()} == {"out"}


def test_calibration_from_text_and_arrays(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text_file: Path
) -> None:
    model = models.save(tmp_path, models.bert)
    mask = np.ones((2, 9), np.int64)
    mask[1, 5:] = 0
    np.savez(tmp_path / "a.npz", input_ids=some_ids(2, 9), attention_mask=mask)
    for words in (("--data", text_file, "--tokens", 100, "--context", 20), ("--npz", tmp_path / "a.npz")):
        result = json_of(capsys, "compile", model, "-o", tmp_path / "out", *words)
        assert words[1].name in result["calibration"]
        seen = 100 if "--data" in words else 18
        assert {site["values"] % seen for site in result["sites"].values()} == {0}


def test_dump_writes_the_graph_after_every_pass(tmp_path: Path) -> None:
    model = models.save(tmp_path, models.llama)
    assert (
        main(
            ["compile", str(model), "-o", str(tmp_path / "out"), "-T", "8", "--dump", str(tmp_path / "dump")]
        )
        == 0
    )
    names = sorted(path.name for path in (tmp_path / "dump").iterdir())
    assert names[0] == "01-take_constants.onnx" and names[-1].endswith("-unroll.onnx")
    assert any(
        node.op_type == "SpikeLinear"
        for node in onnx.load(tmp_path / "dump" / names[-1], load_external_data=False).graph.node
    )


def fixed_shape(batch: int, length: int) -> onnx.ModelProto:
    model = models.llama()
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for dim, size in zip(value.type.tensor_type.shape.dim, (batch, length), strict=False):
            dim.dim_value = size
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def test_a_model_exported_for_one_shape(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text_file: Path
) -> None:
    model = models.save(tmp_path, fixed_shape(2, 16))
    assert (
        main(["compile", str(model), "-o", str(tmp_path / "out"), "-T", "8", "--data", str(text_file)]) == 0
    )
    result = json_of(capsys, "verify", tmp_path / "out", "--data", text_file)
    assert result["tokens"] == 600 // 32 * 2 * 15
    assert result["cosine"] > 0.999
    assert main(["run", str(tmp_path / "out"), "--prompt", "w1"]) == 1
    assert "fixed number of tokens" in capsys.readouterr().err


# verify


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_verify(
    capsys: pytest.CaptureFixture[str], compiled: Compile, text_file: Path, kind: str, weights: str
) -> None:
    out = compiled(kind, weights)
    result = json_of(capsys, "verify", out, "--data", text_file, "--context", 32, "--tokens", 256)
    assert result["cosine"] > 0.999
    assert len(result["blocks"]) == models.LAYERS
    assert result["unrolled"]["codes"] > 1000
    assert result["unrolled"]["unexplained_codes"] == 0
    if weights == "int8":
        assert result["unrolled"]["bit_identical"]
    else:
        assert result["unrolled"]["different_codes"] == 0
        assert result["unrolled"]["max_output_difference"] < 1e-3
    if kind == "bert":
        assert result["ann"]["perplexity"] is None and result["kl"] is None
        return
    assert result["snn"]["perplexity"] == pytest.approx(result["ann"]["perplexity"], rel=0.01)
    assert result["perplexity_change"] == pytest.approx(
        result["snn"]["perplexity"] / result["ann"]["perplexity"] - 1
    )
    assert 0 < result["kl"] < 0.01
    assert result["top1_agreement"] > 0.9


def test_verify_in_words(capsys: pytest.CaptureFixture[str], compiled: Compile, text_file: Path) -> None:
    words = output_of(capsys, "verify", compiled("llama", "int8"), "--data", text_file, "--tokens", 64)
    assert "perplexity" in words and "bit-identical" in words


@pytest.mark.parametrize("kind", KINDS)
def test_verify_draws_its_own_inputs(
    compiled: Compile, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json_of(capsys, "verify", compiled(kind, "int8"))
    assert result["cosine"] > 0.999 and result["windows"] == 8
    assert result["unrolled"]["bit_identical"] and result["unrolled"]["tokens"] == 32
    assert (result["ann"]["perplexity"] is None) == (kind == "bert")


def test_more_timesteps_are_closer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text_file: Path
) -> None:
    model = models.save(tmp_path, models.llama)
    kl = []
    for timesteps in (4, 6, 10):
        assert main(["compile", str(model), "-o", str(tmp_path / "out"), "-T", str(timesteps)]) == 0
        capsys.readouterr()
        options = ("--data", text_file, "--tokens", 128, "--unrolled-tokens", 0)
        kl.append(json_of(capsys, "verify", tmp_path / "out", *options)["kl"])
    assert kl[0] > 3 * kl[1] > 9 * kl[2] > 0


def test_verify_leaves_the_folder_as_it_was(compiled: Compile, text_file: Path) -> None:
    out = compiled("llama", "fp32")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert main(["verify", str(out), "--data", str(text_file), "--tokens", "64"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}


# run, doctor


def test_run(capsys: pytest.CaptureFixture[str], compiled: Compile) -> None:
    out = compiled("llama", "int8")
    prompt = ("--prompt", "w3 w1 w4", "--max-tokens", 6)
    plain = output_of(capsys, "run", out, *prompt)
    assert plain.startswith("w3 w1 w4 w") and len(plain.split()) == 9
    both = json_of(capsys, "run", out, *prompt, "--compare")
    assert set(both) == {"ann", "snn"} and both["snn"] == plain.rstrip("\n")
    lines = output_of(capsys, "run", out, *prompt, "--compare").splitlines()
    assert lines[0].startswith("ANN: w3") and lines[1].startswith("SNN: w3") and lines[2].startswith("same")
    assert output_of(capsys, "run", out, *prompt, "--execution", "unrolled") == plain
    assert output_of(capsys, "run", out, *prompt, "--no-library") == plain


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    result = json_of(capsys, "doctor")
    assert result["spikec"] and result["onnxruntime"] and result["native library"]
    assert "onnxruntime" in output_of(capsys, "doctor")
