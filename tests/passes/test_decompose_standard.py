"""ai.onnx Attention, and both RotaryEmbeddings, give the same numbers taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator
from operators import Case, Inputs, error, normal, run, runs, taken_apart
from operators import model as build

N, H = 4, 8
D = N * H
KEYS, PAST = 6, 3


def attention(
    mask: str = "",
    flat: bool = False,
    shared: int = N,
    past: bool = False,
    cross: bool = False,
    valid: bool = False,
    width: int = H,
    outputs: tuple[int, ...] = (0,),
    opset: int = 23,
    **attrs: Any,
) -> Case:
    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        keys = KEYS if cross else s
        total = keys + (PAST if past else 0)
        allowed = rng.integers(0, 2, (b, 1, s, total)).astype(bool)
        allowed[..., 0] = True
        dead = allowed.copy()
        dead[0, :, 1] = False
        masks: dict[str, np.ndarray | None] = {
            "": None,
            "bool": allowed,
            "bool of rows": allowed[0, 0],
            "dead rows": dead,
            "float": normal(rng, b, 1, s, total),
            "float of heads": normal(rng, 1, N, s, total),
            "infinite": np.where(dead, 0, -np.inf).astype(np.float32),
            "lowest": np.where(dead, 0, np.finfo(np.float32).min).astype(np.float32),
        }
        made = [
            normal(rng, b, N, s, H),
            normal(rng, b, shared, keys, H),
            normal(rng, b, shared, keys, width),
        ]
        if flat:
            made = [x.transpose(0, 2, 1, 3).reshape(b, x.shape[2], -1) for x in made]
        return [
            *made,
            masks[mask],
            normal(rng, b, shared, PAST, H) if past else None,
            normal(rng, b, shared, PAST, width) if past else None,
            np.append(rng.integers(1, keys, b - 1), keys) if valid else None,
        ][: 7 if opset > 23 else 6]

    heads = {"q_num_heads": N, "kv_num_heads": shared} if flat else {}
    return Case("Attention", make, {**heads, **attrs}, outputs, (), "", opset)


ALL = (0, 1, 2, 3)
CASES = {
    "plain": attention(),
    "flat": attention(flat=True),
    "flat, grouped": attention(flat=True, shared=2),
    "grouped": attention(shared=2),
    "one head of keys": attention(shared=1),
    "cross": attention(cross=True),
    "narrow values": attention(width=5),
    "narrow values, flat": attention(width=5, flat=True),
    "bool": attention("bool"),
    "bool of rows": attention("bool of rows"),
    "dead rows": attention("dead rows"),
    "float": attention("float"),
    "float of heads": attention("float of heads"),
    "infinite": attention("infinite"),
    "lowest": attention("lowest"),
    "causal": attention(is_causal=1),
    "causal, cross": attention(is_causal=1, cross=True),
    "causal, bool": attention("bool", is_causal=1),
    "causal, float": attention("float", is_causal=1),
    "causal, past": attention(is_causal=1, past=True, outputs=(0, 1, 2)),
    "past": attention(past=True, outputs=(0, 1, 2)),
    "past, bool, flat, grouped": attention("bool", past=True, flat=True, shared=2, outputs=(0, 1, 2)),
    "scale": attention(scale=0.3),
    "softcap": attention(softcap=1.5),
    "softcap, float": attention("float", softcap=1.5),
    "scores": attention("float", outputs=(0, 3), softcap=1.5, cross=True),
    "scores after the cap": attention("float", outputs=(0, 3), softcap=1.5, qk_matmul_output_mode=1),
    "scores after the mask": attention("dead rows", outputs=(0, 3), qk_matmul_output_mode=2),
    "weights": attention("dead rows", outputs=(0, 3), qk_matmul_output_mode=3),
    "all outputs": attention("float", past=True, outputs=ALL, qk_matmul_output_mode=3, is_causal=1),
    "softmax in double": attention(softmax_precision=11),
    "24": attention("bool", opset=24, is_causal=1),
    "24, valid keys": attention(opset=24, valid=True, cross=True),
    "24, valid keys, causal": attention(opset=24, valid=True, cross=True, is_causal=1),
    "24, valid keys, float": attention("float", opset=24, valid=True, cross=True),
    "24, valid keys, causal, flat": attention(opset=24, valid=True, cross=True, is_causal=1, flat=True),
}


def by_definition(case: Case) -> Case:
    """ONNX's own reference instead of a kernel that does not know this opset."""

    def expected(inputs: Inputs) -> list[np.ndarray]:
        whole = build(case, [inputs], [4] * len(case.outputs))
        feed = {f"in{index}": value for index, value in enumerate(inputs) if value is not None}
        return ReferenceEvaluator(whole).run(None, feed)

    case.expected = expected
    return case


