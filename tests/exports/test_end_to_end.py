"""Exported models end to end: compiled without data, near the original on two shapes, unrolled as packed.

Every architecture once, each by another of its exports in turn, the ways to export that differ most, and
whole models fused by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import pytest
from exports import fused, matrix

from spikec.compile import Settings, compile_model
from spikec.ir import graph as graphs
from spikec.ir.diagnostics import SpikecError
from spikec.ir.session import Session, reference_session
from spikec.passes.methods import METHODS
from spikec.runtime.session import Compiled, run
from spikec.sample import Sampler
from spikec.verify import Cosine, compare_executions

LEAST = 0.999
OPERATORS = {
    "linear": "SpikeLinear",
    "matmul_dynamic": "SpikeMatMul",
    "softmax": "SpikeSoftmax",
    "layernorm": "SpikeLayerNorm",
    "rmsnorm": "SpikeRMSNorm",
    "activation": "SpikeFunction",
}
SPIKING = METHODS["las"].operators
"""Kinds that become spiking. Others stay, and the user is told: routers, weights that are chosen at run time,
grouped convolutions."""
FUNCTIONS = ("gelu_erf", "gelu_tanh", "quick_gelu", "silu", "relu")
WAYS = ("past", "fp16", "bf16", "static", "legacy11", "dynamo24-sdpa", "ort", "session", "slim")
"""Parts of names: how a model was exported, or what was done to it after."""


def chosen() -> list[str]:
    names = []
    for index, (_, exports) in enumerate(groupby(matrix.NAMES, lambda name: name.partition("-")[0])):
        exports = list(exports)
        names.append(exports[index % len(exports)])
    for index, way in enumerate(WAYS):
        exports = [name for name in matrix.NAMES if way in name and name not in names]
        names += exports[index % 3 :: max(1, len(exports) // 2)][:2]
    return sorted(names)


def test_enough_are_chosen() -> None:
    names = chosen()
    assert len(names) >= 40
    assert all(any(way in name for name in names) for way in WAYS)


FUSED = [f"fused-{name}" for name in fused.MODELS]


def model_of(name: str) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The model and what it computes."""
    if name in FUSED:
        one = fused.MODELS[name.removeprefix("fused-")]
        return one.make().model(), asdict(one.counts)
    return matrix.load(name), matrix.expected(name)


@pytest.mark.parametrize("name", chosen() + FUSED)
def test_compiled_is_near_the_original(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model, counts = model_of(name)
    onnx.save(model, path)
    program = compile_model(path, tmp_path / "out", Settings(timesteps=16))
    compiled = Compiled(tmp_path / "out")
    original = reference(path, compiled)
    feeds = list(Sampler(program.graph, compiled.inputs, original, seed=7).shapes())
    shapes = [[value.shape for value in feed.values()] for feed in feeds]
    assert len(feeds) == 2 and (shapes[0] != shapes[1] or "static" in name)
    packed = compiled.session("packed")
    for feed in feeds:
        expected, got = run(original, feed), run(packed, feed)
        assert got.keys() == expected.keys()
        for output, value in expected.items():
            assert got[output].shape == value.shape and got[output].dtype == value.dtype
            assert cosine(value, got[output]) >= LEAST, output
    both = compare_executions(compiled, feeds[1])
    assert both["codes"] > 0 and both["unexplained_codes"] == 0
    assert both["bit_identical"] or both["different_codes"] > 0
    ops = Counter(node.op_type for node in graphs.read(tmp_path / "out" / "model.onnx").graph.node)
    wanted = Counter(counts)
    wanted["activation"] = sum(wanted[function] for function in FUNCTIONS)
    for finding in program.findings:
        if finding.kind not in SPIKING:
            wanted[finding.facts["label"]] -= finding.facts.get("count", 1)
    assert {kind: ops[op] for kind, op in OPERATORS.items() if ops[op] < wanted[kind]} == {}


def reference(path: Path, compiled: Compiled) -> Session:
    """The original; what it was normalised to where ONNX Runtime has no kernels for its types."""
    try:
        return reference_session(path)
    except SpikecError:
        return compiled.session("ann")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    both = Cosine()
    both.add(a.astype(np.float64), b.astype(np.float64))
    return both.value
