"""A compiled model: every node decided, every rewrite certified, no dense product left in a block; a wrong
rewrite is caught."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import models
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from spikec.compile import Settings, compile_model
from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import DOMAIN
from spikec.ir.program import Finding, Program
from spikec.passes.calibrate.thresholds import Threshold
from spikec.passes.classify import coverage
from spikec.passes.rewrite import activation, norm, softmax
from spikec.passes.rewrite.fit import fit
from spikec.passes.rewrite.products import _largest_sum, channel_scale, rounded
from spikec.runtime.session import Compiled

Make = Callable[[str, str], Program]
KINDS = sorted(models.MAKERS)
TOKENS = 128
"""MACs are counted for one sequence of this length."""


def compiled(folder: Path, model: onnx.ModelProto, weights: str = "int8") -> Program:
    path = models.save(folder / "model", model)
    return compile_model(path, folder / "out", Settings(timesteps=8, weights=weights))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`program(kind, weights)`: compiled once."""

    @cache
    def make(kind: str, weights: str) -> Program:
        return compiled(tmp_path_factory.mktemp(kind), models.MAKERS[kind](), weights)

    return make


def unsound(p: Program) -> list[str]:
    return sorted({c.kind for c in p.certificates if not c.holds})


LAYERS = models.LAYERS
REWRITES = {
    "llama": {"linear": 7 * LAYERS, "rmsnorm": 2 * LAYERS + 1, "silu": LAYERS},
    "bert": {"linear": 6 * LAYERS, "layernorm": 2 * LAYERS + 1, "gelu_erf": LAYERS},
}
REWRITES["gqa"] = REWRITES["llama"]


