"""What only resembles a known function is found as what it is, or not at all, and never in silence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from exports.nearmiss import NEAR_MISSES, NearMiss
from onnx import parser

from spikec.compile import FRONT
from spikec.ir import pipeline, region
from spikec.ir.program import Program
from spikec.passes.methods import METHODS


def model(case: NearMiss) -> onnx.ModelProto:
    made = parser.parse_model(
        f'<ir_version: 9, opset_import: ["": {case.opset}]> g {case.signature} {{ {case.body} }}'
    )
    for name, value in case.weights.items():
        kind = np.float32 if np.asarray(value).dtype.kind == "f" else np.int64
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, kind), name))
    onnx.checker.check_model(made)
    return onnx.shape_inference.infer_shapes(made, data_prop=True)


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


def test_what_is_found_in_a_near_miss_is_what_it_computes(program: Program) -> None:
    x = np.linspace(-6, 6, 200).astype(np.float32)
    for finding in program.of("activation"):
        want = region.execute(finding.sources[0], finding.facts["value"], x, program.graph.opset)
        np.testing.assert_allclose(finding.facts["function"](x), want, rtol=1e-5, atol=1e-5)
