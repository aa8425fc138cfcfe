"""com.microsoft Attention and MultiHeadAttention give the same numbers taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operators import Case, Inputs, error, normal

N, H = 4, 8
D = N * H
PAST = 3


def lengths(rng: np.random.Generator, batch: int, longest: int) -> np.ndarray:
    return np.append(rng.integers(1, longest, batch - 1), longest).astype(np.int32)


def kept(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """A mask whose rows each keep the first key."""
    mask = rng.integers(0, 2, shape).astype(np.int32)
    mask[..., 0] = 1
    return mask


def packed(mask: str = "", past: bool = False, bias: str = "", width: int = D, **attrs: Any) -> Case:
    """Attention over one packed projection."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        total = s + (PAST if past else 0)
        masks: dict[str, np.ndarray | None] = {
            "": None,
            "ends": lengths(rng, b, total),
            "ends and starts": np.concatenate([np.full(b, total), np.arange(b)]).astype(np.int32),
            "keys": kept(rng, b, total),
            "padded left": np.where(np.arange(total) > 0, 1, np.arange(b)[:, None]).astype(np.int32),
            "rows": kept(rng, b, s, total),
            "square": kept(rng, b, 1, 12, 12),
        }
        biases = {"": None, "one": normal(rng, 1, 1, s, total), "each": normal(rng, b, N, s, total)}
        return [
            normal(rng, b, s, D),
            normal(rng, D, 2 * D + width, scale=0.2),
            normal(rng, 2 * D + width),
            masks[mask],
            normal(rng, 2, b, N, PAST, H) if past else None,
            biases[bias],
        ]

    sizes = {"qkv_hidden_sizes": [D, D, width]} if width != D else {}
    return Case("Attention", make, {"num_heads": N, **sizes, **attrs}, (0, 1) if past else (0,), (1, 2))


def without_bias() -> Case:
    """ONNX Runtime's kernel needs a bias: zeros say the same."""
    case = packed()
    given = case.make

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        inputs = given(rng, b, s)
        inputs[2] = None
        return inputs

    case.make, case.weights = make, (1,)
    case.whole = lambda i: ("Attention", [i[0], i[1], np.zeros(3 * D, np.float32), *i[3:]], case.attrs)
    return case


def square_mask(past: bool) -> Case:
    """The kernel for CPUs does not take a mask `[batch, 1, longest, longest]`: its window says the same."""
    case = packed("square", past=past)

    def whole(i: Inputs) -> tuple[str, Inputs, dict[str, Any]]:
        assert i[0] is not None and i[3] is not None
        first, s = PAST if past else 0, i[0].shape[1]
        window = np.ascontiguousarray(i[3][:, 0, first : first + s, : first + s])
        return "Attention", [*i[:3], window, *i[4:]], case.attrs

    case.whole = whole
    return case


