"""What only resembles a known function is found as what it is, or not at all, and never in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exports.nearmiss import NEAR_MISSES, N, NearMiss, X
from onnx import parser

from spikec.compile import FRONT, Settings, compile_model
from spikec.ir import pipeline, region
from spikec.ir.program import Program
from spikec.passes.methods import METHODS
from spikec.runtime.session import Compiled


def model(case: NearMiss) -> onnx.ModelProto:
    made = parser.parse_model(
        f'<ir_version: 9, opset_import: ["": {case.opset}]> g {case.signature} {{ {case.body} }}'
    )
    for name, value in case.weights.items():
        kind = np.float32 if np.asarray(value).dtype.kind == "f" else np.int64
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, kind), name))
    onnx.checker.check_model(made)
    return onnx.shape_inference.infer_shapes(made, data_prop=True)


WRAPPED = (f"({X} x) => ({X} y", f"({X} x, {X} z) => ({X} y")


def wrapped(case: NearMiss) -> onnx.ModelProto:
    """The near miss between linear layers of one block, its own outputs kept."""
    outputs = case.signature.split("=>")[1].strip(" ()").split(f"{X} y", 1)[1]
    body = f"""x = MatMul (given, w1) z = MatMul (given, w2) {case.body} back = MatMul (y, w3)
        sum = Add (given, back) last_out = LayerNormalization <epsilon = 1e-5> (sum, w_gain, w_shift)"""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": 1.5 * rng.standard_normal((N, N)) / np.sqrt(N) for i in (1, 2, 3)}
    weights |= {"w_gain": np.linspace(0.5, 1.5, N), "w_shift": np.linspace(-1, 1, N)}
    signature = f"({X} given) => ({X} last_out{outputs})"
    opset = max(case.opset, 17)
    return model(replace(case, body=body, signature=signature, opset=opset, wrong=case.wrong | weights))


@pytest.fixture(params=sorted(NEAR_MISSES))
def case(request: pytest.FixtureRequest) -> NearMiss:
    return NEAR_MISSES[request.param]


@pytest.fixture
def program(case: NearMiss, tmp_path: Path) -> Program:
    onnx.save(model(case), tmp_path / "model.onnx")
    program = Program.load(tmp_path / "model.onnx")
    program.settings["method"] = METHODS["las"]
    pipeline.run(program, FRONT, {})
    return program


def test_a_near_miss_is_told_apart(case: NearMiss, program: Program) -> None:
    assert Counter(f.facts["label"] for f in program.findings) == Counter(case.found)
    told = list(program.diagnostics)
    for code, words in case.told:
        match = next((d for d in told if d.code == code and words in d.text), None)
        assert match is not None, (code, words, told)
        told.remove(match)
    assert told == []


@pytest.mark.parametrize("name", sorted(n for n, c in NEAR_MISSES.items() if c.signature.startswith(WRAPPED)))
def test_a_near_miss_is_converted_as_what_it_is(name: str, tmp_path: Path) -> None:
    onnx.save(wrapped(NEAR_MISSES[name]), tmp_path / "model.onnx")
    rng = np.random.default_rng(1)
    feeds = [{"given": rng.standard_normal((2, 6, N)).astype(np.float32)} for _ in range(4)]
    compile_model(tmp_path / "model.onnx", tmp_path / "out", Settings(timesteps=16), feeds=feeds)
    folder = Compiled(tmp_path / "out")
    feed = {"given": rng.standard_normal((3, 9, N)).astype(np.float32)}
    for exact, spiking in zip(
        *(folder.session(which).run(None, feed) for which in ("ann", "packed")), strict=True
    ):
        a, b = exact.astype(np.float64).ravel(), spiking.astype(np.float64).ravel()
        assert a @ b >= 0.9995 * np.sqrt((a @ a) * (b @ b))
        assert np.abs(a - b).max() <= 0.02 * np.abs(a).max()


def test_what_is_found_in_a_near_miss_is_what_it_computes(program: Program) -> None:
    x = np.linspace(-6, 6, 200).astype(np.float32)
    for finding in program.of("activation"):
        want = region.execute(finding.sources[0], finding.facts["value"], x, program.graph.opset)
        np.testing.assert_allclose(finding.facts["function"](x), want, rtol=1e-5, atol=1e-5)
