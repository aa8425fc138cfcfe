"""Every original node has one true decision, and no dense product goes uncounted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from spikec.compile import FRONT, compile_model
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.ir.weights import array
from spikec.passes.classify import coverage
from spikec.passes.methods import METHODS
from spikec.report import as_text, found
from spikec.scope import misses

Recognise = Callable[..., Program]

D = 8
RNG = np.random.default_rng(0)
WQ = RNG.standard_normal((D, D))
X = f"float[2, 16, {D}]"


def verdicts(program: Program) -> dict[str, str]:
    return {d.op: d.verdict for d in program.decisions.values()}


@pytest.mark.parametrize(
    ("node", "shape", "macs"),
    [
        ("Einsum <equation = 'bnd,bmd->bnm'> (x, x)", "2, 16, 16", 2 * 16 * 16 * D),
        ("Einsum <equation = 'bnd,bmd,bkd->bnm'> (x, x, x)", "2, 16, 16", 2 * 2 * 16 * 16 * 16 * D),
        ("Conv <kernel_shape = [3]> (x, k)", "2, 5, 6", 2 * 5 * 6 * 16 * 3),
        ("Conv <kernel_shape = [3], group = 2> (x, k2)", "2, 4, 6", 2 * 4 * 6 * 8 * 3),
        ("ConvTranspose <kernel_shape = [3]> (x, kt)", "2, 5, 10", 2 * 16 * D * 5 * 3),
        ("MatMul (x, stack)", f"2, 16, {D}", 2 * 16 * D * D),
        ("Attention <q_num_heads = 2, kv_num_heads = 2> (x, x, x)", f"2, 16, {D}", 2 * 2 * 16 * 16 * D),
        ("CumSum (x, axis)", f"2, 16, {D}", 0),
    ],
)
def test_macs_of_dense_products(recognise: Recognise, node: str, shape: str, macs: int) -> None:
    """Anything that adds up products inside a block counts, by hand."""
    weights = {
        "k": np.ones((5, 16, 3)),
        "k2": np.ones((4, 8, 3)),
        "kt": np.ones((16, 5, 3)),
        "stack": np.ones((2, D, D)),
        "axis": np.array(1),
    }
    given = {name: value for name, value in weights.items() if f" {name})" in node}
    text = f"({X} x) => (float[{shape}] y) {{ y = {node.replace(chr(39), chr(34))} }}"
    program = recognise(text, opset=23, **given)
    assert sum(coverage(program)["macs"].values()) == macs
    assert coverage(program)["nodes_of_unknown_macs"] == 0


@pytest.mark.parametrize("biased", [False, True])
def test_macs_of_a_gemm_of_activations(recognise: Recognise, biased: bool) -> None:
    node = "y = Gemm (x, z, c)" if biased else "y = Gemm (x, z)"
    text = f"(float[4, {D}] x, float[{D}, 3] z) => (float[4, 3] y) {{ {node} }}"
    program = recognise(text, **({"c": np.ones(3)} if biased else {}))
    assert coverage(program)["macs"]["spiking"] == 4 * 3 * D


@pytest.mark.parametrize(
    "node", ["LSTM <hidden_size = 4> (x, w, r)", "Einsum <equation = '...d,...d,...d->...'> (x, x, x)"]
)
def test_unknown_products_are_not_zero(recognise: Recognise, node: str) -> None:
    given = {"w": np.ones((1, 16, D)), "r": np.ones((1, 16, 4))} if "LSTM" in node else {}
    text = f"({X} x) => (y) {{ y = {node.replace(chr(39), chr(34))} }}"
    text = text.replace("(y)", "(float[2, 1, 16, 4] y)" if given else "(float[2, 16] y)")
    program = recognise(text, **given)
    (decision,) = program.decisions.values()
    assert decision.macs is None and decision.verdict == "host"
    result = coverage(program)
    assert result["dense_macs_in_blocks"] == 0 and result["nodes_of_unknown_macs"] == 1  # there is no block
    program.decisions[decision.node] = replace(decision, block=0)
    assert coverage(program)["dense_macs_in_blocks"] is None
    program.decisions[decision.node] = replace(decision, block=0, macs=7)
    assert coverage(program)["dense_macs_in_blocks"] == 7
    program.decisions[decision.node] = replace(decision, macs=7)
    assert coverage(program)["dense_macs_in_blocks"] == 0
    assert [d.where for d in program.diagnostics if "multiply-accumulates" in d.text] == [decision.node]


def test_linear_layer_on_a_shared_transposed_weight(recognise: Recognise) -> None:
    """A tied weight in the middle is a linear layer, not a head; its constant is folded once."""
    text = f"""({X} x) => ({X} y) {{ a = MatMul (x, w) t = Transpose <perm = [1, 0]> (w) b = MatMul (a, t)
        r = Relu (b) u = Transpose <perm = [1, 0]> (w) c = MatMul (r, u) s = Relu (c) y = Add (s, x) }}"""
    program = recognise(text, w=WQ)
    first, second, third = program.of("linear")
    assert program.of("head") == []
    np.testing.assert_array_equal(array(second.facts["weight"]), WQ.T.astype(np.float32))
    assert second.facts["weight"] is third.facts["weight"]
    assert first.facts["weight"].name == "w"
    assert verdicts(program)["Transpose"] == "linear" and len(program.decisions) == 8
    assert coverage(program)["dense_macs_in_blocks"] == 0


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        ("y = Tanh (h)", "linear"),
        ("a = Div (h, c) b = Tanh (a) y = Mul (b, c)", "head"),
        ("y = Add (h, c)", "head"),
    ],
)
def test_head_or_pooler(recognise: Recognise, after: str, kind: str) -> None:
    program = recognise(
        f"({X} x) => ({X} y) {{ h = MatMul (x, w) {after} }}",
        w=WQ,
        **({"c": np.array(30.0)} if "c" in after else {}),
    )
    assert [f.kind for f in program.of("linear", "head")] == [kind]


@pytest.mark.parametrize(
    ("node", "verdict", "word"),
    [
        ("y = Div (h, c)", "linear", "scaling"),
        ("y = Mul (c, h)", "linear", "scaling"),
        ("y = Div (c, h)", "host", "not recognised"),
        ("i = Cast <to = 7> (h) y = Cast <to = 1> (i)", "host", "integers"),
    ],
)
def test_true_reasons(recognise: Recognise, node: str, verdict: str, word: str) -> None:
    given = {"c": np.array(3.0)} if "Cast" not in node else {}
    program = recognise(f"({X} x) => ({X} y) {{ h = MatMul (x, w) {node} }}", w=WQ, **given)
    decision = list(program.decisions.values())[1]
    assert decision.verdict == verdict and word in decision.reason


def test_what_comes_before_the_first_layer_is_an_activation(recognise: Recognise) -> None:
    program = recognise(
        f"""(float[2, 3, 18] x) => (float[2, 16, {D}] y)
        {{ c = Conv <kernel_shape = [11]> (x, k) y = MatMul (c, w) }}""",
        k=np.ones((16, 3, 11)),
        w=WQ,
    )
    decision = program.decisions["Conv_0"]
    assert decision.verdict == "host" and "Conv with constant weights" in decision.reason


def test_nodes_folded_away_have_a_decision(recognise: Recognise) -> None:
    text = """(float[n, 2] x) => (float[n, 3] y) { c = Constant <value = float[2, 3] {1, 2, 3, 4, 5, 6}> ()
        i = Identity (c) d = Dropout (x) h = MatMul (d, i) t = Transpose (b) g = Gemm (h, t, v) y = Relu (g)
        unused = Neg (x) }"""
    program = recognise(text, b=np.eye(3), v=np.ones(3))
    assert verdicts(program) == {
        "Constant": "linear", "Identity": "linear", "Dropout": "linear", "MatMul": "spiking",
        "Transpose": "linear", "Gemm": "spiking", "Relu": "spiking", "Neg": "linear",
    }  # fmt: skip
    assert len(program.decisions) == 8
    folded = [
        d
        for d in program.decisions.values()
        if d.op in ("Constant", "Identity", "Dropout", "Transpose", "Neg")
    ]
    assert all(d.reason.startswith("folded: ") for d in folded)


def test_angles_made_of_activations_are_no_rope(recognise: Recognise) -> None:
    """The shape of a rotation, but the angle is learned from the input: not linear."""
    text = f"""({X} x) => ({X} y) {{ q = MatMul (x, w) low = Slice (q, from, half, last)
        high = Slice (q, half, to, last) minus = Neg (high) turned = Concat <axis = -1> (minus, low)
        angle = MatMul (x, w2) cos = Cos (angle) sin = Sin (angle) a = Mul (q, cos) b = Mul (turned, sin)
        y = Add (a, b) }}"""
    ends = {"from": np.array([0]), "half": np.array([D // 2]), "to": np.array([D]), "last": np.array([-1])}
    program = recognise(text, w=WQ, w2=WQ, **ends)
    assert program.of("rope") == []
    assert program.decisions["Mul_8"].verdict == "host"


def test_angles_looked_up_by_position_are_rope(recognise: Recognise) -> None:
    text = f"""({X} x, int64[2, 16] position_ids) => ({X} y) {{ q = MatMul (x, w)
        low = Slice (q, from, half, last) high = Slice (q, half, to, last) minus = Neg (high)
        turned = Concat <axis = -1> (minus, low) cos = Gather (cosines, position_ids)
        sin = Gather (sines, position_ids) a = Mul (q, cos) b = Mul (turned, sin) y = Add (a, b) }}"""
    ends = {"from": np.array([0]), "half": np.array([D // 2]), "to": np.array([D]), "last": np.array([-1])}
    program = recognise(text, w=WQ, cosines=np.ones((32, D)), sines=np.ones((32, D)), **ends)
    assert len(program.of("rope")) == 1


def routed(mixed: str) -> str:
    """Two experts, whose results are scaled by what a router gives the one chosen, over the sum of all."""
    return f"""({X} x) => ({X} y) {{ s = MatMul (x, router) p = Softmax <axis = -1> (s)
        best, chosen = TopK <axis = -1> (p, one) sum = ReduceSum (p, last) share = Div (best, sum)
        first = Equal (chosen, zero) mask = Cast <to = 6> (first)
        flag = Cast <to = 1> (mask) a = MatMul (x, w) b = Mul (a, flag) c = Mul (b, share)
        y = Mul (c, {mixed}) }}"""


@pytest.mark.parametrize(("mixed", "missed"), [("share", []), ("a", ["Mul"])])
def test_a_router_s_arithmetic_is_kept_on_purpose(
    recognise: Recognise, mixed: str, missed: list[str]
) -> None:
    """Dividing, comparing and scaling by its weights; a product with another activation is no such thing."""
    whole = {"one": np.array([1]), "last": np.array([-1]), "zero": np.array([0])}
    program = recognise(routed(mixed), router=RNG.standard_normal((D, 2)), w=WQ, **whole)
    assert program.of("router")
    program.decisions = {name: replace(d, block=0) for name, d in program.decisions.items()}
    assert [miss.op for miss in misses(program)] == missed
    kept = METHODS["las"].kept["router"]
    verdict = {d.op: (d.verdict, d.reason) for d in program.decisions.values()}
    assert verdict["Div"] == verdict["Equal"] == ("host", kept)


def test_summary_says_unknown(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 18]> g (float[2, 16, 8] x) => (float[2, 16] y)
        <float[8] gain = {1, 1, 1, 1, 1, 1, 1, 1}> { m = LayerNormalization (x, gain) a = MatMul (m, w)
        y = Einsum <equation = "...d,...d,...d->..."> (a, a, a) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(WQ.astype(np.float32), "w"))
    onnx.save(model, tmp_path / "model.onnx")
    feed = {"x": RNG.standard_normal((2, 16, D)).astype(np.float32)}
    program = compile_model(tmp_path / "model.onnx", tmp_path / "out", feeds=[feed])
    summary = as_text(program, "out")
    assert "\n0 dense MACs left inside blocks" in summary and "of the MACs known" in summary
    made = next(d for d in program.decisions.values() if d.macs is None)
    program.decisions[made.node] = replace(made, block=0)
    assert "\nunknown dense MACs left inside blocks" in as_text(program, "out")


def test_an_operator_of_an_unknown_domain_is_rejected_and_says_so(tmp_path: Path) -> None:
    text = f"""<ir_version: 9, opset_import: ["": 18, "com.example": 1]> g ({X} x) => ({X} y)
        {{ h = MatMul (x, w) m = com.example.Mystery (h) y = Relu (m) }}"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(onnx.numpy_helper.from_array(WQ.astype(np.float32), "w"))
    onnx.save(model, tmp_path / "model.onnx")
    program = Program.load(tmp_path / "model.onnx")
    program.settings["method"] = METHODS["las"]
    pipeline.run(program, FRONT, {})
    assert verdicts(program)["Mystery"] == "rejected" and verdicts(program)["MatMul"] == "spiking"
    (remark,) = (d for d in program.diagnostics if d.code == "SPK120")
    assert "com.example" in remark.text and "Mystery" in remark.text
    assert coverage(program)["nodes"]["rejected"] == 1