CASES |= {
    "25, left window": by_definition(attention(opset=25, left_window_size=2)),
    "25, both windows": by_definition(attention(opset=25, left_window_size=2, right_window_size=1)),
    "25, left window, causal": by_definition(attention("bool", opset=25, is_causal=1, left_window_size=1)),
    "25, left window, past": by_definition(
        attention(opset=25, past=True, left_window_size=2, outputs=(0, 1, 2))
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_attention(name: str, tmp_path: Path) -> None:
    assert error(CASES[name], tmp_path) <= CASES[name].tolerance


LONGEST = 24


def rotary(
    form: str,
    flat: bool = False,
    turned: int = H,
    positions: str = "each",
    weights: bool = True,
    **attrs: Any,
) -> Case:
    """`form`: "com.microsoft" or "" (ai.onnx), which alone takes "first" or "none" as `positions`."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        x = normal(rng, b, s, D) if flat else normal(rng, b, N, s, H)
        shape = (b, s, turned // 2) if positions == "none" else (LONGEST, turned // 2)
        angles = [normal(rng, *shape) for _ in range(2)]
        ids = {"each": rng.integers(0, LONGEST, (b, s)), "first": np.array([4]), "none": None}[positions]
        return [x, ids, *angles] if form else [x, *angles, ids]

    if turned != H:
        attrs["rotary_embedding_dim"] = turned
    if (form and turned != H) or (flat and not form):
        attrs["num_heads"] = N
    constant = weights and positions != "none"
    return Case(
        "RotaryEmbedding", make, attrs, (0,), ((2, 3) if form else (1, 2)) if constant else (), form, 23
    )


MS = "com.microsoft"
ROTARY = {
    "com.microsoft": rotary(MS),
    "com.microsoft, tables as inputs": rotary(MS, weights=False),
    "com.microsoft, flat": rotary(MS, flat=True),
    "com.microsoft, first": rotary(MS, positions="first"),
    "com.microsoft, first, flat": rotary(MS, positions="first", flat=True),
    "com.microsoft, interleaved": rotary(MS, interleaved=1),
    "com.microsoft, interleaved, flat": rotary(MS, interleaved=1, flat=True),
    "com.microsoft, partial": rotary(MS, turned=4),
    "com.microsoft, partial, flat": rotary(MS, turned=4, flat=True),
    "com.microsoft, partial, interleaved": rotary(MS, turned=4, interleaved=1),
    "com.microsoft, scale": rotary(MS, scale=2.0),
    "23": rotary(""),
    "23, flat": rotary("", flat=True),
    "23, no positions": rotary("", positions="none"),
    "23, no positions, flat": rotary("", positions="none", flat=True),
    "23, interleaved": rotary("", interleaved=1),
    "23, partial": rotary("", turned=4),
    "23, partial, flat, interleaved": rotary("", turned=4, flat=True, interleaved=1),
    "23, partial, no positions": rotary("", turned=4, positions="none"),
}


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_embedding(name: str, tmp_path: Path) -> None:
    assert error(ROTARY[name], tmp_path) <= ROTARY[name].tolerance


def three_streams(flat: bool = False, turned: int = H, **attrs: Any) -> Case:
    """com.microsoft MRotaryEmbedding: positions in time, height and width."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        x = normal(rng, b, s, D) if flat else normal(rng, b, N, s, H)
        return [
            x,
            rng.integers(0, LONGEST, (3, b, s)),
            *(normal(rng, LONGEST, turned // 2) for _ in range(2)),
        ]

    sections = {"mrope_section": [2, 1, 1] if turned == H else [1, 1, 0]}
    named = {"rotary_embedding_dim": turned} if turned != H else {}
    named |= {"num_heads": N} if turned != H or flat else {}
    return Case("MRotaryEmbedding", make, {**sections, **named, **attrs}, (0,), (2, 3))


STREAMS = {
    "sections": three_streams(),
    "sections, flat": three_streams(flat=True),
    "sections, partial": three_streams(turned=4),
    "interleaved sections": three_streams(mrope_layout=1),
    "interleaved sections and channels": three_streams(mrope_layout=1, interleaved=1),
}


@pytest.mark.parametrize("name", STREAMS)
def test_rotary_embedding_of_three_streams(name: str, tmp_path: Path) -> None:
    assert error(STREAMS[name], tmp_path) <= STREAMS[name].tolerance


def gemma() -> Case:
    """No kernel for CPUs: the definition is what its documentation says."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        return [normal(rng, b, s, H), *(normal(rng, b, N, s, H) for _ in range(4))]

    def expected(inputs: Inputs) -> list[np.ndarray]:
        angle, q, q_turned, k, k_turned = (np.asarray(i, np.float64) for i in inputs)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        return [q * cos + q_turned * sin, k * cos + k_turned * sin]

    return Case("GemmaRotaryEmbedding", make, outputs=(0, 1), expected=expected)


GEMMA = {"plain": gemma()}


def test_gemma_rotary_embedding(tmp_path: Path) -> None:
    assert error(GEMMA["plain"], tmp_path) <= GEMMA["plain"].tolerance


def test_angles_of_one_sequence_serve_a_batch(tmp_path: Path) -> None:
    """Exporters write angles `[1, length, half]`: the kernel refuses them at batch 2, the parts broadcast."""
    case = rotary("", positions="none")
    inputs = runs(case)[0]
    one = [inputs[0], *(angle[:1] for angle in inputs[1:3] if angle is not None), None]
    whole = build(case, [one], [4])
    with pytest.raises(Exception, match="cos_cache"):
        run(whole, one)
    taken_apart(whole, tmp_path)
    spread = [one[0], *(np.repeat(angle, 2, 0) for angle in one[1:3] if angle is not None), None]
    wanted = run(build(case, [spread]), spread)[0]
    assert np.abs(run(tmp_path / "plain.onnx", one)[0] - wanted).max() <= 1e-6
