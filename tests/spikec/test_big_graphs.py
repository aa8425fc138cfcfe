"""Graphs of very many nodes, and very deep ones: everything is iterative and about linear."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from spikec.compile import FRONT
from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.ir.storage import DataFile
from spikec.ir.stream import Stream
from spikec.passes.methods import METHODS
from spikec.report import found

STEPS = 5000


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny llama with x + relu(x·w)·c five thousand times over before its last norm: 20 000 nodes, all of
    them in one chain, listed back to front."""
    model = models.llama()
    last = f"x{models.LAYERS}"
    for node in model.graph.node:
        node.input[:] = [
            f"x_{STEPS}" if name == last and "final" in "".join(node.output) else name for name in node.input
        ]
    values = {"turn": np.eye(models.DIM, dtype=np.float32), "small": np.float32(1e-4)}
    model.graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in values.items())
    chain = []
    for i in range(STEPS):
        x = f"x_{i}" if i else last
        chain += [
            helper.make_node("MatMul", [x, "turn"], [f"p_{i}"]),
            helper.make_node("Relu", [f"p_{i}"], [f"r_{i}"]),
            helper.make_node("Mul", [f"r_{i}", "small"], [f"s_{i}"]),
            helper.make_node("Add", [x, f"s_{i}"], [f"x_{i + 1}"]),
        ]
    end = next(i for i, node in enumerate(model.graph.node) if f"x_{STEPS}" in node.input)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:end], *chain, *nodes[end:]])
    path = tmp_path_factory.mktemp("deep") / "model.onnx"
    onnx.save(model, path)
    return path


def seconds() -> float:
    """Of this process alone: other work on the machine does not count."""
    return time.process_time()


def test_a_deep_chain_is_read_sorted_and_written(deep: Path, tmp_path: Path) -> None:
    start = seconds()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        graph = graphs.load(deep)
        graph.nodes.reverse()
        graphs.sort(graph)
        graphs.prune(graph)
        graphs.skeleton(graph)
        data = DataFile(tmp_path / "weights.bin")
        graphs.save(graph, tmp_path / "model.onnx", data)
        data.close()
    finally:
        sys.setrecursionlimit(limit)
    assert len(graph.nodes) == len(graphs.read(deep).graph.node) > 4 * STEPS
    feed = {"input_ids": np.arange(6).reshape(2, 3)}
    a, b = (Stream(path).run(["x_7"], feed)[0] for path in (deep, tmp_path / "model.onnx"))
    np.testing.assert_array_equal(a, b)
    assert seconds() - start < 30


def test_all_of_a_deep_chain_is_recognised(deep: Path) -> None:
    start = seconds()
    program = Program.load(deep)
    program.settings["method"] = METHODS["las"]
    pipeline.run(program, FRONT, {})
    counts = found(program)
    assert counts["relu"] == STEPS and counts["attention"] == models.LAYERS
    assert seconds() - start < 60


def test_what_nothing_needs_is_pruned_at_once(deep: Path) -> None:
    graph = graphs.load(deep)
    graph.outputs[0] = graph.tensors()["x0"]
    shared = graph.tensors()["small"]
    assert len(shared.outputs) == STEPS
    start = seconds()
    graphs.prune(graph)
    assert len(graph.nodes) == 1 and not shared.outputs
    assert seconds() - start < 5
