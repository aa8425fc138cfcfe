"""`spikec explain` on a compiled folder, on a model alone, and on a diagnostic code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import helper

from spikec.cli import main
from spikec.ir.codes import CODES

Compile = Callable[[str, str], Path]
Explain = Callable[..., str]


@pytest.fixture
def explain(capsys: pytest.CaptureFixture[str]) -> Explain:
    def run(*words: object) -> str:
        capsys.readouterr()
        assert main(["explain", *map(str, words)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


@pytest.fixture(params=["folder", "model"])
def target(request: pytest.FixtureRequest, compiled: Compile, tmp_path: Path) -> Path:
    """The LLaMA, compiled and not."""
    return compiled("llama", "fp32") if request.param == "folder" else models.save(tmp_path, models.llama)


def node_of(output: str, model: onnx.ModelProto | None = None) -> str:
    return next(n.name for n in (model or models.llama()).graph.node if output in n.output)


def as_json(explain: Explain, *words: object) -> Any:
    return json.loads(explain(*words, "--json"))


def test_summary(explain: Explain, target: Path) -> None:
    summary = as_json(explain, target)
    assert sum(row["nodes"] for row in summary) == len(models.llama().graph.node)
    assert len(explain(target).splitlines()) == len(summary)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("Softmax", "SpikeSoftmax"), ("Gather_", "a table look-up"), ("l0_q", "linear -> SpikeLinear")],
)
def test_by_operator_part_of_a_name_or_value(
    explain: Explain, target: Path, word: str, expected: str
) -> None:
    assert expected in explain(target, word)


def test_a_node_with_its_region(explain: Explain, target: Path) -> None:
    node = node_of("l0_sigmoid")
    lines = explain(target, node).splitlines()
    assert lines[0].startswith(f"{node} (Sigmoid, block 0, ") and "spiking: silu -> SpikeFunction" in lines[0]
    drawing = "\n".join(lines)
    assert "l0_gate ─┐" in drawing and "l0_up ─┐" in drawing and "└─> l0_gated" in drawing
    marked = [line for line in lines if line.strip().startswith(">")]
    assert len(marked) == 1 and f"l0_sigmoid = Sigmoid(l0_gate)   [{node}]" in marked[0]
    assert sum(" = Mul(" in line for line in lines) == 2
    assert "to do      Nothing need be done." in drawing


def test_facts_of_a_norm(explain: Explain, target: Path) -> None:
    result = as_json(explain, target, node_of("l1_n_root"))
    (finding,) = result["findings"]
    assert (finding["label"], finding["block"], finding["result"]) == ("rmsnorm", 1, "l1_n")
    assert finding["facts"]["epsilon"] == pytest.approx(1e-5)
    assert finding["facts"]["gamma"].startswith(f"float32[{models.DIM}] from ")
    assert 0 <= finding["error"] < 1e-5
    words = explain(target, node_of("l1_n_root"))
    assert "epsilon 1e-05" in words and "rmsnorm; differs by" in words


def test_a_product_belongs_to_an_attention(explain: Explain, target: Path) -> None:
    kinds = {f["kind"] for f in as_json(explain, target, node_of("l0_raw"))["findings"]}
    assert kinds == {"matmul_dynamic", "attention"}
    assert "attention of block 0:" in explain(target, node_of("l0_raw"))


def test_certificate_and_site_of_a_compiled_model(explain: Explain, compiled: Compile) -> None:
    words = explain(compiled("llama", "fp32"), "l0_q")
    assert "certificate l0_q" in words and "holds" in words
    assert "site l0_n: step" in explain(compiled("llama", "fp32"), "l0_n")


def with_sine() -> onnx.ModelProto:
    model = models.llama()
    nodes = list(model.graph.node)
    index = next(i for i, node in enumerate(nodes) if "l0_o" in node.output)
    nodes[index].output[0] = "before"
    del model.graph.node[:]
    sine = helper.make_node("Sin", ["before"], ["l0_o"], name="sine")
    model.graph.node.extend([*nodes[: index + 1], sine, *nodes[index + 1 :]])
    return model


def test_what_stays_on_host(explain: Explain, tmp_path: Path, target: Path) -> None:
    path = models.save(tmp_path / "sine", with_sine())
    rows = as_json(explain, path, "--all-unmatched")
    assert [(row["node"], row["code"]) for row in rows if row["code"]] == [("sine", "SPK199")]
    assert {row["op"] for row in rows if not row["code"]} == {"Gather", "MatMul"}
    assert explain(path, "--all-unmatched").splitlines()[0].startswith("SPK199  sine (Sin, block 0): ")
    assert CODES["SPK199"].remedy in explain(path, "sine")
    clean = as_json(explain, target, "--all-unmatched")
    assert clean and not any(row["code"] for row in clean)


def test_a_node_that_was_taken_apart(explain: Explain, tmp_path: Path) -> None:
    """A Gemm becomes a product and a sum: the product answers to its name."""
    graph = "(float[n, 4] x) => (float[n, 4] y) { p = Gemm (x, w, b) y = Relu (p) }"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> g {graph}')
    for name, values in (("w", np.ones((4, 4), np.float32)), ("b", np.ones(4, np.float32))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    model.graph.node[0].name = "my_gemm"
    onnx.save(model, tmp_path / "model.onnx")
    words = explain(tmp_path / "model.onnx", "my_gemm")
    assert "my_gemm (Gemm, outside blocks, 16" in words and "= MatMul(x, w)" in words


@pytest.mark.parametrize("number", sorted(CODES))
def test_codes(explain: Explain, number: str) -> None:
    told = as_json(explain, number)
    assert told == {
        "code": number,
        "severity": CODES[number].severity,
        "title": CODES[number].title,
        "explanation": CODES[number].explanation,
        "remedy": CODES[number].remedy,
    }
    words = explain(number.lower())
    assert words.startswith(f"{number} (") and CODES[number].remedy in words
