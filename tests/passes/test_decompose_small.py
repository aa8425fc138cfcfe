"""Fused norms, activations and products give the same numbers taken apart; what cannot be is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from operators import Case, Inputs, error, normal, taken_apart
from scipy.special import erf

from spikec.passes.normalise.fused import FORMS
from spikec.passes.normalise.fused.whole import WHOLE

D, WORDS = 32, 20


def norm(
    op: str,
    shift: bool = False,
    bias: bool = False,
    skip: str = "",
    outputs: tuple[int, ...] = (0,),
    **attrs: Any,
) -> Case:
    """A residual sum and its norm; `skip` may lack the batch ("rows") or have batch 1 ("one")."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        other = {"": (b, s, D), "rows": (s, D), "one": (1, s, D)}[skip]
        rest = [normal(rng, D) if shift else None] if op == "SkipLayerNormalization" else []
        made = [normal(rng, b, s, D), normal(rng, *other), normal(rng, D), *rest]
        return [*made, normal(rng, D) if bias else None]

    weights = (2, 3, 4) if op == "SkipLayerNormalization" else (2, 3)
    return Case(op, make, attrs, outputs, weights)


def simplified(outputs: tuple[int, ...] = (0,), **attrs: Any) -> Case:
    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        return [normal(rng, b, s, D), normal(rng, D)]

    return Case("SimplifiedLayerNormalization", make, attrs, outputs, (1,), "")


def embedding(
    segments: bool = True,
    mask: bool = True,
    positions: str = "",
    outputs: tuple[int, ...] = (0, 1),
    **attrs: Any,
) -> Case:
    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        ids = rng.integers(0, WORDS, (b, s)).astype(np.int32)
        places: dict[str, np.ndarray | None] = {
            "": None,
            "each": rng.integers(0, WORDS, (b, s)).astype(np.int32),
            "one": rng.integers(0, WORDS, (1, s)).astype(np.int32),
        }
        return [
            ids,
            (ids % 2).astype(np.int32) if segments else None,
            normal(rng, WORDS, D),
            normal(rng, WORDS, D),
            normal(rng, 2, D) if segments else None,
            normal(rng, D),
            normal(rng, D),
            rng.integers(0, 2, (b, s)).astype(np.int32) if mask else None,
            places[positions],
        ]

    weights = (2, 3, 4, 5, 6)
    return Case("EmbedLayerNormalization", make, attrs, outputs, weights, integer_outputs=(1,))


SKIP, RMS = "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"
NORMS = {
    "skip": norm(SKIP, shift=True, epsilon=1e-5),
    "skip, sum": norm(SKIP, shift=True, bias=True, outputs=(0, 3)),
    "skip, no shift": norm(SKIP, bias=True),
    "skip, mean and deviation": norm(SKIP, shift=True, outputs=(0, 1, 2, 3)),
    "skip of rows": norm(SKIP, shift=True, skip="rows", outputs=(0, 3)),
    "skip of one": norm(SKIP, shift=True, skip="one"),
    "skip rms": norm(RMS, epsilon=1e-6),
    "skip rms, sum": norm(RMS, outputs=(0, 3)),
    "skip rms, bias, sum": norm(RMS, bias=True, outputs=(0, 3)),
    "skip rms, deviation": norm(RMS, outputs=(0, 2)),
    "rms": simplified(epsilon=1e-6),
    "rms, axis": simplified(axis=2, stash_type=1),
    "rms, deviation": simplified(outputs=(0, 1)),
    "embedding": embedding(epsilon=1e-12),
    "embedding, no segments": embedding(segments=False),
    "embedding, no mask": embedding(mask=False),
    "embedding, sum": embedding(outputs=(0, 1, 2)),
    "embedding, positions": embedding(positions="each"),
    "embedding, positions of one": embedding(positions="one", outputs=(0, 1, 2)),
}


@pytest.mark.parametrize("name", NORMS)
def test_norm(name: str, tmp_path: Path) -> None:
    assert error(NORMS[name], tmp_path) <= NORMS[name].tolerance