ATTENTION = {
    "plain": packed(),
    "no bias": without_bias(),
    "ends": packed("ends"),
    "ends and starts": packed("ends and starts"),
    "keys": packed("keys"),
    "rows": packed("rows"),
    "square": square_mask(False),
    "square, past": square_mask(True),
    "causal": packed(unidirectional=1),
    "causal, keys": packed("keys", unidirectional=1),
    "causal, padded left": packed("padded left", unidirectional=1),
    "causal, ends": packed("ends", unidirectional=1),
    "causal, rows": packed("rows", unidirectional=1),
    "past": packed(past=True),
    "past, causal": packed(past=True, unidirectional=1),
    "past, causal, keys": packed("keys", past=True, unidirectional=1),
    "past, causal, ends": packed("ends", past=True, unidirectional=1),
    "scale": packed(scale=0.3),
    "filter": packed("keys", mask_filter_value=-2.5),
    "lowest filter": packed("keys", unidirectional=1, mask_filter_value=float(np.finfo(np.float32).min)),
    "bias": packed(bias="one"),
    "bias of each": packed(bias="each"),
    "bias, causal, keys": packed("keys", bias="each", unidirectional=1),
    "narrow values": packed(width=16),
    "narrow values, keys": packed("keys", width=16),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention(name: str, tmp_path: Path) -> None:
    assert error(ATTENTION[name], tmp_path) <= ATTENTION[name].tolerance


KEYS = 6
"""Keys of a cross attention."""


def multi(
    mask: str = "",
    past: bool = False,
    bias: bool = False,
    added: str = "",
    cross: str = "",
    width: int = D,
    outputs: tuple[int, ...] = (0,),
    constant_bias: bool = True,
    **attrs: Any,
) -> Case:
    """MultiHeadAttention over three projections; `cross`: "" (as many keys as queries), "flat" or "ready"."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        keys = KEYS if cross else s
        total = keys + (PAST if past else 0)
        masks: dict[str, np.ndarray | None] = {
            "": None,
            "ends": lengths(rng, b, total),
            "keys": kept(rng, b, total),
            "rows": kept(rng, b, s, total),
        }
        biases = {"": None, "one": normal(rng, 1, N, s, total), "each": normal(rng, b, 1, s, total)}
        key, value = normal(rng, b, keys, D), normal(rng, b, keys, width)
        if cross == "ready":
            key, value = normal(rng, b, N, keys, H), normal(rng, b, N, keys, H)
        return [
            normal(rng, b, s, D),
            key,
            value,
            normal(rng, 2 * D + width) if bias else None,
            masks[mask],
            biases[added],
            normal(rng, b, N, PAST, H) if past else None,
            normal(rng, b, N, PAST, H) if past else None,
        ]

    weights = (3,) if bias and constant_bias else ()
    return Case("MultiHeadAttention", make, {"num_heads": N, **attrs}, outputs, weights)


def packed_multi(count: int, bias: bool = False) -> Case:
    """Packed inputs have a kernel on GPUs alone: three projections say the same."""

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        pack = normal(rng, b, s if count == 3 else KEYS, N, count, H)
        query = [] if count == 3 else [normal(rng, b, s, D)]
        rest: Inputs = [*query, pack, *[None] * (3 - 1 - len(query)), normal(rng, 3 * D) if bias else None]
        return rest

    def whole(i: Inputs) -> tuple[str, Inputs, dict[str, Any]]:
        pack = i[0] if count == 3 else i[1]
        assert pack is not None
        pieces = [np.ascontiguousarray(pack[:, :, :, j]).reshape(*pack.shape[:2], D) for j in range(count)]
        return "MultiHeadAttention", [*([] if count == 3 else [i[0]]), *pieces, i[3]], {"num_heads": N}

    return Case("MultiHeadAttention", make, {"num_heads": N}, (0,), (3,) if bias else (), whole=whole)


MULTI = {
    "plain": multi(),
    "bias": multi(bias=True),
    "bias as an input": multi(bias=True, constant_bias=False),
    "ends": multi("ends"),
    "keys": multi("keys"),
    "rows": multi("rows"),
    "causal": multi(unidirectional=1),
    "causal, keys": multi("keys", unidirectional=1),
    "added": multi(added="one"),
    "added, keys": multi("keys", added="each"),
    "presents": multi(outputs=(0, 1, 2)),
    "past": multi(past=True, outputs=(0, 1, 2)),
    "past, causal": multi(past=True, outputs=(0, 1, 2), unidirectional=1),
    "past, keys, bias": multi("keys", past=True, outputs=(0, 1, 2), bias=True, unidirectional=1),
    "past, added": multi(past=True, outputs=(0, 1, 2), added="one"),
    "cross": multi(cross="flat"),
    "cross, bias, keys": multi("keys", cross="flat", bias=True),
    "cross, causal": multi(cross="flat", unidirectional=1),
    "cross, ready": multi(cross="ready"),
    "cross, ready, bias": multi(cross="ready", bias=True),
    "cross, ready, ends": multi("ends", cross="ready"),
    "cross, ready, keys": multi("keys", cross="ready"),
    "scores": multi(outputs=(0, 3), mask="ends"),
    "scale, filter": multi("keys", scale=0.2, mask_filter_value=-3.0),
    "narrow values": multi(width=16),
    "narrow values, bias": multi(width=16, bias=True),
    "packed": packed_multi(3),
    "packed, bias": packed_multi(3, bias=True),
    "packed keys and values": packed_multi(2),
    "packed keys and values, bias": packed_multi(2, bias=True),
}


@pytest.mark.parametrize("name", MULTI)
def test_multi_head_attention(name: str, tmp_path: Path) -> None:
    assert error(MULTI[name], tmp_path) <= MULTI[name].tolerance
