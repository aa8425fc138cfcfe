"""Fused operators that stay whole are told; those in branches are taken apart too."""

from __future__ import annotations

from pathlib import Path

import fused_table
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from operators import normal, taken_apart

from spikec.passes.normalise.fused import FORMS
from spikec.passes.normalise.fused.whole import WHOLE

D = 32


def text_model(text: str) -> onnx.ModelProto:
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 18, "com.microsoft": 1]> g {text}')
    for index, node in enumerate(made.graph.node):
        node.name = f"{node.op_type}_{index}"
    return made


X = (
    "(float[b, s, 32] x, float[32] gain, float[32, 96] w, float[96] bias, int32[n] mask, "
    "int64[k] sizes, int64[b, s] places) "
    "=> (float[b, s, 32] y)"
)
KEPT = {
    "its angles": ("SPK402", "y = com.microsoft.Attention <num_heads = 4, do_rotary = 1> (x, w, bias)"),
    "a shared buffer": (
        "SPK402",
        "y = com.microsoft.Attention <num_heads = 4, past_present_share_buffer = 1> (x, w, bias)",
    ),
    "a mean of an rms norm": (
        "SPK403",
        "z, m = com.microsoft.SkipSimplifiedLayerNormalization (x, x, gain) y = Add (z, m)",
    ),
    "an activation": ("SPK402", 'y = com.microsoft.FusedMatMulActivation <activation = "Odd"> (x, w)'),
    "a packed batch": (
        "SPK402",
        "y = com.microsoft.RotaryEmbedding <is_packed_batching = 1> (x, mask, w, w)",
    ),
    "a mask of unknown rank": (
        "SPK404",
        "m = Reshape (mask, sizes) y = com.microsoft.Attention <num_heads = 4> (x, w, bias, m)",
    ),
    "a size of unknown heads": (
        "SPK404",
        "z = Reshape (x, sizes) y = com.microsoft.RotaryEmbedding (z, places, w, w)",
    ),
    "another axis": ("SPK402", "y = SimplifiedLayerNormalization <axis = 1> (x, gain)"),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept_whole(name: str, tmp_path: Path) -> None:
    """The node stays, nothing of what was begun does, and the reason is told."""
    code, body = KEPT[name]
    whole = text_model(f"{X} {{ {body} }}")
    program = taken_apart(whole, tmp_path)
    assert [told.code for told in program.diagnostics] == [code]
    assert [node.op for node in program.graph.nodes] == [node.op_type for node in whole.graph.node]
    assert program.origin == {}
    assert all(user in program.graph.nodes for tensor in program.graph.inputs for user in tensor.outputs)


def test_operators_without_a_form_are_told(tmp_path: Path) -> None:
    for domain, op in WHOLE:
        whole = text_model(f"(float[b, s, 32] x) => (float[b, s, 32] y) {{ y = {domain}.{op} (x) }}")
        program = taken_apart(whole, tmp_path)
        assert [told.code for told in program.diagnostics] == ["SPK401"]
        assert [node.op for node in program.graph.nodes] == [op]


def test_an_unread_output_does_not_stand_in_the_way(tmp_path: Path) -> None:
    body = "y, m, d = com.microsoft.SkipSimplifiedLayerNormalization (x, x, gain)"
    program = taken_apart(text_model(f"{X} {{ {body} }}"), tmp_path)
    assert program.diagnostics == [] and {n.op for n in program.graph.nodes} >= {"ReduceMean", "Sqrt"}


def test_fused_operators_in_a_branch(tmp_path: Path) -> None:
    """If's subgraphs are taken apart too, and their outputs keep their names."""
    branch = "g{} () => (float[b, s, 32] z{}) {{ z{} = com.microsoft.{} (x) }}"
    then, other = branch.format(1, 1, 1, "Gelu"), branch.format(2, 2, 2, "FastGelu")
    whole = text_model(
        f"(float[b, s, 32] x, bool c) => (float[b, s, 32] y) "
        f"{{ y = If (c) <then_branch = {then}, else_branch = {other}> }}"
    )
    program = taken_apart(whole, tmp_path)
    x = normal(np.random.default_rng(0), 2, 3, D)
    for flag in (True, False):
        results = [
            ort.InferenceSession(source).run(None, {"x": x, "c": np.array(flag)})[0]
            for source in (whole.SerializeToString(), str(tmp_path / "plain.onnx"))
        ]
        assert np.abs(results[0] - results[1]).max() <= 1e-6
    inner = [node.op for graph in program.graph.nodes[0].attrs.values() for node in graph.nodes]
    assert {"Erf", "Tanh"} <= set(inner) and not {"Gelu", "FastGelu"} & set(inner)


def test_every_form_is_tested() -> None:
    untested = FORMS.keys() - fused_table.cases().keys()
    assert untested == {
        ("com.microsoft", "SimplifiedLayerNormalization"),  # another name for ai.onnx's
        ("com.microsoft", "FusedMatMulActivation"),  # FusedMatMul and FusedGemm together
    }


def test_document_is_made_from_the_tests() -> None:
    remake = "run PYTHONPATH=.:tests python -m fused_table > docs/fused.md"
    written = Path(__file__).parents[2] / "docs/fused.md"
    assert written.read_text(encoding="utf-8") == fused_table.document(), remake