@pytest.mark.parametrize(
    ("node", "word"),
    [
        ("y = Mul (h, p)", "no activation is in"),
        ("y = Div (h, p)", "no activation is in"),
        ("y = Div (p, h)", "not recognised"),
        ("y = Mul (h, h)", "not recognised"),
    ],
)
def test_scaling_by_positions_is_linear(recognise: Recognise, node: str, word: str) -> None:
    text = f"""(float[2, 16, {D}] x, int64[2, 16] position_ids) => (float[2, 16, {D}] y)
        {{ f = Cast <to = 1> (position_ids) p = Unsqueeze (f, last) h = MatMul (x, w) {node} }}"""
    program = recognise(text, w=WQ, **({"last": np.array([-1])}))
    (decision,) = (d for d in program.decisions.values() if d.op in ("Mul", "Div"))
    assert word in decision.reason
    assert decision.verdict == ("linear" if "no activation" in word else "host")


def test_a_product_with_a_mask_is_told(recognise: Recognise) -> None:
    """Averaging by an attention mask multiplies, but is neither a linear layer nor one of two activations."""
    text = f"""({X} x, float[2, 16] attention_mask) => (float[2, 1, {D}] y) {{ h = MatMul (x, w)
        m = Unsqueeze (attention_mask, axis) y = MatMul (m, h) }}"""
    program = recognise(text, w=WQ, axis=np.array([1]))
    assert found(program)["matmul_dynamic"] == 0 and found(program)["other_linear"] == 1
    assert ["positions or masks" in d.text for d in program.diagnostics] == [True]
