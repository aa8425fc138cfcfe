"""`--strict`: exit 3, with what and why, when anything in scope would stay unconverted."""

from __future__ import annotations

import json
from pathlib import Path

import models
import onnx
import pytest
from onnx import helper

from spikec import compile as compiler
from spikec.cli import main
from spikec.compile import Settings, compile_model
from spikec.ir.diagnostics import CODES, SpikecError
from spikec.ir.program import Decision, Program
from spikec.overview import recognise
from spikec.scope import Scope


def strange(op: str = "Sin", place: str = "l0_o") -> onnx.ModelProto:
    """The LLaMA with an operator that nothing knows after one of its values."""
    model = models.llama()
    nodes = list(model.graph.node)
    index = next(i for i, node in enumerate(nodes) if place in node.output)
    nodes[index].output[0] = f"{place}_before"
    extra = helper.make_node(op, [f"{place}_before"], [place], name="strange")
    del model.graph.node[:]
    model.graph.node.extend([*nodes[: index + 1], extra, *nodes[index + 1 :]])
    del model.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def test_a_whole_model_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.save(tmp_path / "in", models.llama)
    assert main(["inspect", str(model), "--strict"]) == 0
    assert main(["compile", str(model), "-o", str(tmp_path / "out"), "-T", "4", "--strict"]) == 0
    assert (tmp_path / "out/model.onnx").is_file()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["inspect", "compile"])
def test_what_stays_on_host_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.save(tmp_path / "in", strange())
    words = ["-o", str(tmp_path / "out")] if command == "compile" else []
    assert main([command, str(model), *words, "--strict"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("spikec: error: ") and "1 in scope not converted" in lines[0]
    assert len(lines) == 2 and "SPK" in lines[1] and "strange (Sin, block 0)" in lines[1]
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert main([command, str(model), *words, *(["-T", "4"] if words else [])]) == 0


def test_the_report_lists_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = models.save(tmp_path / "in", strange())
    assert main(["compile", str(model), "-o", str(tmp_path / "out"), "-T", "4", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["misses"]
    assert [(miss["where"], miss["op"], miss["block"], miss["verdict"]) for miss in told] == [
        ("strange", "Sin", 0, "host")
    ]
    assert json.loads((tmp_path / "out/report.json").read_text())["misses"] == told


def test_nothing_is_run_before_what_recognition_alone_can_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    run = compiler.pipeline.run
    monkeypatch.setattr(compiler.pipeline, "run", lambda *a: (seen.extend(a[1]), run(*a)))
    model = models.save(tmp_path / "in", strange())
    with pytest.raises(SpikecError):
        compile_model(model, tmp_path / "out", Settings(strict=True))
    assert "classify" in seen and "check_runs" not in seen and "observe" not in seen


@pytest.mark.parametrize("code", ["SPK201", "SPK204"])
def test_a_refused_rewrite_counts(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known only after the rewrites; nothing is written all the same, and the remedy is the code's."""
    run = compiler.pipeline.run

    def refusing(program: Program, passes: tuple[str, ...], *rest: object) -> None:
        run(program, passes, *rest)
        if "unroll" in passes:
            program.refuse(program.of("softmax")[0], "because of this test", code)

    monkeypatch.setattr(compiler.pipeline, "run", refusing)
    model = models.save(tmp_path / "in", models.llama)
    with pytest.raises(SpikecError) as caught:
        compile_model(model, tmp_path / "out", Settings(timesteps=4, strict=True))
    assert caught.value.exit_code == 3
    assert len(caught.value.details) == 1
    assert code in caught.value.details[0] and "because of this test" in caught.value.details[0]
    assert caught.value.fix == CODES[code].remedy and "--all-unmatched" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_the_method_keeps_on_purpose_is_no_miss(tmp_path: Path) -> None:
    """The head, the embedding, masks and positions."""
    program = Program.load(models.save(tmp_path / "in", models.llama))
    compile_model(program, tmp_path / "out", Settings(timesteps=4, strict=True))
    hosts = {d.reason for d in program.decisions.values() if d.verdict == "host"}
    assert len(hosts) >= 3


def test_products_and_unknown_operators_outside_blocks_are_out_of_scope(tmp_path: Path) -> None:
    """Where a remark was made of an operator, it is in scope wherever it stands, but for products."""
    program = recognise(models.save(tmp_path, models.llama))
    program.tell("SPK102", "told", "for this test")
    scope = Scope(program)
    for node, op, block, missed in (
        ("one", "Conv", 0, True), ("one", "Conv", -1, False), ("one", "MaxPool", 0, True),
        ("one", "MaxPool", -1, False), ("told", "Sin", -1, True), ("told", "Conv", -1, False),
    ):  # fmt: skip
        assert scope.misses(Decision(node, op, "host", "for this test", block)) == missed, (node, op, block)
        assert not scope.misses(Decision(node, op, "linear", "for this test", block))
