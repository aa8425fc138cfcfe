"""Shared by the tests of passes: a graph written as text goes through every recogniser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from spikec.compile import FRONT
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.passes.methods import METHODS

Recognise = Callable[..., Program]


def text_model(text: str, weights: dict[str, np.ndarray], opset: int = 18) -> onnx.ModelProto:
    """The model of `(inputs) => (outputs) { nodes }` with these initialisers, checked, shapes inferred."""
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> g {text}')
    for name, values in weights.items():
        dtype = np.float32 if np.issubdtype(np.asarray(values).dtype, np.floating) else np.int64
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values, dtype), name))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


@pytest.fixture
def recognise(tmp_path: Path) -> Recognise:
    """`recognise(text, opset=18, **weights)`: the Program with its findings."""

    def run(text: str, opset: int = 18, **weights: np.ndarray) -> Program:
        onnx.save(text_model(text, weights, opset), tmp_path / "model.onnx")
        program = Program.load(tmp_path / "model.onnx")
        program.settings["method"] = METHODS["las"]
        pipeline.run(program, FRONT, {})
        return program

    return run
