"""Fused norms, activations and products give the same numbers taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operators import Case, Inputs, error, normal
from scipy.special import erf

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
    options.setdefault("tolerance", 4e-7)
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