@pytest.mark.parametrize("weights", ["fp32", "int8"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_rewrite_is_certified(program: Make, kind: str, weights: str) -> None:
    p = program(kind, weights)
    expected = Counter(REWRITES[kind]) + Counter(qk=LAYERS, av=LAYERS, softmax=LAYERS)
    assert Counter(c.kind for c in p.certificates) == expected
    assert unsound(p) == []
    assert len({c.where for c in p.certificates}) == len(p.certificates)
    for c in p.certificates:
        assert 0 < c.max_error <= c.bound <= 1 and c.samples > 0 and c.compared and c.operator in OPS


@pytest.mark.parametrize("kind", KINDS)
def test_every_original_node_has_one_decision(program: Make, kind: str) -> None:
    p, nodes = program(kind, "int8"), models.MAKERS[kind]().graph.node
    assert sorted(p.decisions) == sorted(node.name for node in nodes)
    for node in nodes:
        decision = p.decisions[node.name]
        assert (decision.node, decision.op) == (node.name, node.op_type)
        assert decision.verdict in ("spiking", "linear", "host") and len(decision.reason) > 5
    spiking = {"Softmax", "Erf", "Sigmoid", "Pow", "ReduceMean", "Sqrt", "LayerNormalization"}
    assert {d.verdict for d in p.decisions.values() if d.op in spiking} == {"spiking"}


@pytest.mark.parametrize(
    ("kind", "kv"), [("llama", models.DIM), ("gqa", models.DIM // 2), ("bert", models.DIM)]
)
def test_coverage_counts_every_mac_by_hand(program: Make, kind: str, kv: int) -> None:
    p = program(kind, "int8")
    dim, hidden = models.DIM, models.HIDDEN
    tokens = models.LONGEST if kind == "bert" else TOKENS  # its table of positions is no longer
    linear = 2 * dim * dim + 2 * dim * kv + (2 if kind == "bert" else 3) * dim * hidden
    expected = LAYERS * (tokens * linear + 2 * dim * tokens**2)
    head = 0 if kind == "bert" else tokens * dim * models.VOCABULARY
    result = coverage(p)
    assert result["macs"] == {"spiking": expected, "linear": 0, "host": head, "rejected": 0}
    assert result["tokens"] == tokens
    assert sum(result["nodes"].values()) == len(models.MAKERS[kind]().graph.node)
    assert result["dense_macs_in_blocks"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_dense_product_is_left_but_the_head(program: Make, kind: str) -> None:
    p = program(kind, "int8")
    left = Counter(node.op for node in p.graph.nodes if node.domain != DOMAIN)
    assert left["MatMul"] == (0 if kind == "bert" else 1)
    for op in ("Softmax", "Erf", "Sigmoid", "Sqrt", "ReduceMean", "LayerNormalization", "Pow"):
        assert left[op] == 0, op
    made = Counter(node.op for node in p.graph.nodes if node.domain == DOMAIN)
    assert made["SpikeLinear"] == REWRITES[kind]["linear"]
    assert made["SpikeMatMul"] == 2 * LAYERS and made["SpikeSoftmax"] == LAYERS
    assert p.functions.keys() == made.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_is_encoded_once_however_many_read_it(program: Make, kind: str) -> None:
    encoders = [node for node in program(kind, "int8").graph.nodes if node.op == "OATEncode"]
    assert len({node.inputs[0].name for node in encoders}) == len(encoders)
    # What q, k and v share; q, k, v, the attention weights and their mix; what the MLP reads, its middle.
    assert len(encoders) == 8 * LAYERS
    assert Counter(len(node.outputs[0].outputs) for node in encoders)[3] == LAYERS


def test_model_outputs_keep_their_names_and_values_stay_close(program: Make) -> None:
    p = program("llama", "int8")
    folder = Compiled(p.source.parent.parent / "out")
    ids = np.random.default_rng(0).integers(0, models.VOCABULARY, (1, 20))
    ann, snn = (folder.session(which).run(["logits"], {"input_ids": ids})[0] for which in ("ann", "packed"))
    assert 0 < np.abs(ann - snn).max() < 0.1 * np.abs(ann).max()


def test_int8_weights_err_by_half_a_step() -> None:
    w = np.random.default_rng(0).standard_normal((40, 7)).astype(np.float32) * np.geomspace(1e-4, 1e3, 7)
    w[:, 3] = 0
    w = w.astype(np.float32)
    scale = channel_scale([w[:7], w[7:]])
    q = rounded(w, scale)
    assert q.dtype == np.int8 and scale.shape == (7,) and not q[:, 3].any()
    assert np.all(np.abs(q).max(0)[[0, 1, 2, 4, 5, 6]] == 127)
    assert np.all(np.abs(q * scale.astype(np.float64) - w) <= scale / 2 * (1 + 1e-5))


# A wrong rewrite


def shifted(table: Callable[[int], np.ndarray], by: float) -> Callable[[int], np.ndarray]:
    return lambda bits: (table(bits) + np.float32(by)).astype(np.float32)


def test_a_wrong_exponential_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softmax, "exp2_thresholds", shifted(softmax.exp2_thresholds, 0.01))
    assert unsound(compiled(tmp_path, models.bert())) == ["softmax"]


def test_a_wrong_reciprocal_root_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm, "rsqrt_thresholds", shifted(norm.rsqrt_thresholds, 0.01))
    assert unsound(compiled(tmp_path, models.bert())) == ["layernorm"]


def test_a_wrong_activation_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "fit", lambda f, bits: fit(lambda x: f(x) * 1.02, bits))
    assert unsound(compiled(tmp_path, models.bert())) == ["gelu_erf"]


@pytest.mark.parametrize(
    ("op", "caught"), [("SpikeLinear", ["linear"]), ("SpikeMatMul", ["av", "qk"]), ("OATEncode", ["linear"])]
)
def test_a_wrong_operator_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, op: str, caught: list[str]
) -> None:
    good = OPS[op]

    def wrong(*inputs: np.ndarray, **attributes: float) -> np.ndarray:
        y = good.numpy(*inputs, **attributes)
        return y + 3 if op == "OATEncode" else (y * 1.2).astype(y.dtype)

    monkeypatch.setitem(OPS, op, dataclasses.replace(good, numpy=wrong))
    assert set(caught) <= set(unsound(compiled(tmp_path, models.bert())))


# Sums of codes


@pytest.mark.parametrize(
    ("label", "left", "right", "inner"),
    [
        ("qk", (2, 4, "s", 64), (2, 4, 64, "t"), 64),
        ("qk", (2, 4, "s", "d"), (2, 4, 64, "t"), 64),  # the other side tells
        ("matmul_dynamic", (2, 4, "s", "t"), None, 2**16),
        ("av", (2, 4, "s", 16), None, 16),
    ],
)
def test_the_largest_sum_of_codes(label: str, left: tuple, right: tuple | None, inner: int) -> None:
    """A bound on what SpikeMatMul adds up; a row of attention weights adds up to one."""
    sides = (gs.Variable("a", np.float32, left), gs.Variable("b", np.float32, right))
    finding = Finding("matmul_dynamic", sides, gs.Variable("y"), (), {"label": label})
    a, b = Threshold(1 / 255, 4, 2, 0.0, 0.0), Threshold(1.0, 2, 3, 0.0, 0.0)
    row = 255 + inner / 2 if label == "av" else 256 * 4 * inner
    assert _largest_sum(finding, a.neuron(8), b.neuron(8)) == pytest.approx(row * 256 * 4)


# Names


def test_a_model_without_node_names_has_no_dense_block_macs(tmp_path: Path) -> None:
    model = models.llama()
    for node in model.graph.node:
        node.name = ""
    assert coverage(compiled(tmp_path, model))["dense_macs_in_blocks"] == 0


def test_nodes_of_one_name_are_all_decided(tmp_path: Path) -> None:
    model = models.llama()
    for node in model.graph.node:
        node.name = node.op_type
    p = compiled(tmp_path, model)
    assert len(p.decisions) == len(model.graph.node)


def test_functions_that_differ_far_out_get_their_own_neuron(tmp_path: Path) -> None:
    """ReLU and ReLU clipped at 500: one of the two must not become the other."""
    text = """<ir_version: 9, opset_import: ["": 18]> g
        (float[n, 8] x) => (float[n, 8] y, float[n, 8] z, float[n, 8] m) <
        float[8] gain = {1, 1, 1, 1, 1, 1, 1, 1}, float low = {-500.0}, float high = {500.0} >
        { m = LayerNormalization (x, gain) a = MatMul (x, w)
        r = Relu (a) y = Neg (r) q = Relu (a) s = Clip (q, low, high) z = Neg (s) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(8, dtype=np.float32), "w"))
    onnx.save(model, tmp_path / "model.onnx")
    feed = {"x": np.linspace(-1000, 1000, 16, dtype=np.float32).reshape(2, 8)}
    compile_model(tmp_path / "model.onnx", tmp_path / "out", feeds=[feed])
    y, z = Compiled(tmp_path / "out").session().run(["y", "z"], feed)
    np.testing.assert_allclose(y.min(), -1000, rtol=0.01)
    np.testing.assert_allclose(z.min(), -500, rtol=0.01)