def activation(op: str, *shapes: tuple[int, ...], **options: Any) -> Case:
    """`op` of `[batch, length, D]` and weights of these shapes."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        return [normal(rng, b, s, D, scale=3), *(normal(rng, *shape) for shape in shapes)]

    options.setdefault("attrs", {})
    return Case(op, make, weights=tuple(range(1, 1 + len(shapes))), **options)


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + erf(x / 2**0.5))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def arrays(inputs: Inputs) -> list[np.ndarray]:
    return [np.asarray(i, np.float64) for i in inputs if i is not None]


def split_gelu(inputs: Inputs) -> list[np.ndarray]:
    x, bias = arrays(inputs)
    left, right = np.split(x + bias, 2, -1)
    return [left * gelu(right)]


def gemm_gelu(inputs: Inputs) -> list[np.ndarray]:
    x, weight, *bias = arrays(inputs)
    return [gelu_tanh(x @ weight + sum(bias))]


def softmax(inputs: Inputs) -> list[np.ndarray]:
    scores = sum(arrays(inputs))
    top = np.exp(scores - np.max(scores, -1, keepdims=True))
    return [top / top.sum(-1, keepdims=True)]


ACTIVATIONS = {
    "gelu": activation("Gelu"),
    "bias gelu": activation("BiasGelu", (D,)),
    "fast gelu": activation("FastGelu"),
    "fast gelu, bias": activation("FastGelu", (D,)),
    "quick gelu": activation("QuickGelu"),
    "quick gelu, alpha": activation("QuickGelu", attrs={"alpha": 0.7}),
    "quick gelu, silu": activation("QuickGelu", attrs={"alpha": 1.0}),
    "bias split gelu": activation("BiasSplitGelu", (D,), expected=split_gelu),
    "gemm fast gelu": activation("GemmFastGelu", (D, 6), expected=gemm_gelu),
    "gemm fast gelu, bias": activation("GemmFastGelu", (D, 6), (6,), expected=gemm_gelu),
    "bias add": activation("BiasAdd", (D,), (D,), expected=lambda i: [sum(arrays(i))]),
    "bias softmax": activation(
        "BiasSoftmax", (1, 1, D), attrs={"axis": 2, "is_inner_broadcast": 0}, expected=softmax
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str, tmp_path: Path) -> None:
    assert error(ACTIVATIONS[name], tmp_path) <= ACTIVATIONS[name].tolerance


def product(op: str, left: str, right: str, bias: str = "", **attrs: Any) -> Case:
    """Shapes as letters: b and s free, k and n the sizes of the weights, h a few heads."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        sizes = {"b": b, "s": s, "k": D, "n": 6, "h": 2}
        return [normal(rng, *(sizes[letter] for letter in term)) for term in (left, right, bias) if term]

    constant = not set(right) & {"b", "s"}
    return Case(op, make, attrs, weights=((1, 2) if bias else (1,)) if constant else ())


PRODUCTS = {
    "matmul": product("FusedMatMul", "bsk", "kn"),
    "alpha": product("FusedMatMul", "bsk", "kn", alpha=0.3),
    "weights stored transposed": product("FusedMatMul", "bsk", "nk", transB=1, alpha=2.0),
    "left transposed": product("FusedMatMul", "bks", "kn", transA=1),
    "scores": product("FusedMatMul", "bhsk", "bhsk", transB=1, alpha=0.25),
    "both transposed": product("FusedMatMul", "bks", "nk", transA=1, transB=1),
    "left batch": product("FusedMatMul", "sbk", "bkn", transBatchA=1),
    "right batch": product("FusedMatMul", "bsk", "kbn", transBatchB=1),
    "left batch of four": product("FusedMatMul", "sbhk", "bhkn", transBatchA=1),
    "left batch, transposed": product("FusedMatMul", "kbs", "bkn", transBatchA=1, transA=1),
    "old name": product("TransposeMatMul", "bks", "nk", transA=1, transB=1, alpha=0.5),
    "gemm": product("FusedGemm", "sk", "kn", "n", activation="Relu"),
    "gemm, transposed": product(
        "FusedGemm", "sk", "nk", "n", activation="Tanh", transB=1, alpha=0.2, beta=0.3
    ),
    "gemm, no bias": product("FusedGemm", "ks", "kn", activation="Sigmoid", transA=1),
    "gemm, leaky": product("FusedGemm", "sk", "kn", "n", activation="LeakyRelu", activation_alpha=0.1),
    "gemm, elu": product("FusedGemm", "sk", "kn", "n", activation="Elu", activation_alpha=0.7),
    "gemm, hard sigmoid": product(
        "FusedGemm", "sk", "kn", "n", activation="HardSigmoid", activation_alpha=0.1, activation_beta=0.4
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_product(name: str, tmp_path: Path) -> None:
    assert error(PRODUCTS[name], tmp_path) <= PRODUCTS[name].tolerance


def convolution(other: bool, **attrs: Any) -> Case:
    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        made = [normal(rng, b, 3, 8, 8), normal(rng, 4, 3, 2, 2), normal(rng, 4)]
        return [*made, normal(rng, b, 4, 4, 4)] if other else made

    return Case("FusedConv", make, {"strides": [2, 2], **attrs}, weights=(1, 2))


CONVOLUTIONS = {
    "relu": convolution(False, activation="Relu"),
    "sum": convolution(True, activation="Relu"),
    "clip": convolution(False, activation="Clip", activation_params=[-0.5, 0.5]),
    "leaky": convolution(False, activation="LeakyRelu", activation_params=[0.1]),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name: str, tmp_path: Path) -> None:
    assert error(CONVOLUTIONS[name], tmp_path) <= CONVOLUTIONS[name].tolerance


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
    tested = {
        (case.domain, case.op)
        for cases in (NORMS, ACTIVATIONS, PRODUCTS, CONVOLUTIONS)
        for case in cases.values()
    }
    elsewhere = {"Attention", "MultiHeadAttention", "GroupQueryAttention"}
    elsewhere |= {"RotaryEmbedding", "MRotaryEmbedding", "GemmaRotaryEmbedding"}
    missing = {key for key in FORMS if key not in tested and key[1] not in elsewhere}
    assert missing == {
        ("com.microsoft", "SimplifiedLayerNormalization"),
        ("com.microsoft", "FusedMatMulActivation"),
    }
