"""com.microsoft GroupQueryAttention gives the same numbers taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operators import Case, Inputs, error, normal

N, SHARED, H = 4, 2, 32
PAST, ROOM = 3, 11
"""Tokens in the cache, and how many a cache of fixed size has room for."""
LONGEST = 16


def group(
    packed: bool = False,
    past: str = "empty",
    ragged: bool = False,
    added: str = "",
    rotary: int = 0,
    positions: bool = False,
    sink: bool = False,
    norms: bool = False,
    shared: int = SHARED,
    outputs: tuple[int, ...] = (0, 1, 2),
    **attrs: Any,
) -> Case:
    """`past`: "none" (no such input), "empty", "one" (one new token), "chunk" (several, batch 1) or "room"
    (the cache is longer than what is in it); `rotary` is how many channels turn; `ragged` sequences differ
    in length."""
    decoding = past in ("one", "chunk", "room")

    def make(rng: np.random.Generator, b: int, s: int) -> Inputs:
        b, s = (1 if past == "chunk" else b), (s if past in ("none", "empty", "chunk") else 1)
        kept = {"none": 0, "empty": 0, "room": ROOM}.get(past, PAST)
        total = s + (PAST if decoding else 0)
        last = np.full(b, total - 1, np.int32)
        if ragged:
            last[0] -= 2
        caches = [normal(rng, b, shared, kept, H) if past != "none" else None for _ in range(2)]
        width = (N + 2 * shared) * H if packed else N * H
        tables = [normal(rng, LONGEST, rotary // 2) if rotary else None for _ in range(2)]
        ids = rng.integers(0, LONGEST - s, (b, s)) if positions else None
        biases = {"": None, "one": normal(rng, 1, 1, s, total), "each": normal(rng, b, N, s, total)}
        return [
            normal(rng, b, s, width),
            None if packed else normal(rng, b, s, shared * H),
            None if packed else normal(rng, b, s, shared * H),
            *caches,
            last,
            np.array(total, np.int32),
            *tables,
            ids,
            biases[added],
            normal(rng, N) if sink else None,
            None,
            None,
            *[normal(rng, H) if norms else None for _ in range(2)],
        ]

    case = Case(
        "GroupQueryAttention",
        make,
        {"num_heads": N, "kv_num_heads": shared, "do_rotary": int(rotary > 0), **attrs},
        outputs,
        (7, 8) if rotary else (),
    )
    if ragged and not decoding:
        case.valid = real_tokens
    return case


def real_tokens(index: int, value: np.ndarray, inputs: Inputs) -> np.ndarray:
    """What padding tokens at a prompt's end give is not defined, in the keys and values neither."""
    last = inputs[5]
    assert last is not None
    rows = [
        value[b, : n + 1] if index == 0 else value[b, :, : n + 1].swapaxes(0, 1) for b, n in enumerate(last)
    ]
    return np.concatenate([row.reshape(-1) for row in rows])


def normed() -> Case:
    """The kernel for CPUs has no norms of queries and keys: an attention of normed ones says the same."""
    case = group(norms=True, qk_norm_epsilon=1e-3)

    def rms(x: np.ndarray | None, gain: np.ndarray | None) -> np.ndarray:
        assert x is not None and gain is not None
        heads = x.reshape(*x.shape[:2], -1, H).astype(np.float64)
        unit = heads / np.sqrt((heads**2).mean(-1, keepdims=True) + 1e-3)
        return (unit * gain).reshape(x.shape).astype(np.float32)

    def whole(i: Inputs) -> tuple[str, Inputs, dict[str, Any]]:
        attrs = {key: value for key, value in case.attrs.items() if key != "qk_norm_epsilon"}
        return "GroupQueryAttention", [rms(i[0], i[14]), rms(i[1], i[15]), *i[2:14]], attrs

    case.whole = whole
    return case


CASES = {
    "no past": group(past="none"),
    "empty past": group(),
    "packed": group(packed=True),
    "packed, rotary": group(packed=True, rotary=H),
    "one output": group(past="none", outputs=(0,)),
    "one head of keys": group(shared=1),
    "as many heads of keys": group(shared=N),
    "ragged prompt": group(ragged=True),
    "ragged prompt, rotary": group(ragged=True, rotary=H),
    "one new token": group(past="one"),
    "one new token, ragged": group(past="one", ragged=True),
    "one new token, rotary": group(past="one", rotary=H),
    "one new token, ragged, rotary": group(past="one", ragged=True, rotary=H),
    "one new token, packed, rotary": group(past="one", packed=True, rotary=H),
    "chunk": group(past="chunk", rotary=H),
    "chunk, window": group(past="chunk", local_window_size=3),
    "room": group(past="room"),
    "room, ragged, rotary": group(past="room", ragged=True, rotary=H),
    "room, bias": group(past="room", added="each"),
    "rotary": group(rotary=H),
    "rotary, no past": group(past="none", rotary=H),
    "rotary, interleaved": group(rotary=H, rotary_interleaved=1),
    "rotary, partial": group(rotary=16),
    "rotary, partial, interleaved, packed": group(rotary=16, rotary_interleaved=1, packed=True),
    "rotary, positions of a prompt": group(rotary=H, positions=True),
    "rotary, positions of a token": group(past="one", rotary=H, positions=True),
    "window": group(local_window_size=2),
    "window, no past": group(past="none", local_window_size=2),
    "window, one new token": group(past="one", local_window_size=2),
    "softcap": group(softcap=1.5),
    "softcap, bias": group(softcap=1.5, added="one"),
    "scale": group(scale=0.3),
    "bias": group(added="one"),
    "bias of each, one new token": group(past="one", added="each"),
    "not causal": group(causal=0),
    "not causal, no past": group(past="none", causal=0),
    "smooth softmax": group(smooth_softmax=1),
    "sink": group(sink=True),
    "sink, one new token, window": group(past="one", sink=True, local_window_size=2),
    "norms": normed(),
    "scores": group(outputs=(0, 1, 2, 3), qk_output=1),
    "scores, softcap, bias": group(outputs=(0, 1, 2, 3), qk_output=1, softcap=1.5, added="one"),
    "weights": group(outputs=(0, 1, 2, 3), qk_output=2),
    "weights, one new token": group(past="one", outputs=(0, 1, 2, 3), qk_output=2),
}


@pytest.mark.parametrize("name", CASES)
def test_group_query_attention(name: str, tmp_path: Path) -> None:
    assert error(CASES[name], tmp_path) <= CASES[name].tolerance
