"""Whole fused models: what they compute is found exactly, and stays the same numbers taken apart."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exports.fused import MODELS
from exports.net import Net

from spikec.compile import FRONT
from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.ir.storage import DataFile
from spikec.passes.methods import METHODS
from spikec.passes.normalise import NORMALISE
from spikec.report import found

TOLERANCE = 1e-5


def loaded(net: Net, folder: Path) -> Program:
    onnx.save(net.model(), folder / "model.onnx")
    program = Program.load(folder / "model.onnx")
    program.settings["method"] = METHODS["las"]
    return program


@pytest.mark.parametrize("name", MODELS)
def test_counts(name: str, tmp_path: Path) -> None:
    program = loaded(MODELS[name].make(), tmp_path)
    pipeline.run(program, FRONT, {})
    wanted, counts = asdict(MODELS[name].counts), found(program)
    assert {kind: counts[kind] for kind in wanted} == wanted


@pytest.mark.parametrize("name", MODELS)
def test_numbers(name: str, tmp_path: Path) -> None:
    net = MODELS[name].make()
    program = loaded(net, tmp_path)
    pipeline.run(program, NORMALISE, {})
    assert not any(node.domain == "com.microsoft" for node in program.graph.nodes)
    data = DataFile(tmp_path / "plain.bin")
    graphs.save(program.graph, tmp_path / "plain.onnx", data)
    data.close()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    whole, plain = (
        ort.InferenceSession(str(tmp_path / file), settings, providers=["CPUExecutionProvider"])
        for file in ("model.onnx", "plain.onnx")
    )
    for seed, sizes in enumerate(MODELS[name].sizes):
        feed = net.feed(sizes, seed)
        feed = {i.name: feed[i.name] for i in plain.get_inputs()}
        for want, have in zip(whole.run(None, feed), plain.run(None, feed)):
            assert want.shape == have.shape
            assert np.abs(want - have).max() <= TOLERANCE * max(1.0, float(np.abs(want).max()))
