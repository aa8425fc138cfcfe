"""If, Loop and Scan: written out where their course is known, told and counted where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from exports.handmade import MODELS
from normalised import difference, feed, normalise, run
from onnx import numpy_helper, parser

from spikec.cli import main
from spikec.compile import FRONT
from spikec.ir import pipeline
from spikec.ir.order import bodies
from spikec.ir.program import Program
from spikec.passes.methods import METHODS

HEADER = '<ir_version: 9, opset_import: ["": 18]> g '
IO = "(float[n, 4] x) => (float[n, 4] y)"

KNOWN = {
    "a branch": f"""{IO} <bool yes = {{1}}> {{
        y = If (yes) <then_branch = a () => (p) {{ q = Neg (x) p = Exp (q) }},
                      else_branch = b () => (p) {{ p = Abs (x) }}> }}""",
    "a branch in a branch, and names that come again": f"""{IO} <bool yes = {{1}}, bool no = {{0}}> {{
        z = If (yes) <then_branch = a () => (p) {{
            q = Neg (x)
            p = If (no) <then_branch = c () => (r) {{ r = Exp (x) }},
                         else_branch = d () => (r) {{ t = Exp (q) r = Add (t, x) }}> }},
          else_branch = b () => (p) {{ p = Abs (x) }}>
        y = If (yes) <then_branch = a () => (p) {{ q = Sin (x) t = Abs (q) p = Add (t, z) }},
                      else_branch = b () => (p) {{ p = Abs (x) }}> }}""",
    "a branch that passes an outer value on": f"""{IO} <bool yes = {{1}}> {{
        z = Neg (x)
        y = If (yes) <then_branch = a () => (p) {{ p = Identity (z) }},
                      else_branch = b () => (p) {{ p = Abs (x) }}> }}""",
    "a condition from shapes": """(float[n, 4] x) => (float[n, 4] y) <int64 four = {4}, int64 one = {1}> {
        s = Shape (x) w = Gather (s, one) same = Equal (w, four)
        y = If (same) <then_branch = a () => (p) { p = Exp (x) },
                       else_branch = b () => (p) { p = Abs (x) }> }""",
    "a loop": f"""{IO} <int64 three = {{3}}, bool yes = {{1}}> {{
        y = Loop (three, yes, x) <body = b (int64 i, bool go, float[n, 4] v)
            => (bool on, float[n, 4] w) {{ on = Identity (go)
            f = Cast <to = 1> (i) u = Exp (v) d = Neg (u) w = Add (d, f) }}> }}""",
    "a loop that keeps every trip": """(float[n, 4] x) => (float[n, 4] y, float[3, n, 4] rows)
        <int64 three = {3}, bool yes = {1}> {
        y, rows = Loop (three, yes, x) <body = b (int64 i, bool go, float[n, 4] v)
            => (bool on, float[n, 4] w, float[n, 4] row) { on = Identity (go)
            w = Sin (v) row = Neg (w) }> }""",
    "a loop in a loop": f"""{IO} <int64 two = {{2}}, bool yes = {{1}}> {{
        y = Loop (two, yes, x) <body = b (int64 i, bool go, float[n, 4] v) => (bool on, float[n, 4] w) {{
            on = Identity (go)
            w = Loop (two, yes, v) <body = c (int64 j, bool ga, float[n, 4] s) => (bool oo, float[n, 4] t) {{
                oo = Identity (ga) a = Sin (s) t = Add (a, v) }}> }}> }}""",
    "a scan": """(float[4, n] z) => (float[n] y, float[4, n] rows) <float[1] zero = {0}> {
        s = Shape (z) one = Constant <value = int64[1] {1}> () n = Gather (s, one) start = Expand (zero, n)
        y, rows = Scan <num_scan_inputs = 1, body = b (float[n] a, float[n] v) => (float[n] c, float[n] r) {
            c = Add (a, v) r = Sin (c) }> (start, z) }""",
}


def text_model(text: str) -> onnx.ModelProto:
    model = parser.parse_model(HEADER + text)
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("name", KNOWN)
def test_known_control_flow_is_written_out(tmp_path: Path, name: str) -> None:
    program, path = normalise(tmp_path, text_model(KNOWN[name]))
    assert not {node.op for node in program.graph.nodes} & {"If", "Loop", "Scan"}
    for shape in ((1, 5), (3, 7)):
        inputs = feed(tmp_path / "given.onnx", *shape)
        assert difference(run(tmp_path / "given.onnx", inputs), run(path, inputs)) <= 1e-5
    names = [node.name for node in program.graph.nodes]
    assert len(set(names)) == len(names) and all(names)


OPEN = {
    "a choice by data": f"""{IO} <float zero = {{0}}, int64[2] both = {{0, 1}}> {{
        m = ReduceMax <keepdims = 0> (x, both) up = Greater (m, zero)
        y = If (up) <then_branch = a () => (p) {{ p = Exp (x) }},
                     else_branch = b () => (p) {{ p = Abs (x) }}> }}""",
    "a loop that stops itself": f"""{IO} <int64 nine = {{9}}, int64 two = {{2}}, bool yes = {{1}}> {{
        y = Loop (nine, yes, x) <body = b (int64 i, bool go, float[n, 4] v) => (bool on, float[n, 4] w) {{
            on = Less (i, two) w = Sin (v) }}> }}""",
    "a loop over the batch": f"""{IO} <int64 zero = {{0}}, bool yes = {{1}}> {{
        s = Shape (x) n = Gather (s, zero)
        y = Loop (n, yes, x) <body = b (int64 i, bool go, float[n, 4] v) => (bool on, float[n, 4] w) {{
            on = Identity (go) w = Sin (v) }}> }}""",
    "a loop of no trip": f"""{IO} <int64 none = {{0}}, bool yes = {{1}}> {{
        y = Loop (none, yes, x) <body = b (int64 i, bool go, float[n, 4] v) => (bool on, float[n, 4] w) {{
            on = Identity (go) w = Sin (v) }}> }}""",
    "a scan from behind": """(float[4, n] z) => (float[4, n] rows) {
        rows = Scan <num_scan_inputs = 1, scan_input_directions = [1], body = b (float[n] v) => (float[n] r) {
            r = Sin (v) }> (z) }""",
}


@pytest.mark.parametrize("name", OPEN)
def test_open_control_flow_stays(tmp_path: Path, name: str) -> None:
    program, path = normalise(tmp_path, text_model(OPEN[name]))
    assert {node.op for node in program.graph.nodes} & {"If", "Loop", "Scan"}
    for shape in ((1, 5), (3, 7)):
        inputs = feed(tmp_path / "given.onnx", *shape)
        assert difference(run(tmp_path / "given.onnx", inputs), run(path, inputs)) <= 1e-5


def test_old_bodies_are_modernised_too(tmp_path: Path) -> None:
    text = f"""{IO} <float zero = {{0}}> {{
        m = ReduceMax <axes = [0, 1], keepdims = 0> (x) up = Greater (m, zero)
        y = If (up) <then_branch = a () => (p) {{ s = ReduceSum <axes = [1]> (x) p = Add (x, s) }},
                     else_branch = b () => (p) {{ p = Softmax (x) }}> }}"""
    model = parser.parse_model(HEADER.replace("18", "11") + text)
    program, path = normalise(tmp_path, model)
    assert program.graph.opset == 18 and len(list(bodies(program.graph))) == 3
    for shape in ((1, 5), (3, 7)):
        inputs = feed(tmp_path / "given.onnx", *shape)
        assert difference(run(tmp_path / "given.onnx", inputs), run(path, inputs)) <= 1e-5


def recognised(tmp_path: Path, model: onnx.ModelProto) -> Program:
    onnx.save(model, tmp_path / "model.onnx")
    program = Program.load(tmp_path / "model.onnx")
    program.settings["method"] = METHODS["las"]
    pipeline.run(program, FRONT, {})
    return program


@pytest.mark.parametrize("name", ["a branch by length", "a layer as often as tokens"])
def test_what_stands_inside_is_told_and_stays(tmp_path: Path, name: str) -> None:
    program = recognised(tmp_path, MODELS[name].make())
    (told,) = [d for d in program.diagnostics if d.code == "SPK430"]
    holder = next(node for node in program.graph.nodes if node.op in ("If", "Loop"))
    assert told.where == holder.name and program.decisions[holder.name].verdict == "host"
    assert program.of("attention") == [], "nothing inside can be rewritten"


def test_looking_inside_leaves_the_graph_alone(tmp_path: Path) -> None:
    onnx.save(MODELS["a branch by length"].make(), tmp_path / "model.onnx")
    program = Program.load(tmp_path / "model.onnx")
    program.settings["method"] = METHODS["las"]
    passes = [name for name in FRONT if name != "look_inside"]
    pipeline.run(program, passes, {})

    def state() -> list[tuple[str, ...]]:
        return [
            (node.name, *(i.name for i in node.inputs), *(str(len(i.outputs)) for i in node.inputs))
            for body in bodies(program.graph)
            for node in body.nodes
        ]

    before = state()
    pipeline.run(program, ["look_inside"], {})
    assert state() == before and program.settings["whole"].of("attention")


def test_trips_that_are_not_written_out_count_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikec.passes.normalise.branches.MOST_NODES", 10)
    from spikec.report import found

    program = recognised(tmp_path, MODELS["a layer three times"].make())
    assert found(program)["attention"] == 3 and found(program)["other_linear"] == 1
    assert found(program)["layernorm"] == 7 and program.of("attention") == []


def test_a_model_inside_control_flow_is_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx.save(MODELS["a branch by length"].make(), tmp_path / "model.onnx")
    assert main(["compile", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out")]) == 1
    assert "keeps its attention inside control flow" in capfd.readouterr().err


def test_the_branch_of_an_input_is_chosen_and_told(tmp_path: Path) -> None:
    onnx.save(MODELS["merged decoder"].make(), tmp_path / "model.onnx")
    assert main(["compile", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out"), "-T", "12"]) == 0
    assert '"SPK431"' in (tmp_path / "out" / "report.json").read_text()
    inputs = feed(tmp_path / "model.onnx", 2, 6) | {"use_cache_branch": np.array([True])}
    for a, b in zip(
        run(tmp_path / "model.onnx", inputs), run(tmp_path / "out" / "model.onnx", inputs), strict=True
    ):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("rank", [3, 4])
def test_convolutions_of_one_position_are_products(tmp_path: Path, rank: int) -> None:
    rest = ", ".join(["l", "m"][: rank - 2])
    text = f"(float[n, 6, {rest}] x) => (float[n, 5, {rest}] y) {{ y = Conv (x, w, b) }}"
    model = parser.parse_model(HEADER + text)
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((5, 6, *[1] * (rank - 2))).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    model.graph.initializer.append(numpy_helper.from_array(rng.standard_normal(5).astype(np.float32), "b"))
    program, path = normalise(tmp_path, model)
    assert "MatMul" in {node.op for node in program.graph.nodes}
    inputs = feed(tmp_path / "given.onnx", 2, 7)
    assert difference(run(tmp_path / "given.onnx", inputs), run(path, inputs)) <= 1e-5


@pytest.mark.parametrize("attributes", ["pads = [1, 1]", "strides = [2]", "group = 2", "kernel_shape = [3]"])
def test_other_convolutions_stay(tmp_path: Path, attributes: str) -> None:
    text = f"(float[n, 6, l] x) => (float[n, 6, k] y) {{ y = Conv <{attributes}> (x, w) }}"
    model = parser.parse_model(HEADER + text)
    size = (6, 3 if "group" in attributes else 6, 3 if "kernel" in attributes else 1)
    model.graph.initializer.append(numpy_helper.from_array(np.ones(size, np.float32), "w"))
    program, _ = normalise(tmp_path, model)
    assert [node.op for node in program.graph.nodes] == ["Conv"]
