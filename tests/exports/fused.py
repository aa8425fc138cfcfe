"""Whole models as ONNX Runtime's optimizer, its model builder and new exporters fuse them, made by hand; with
what each computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exports.counts import (
    ATTENTION,
    ERF,
    FUSED,
    GATED,
    LAYERNORM,
    LINEAR,
    OTHER,
    PLAIN,
    QUICK,
    RELU,
    RMSNORM,
    ROPE,
    SEPARATE,
    SILU,
    TANH,
    Counts,
)
from exports.fused_decoders import llama, modern, parallel
from exports.fused_net import HEAD, HEADS, LAYERS, Net, Sizes
from exports.fused_optimised import alibi, bert, clip, cross_cached, decoder, gpt2
from exports.fused_pieces import KEPT

FIRST, SECOND = {"batch": 2, "length": 5}, {"batch": 3, "length": 7}


@dataclass
class Fused:
    make: Callable[[], Net]
    counts: Counts
    sizes: tuple[Sizes, Sizes] = (FIRST, SECOND)


SOFTMAX = Counts(softmax=1)
ENCODER = FUSED + PLAIN + 2 * LAYERNORM
GQA = SEPARATE + GATED + 2 * RMSNORM
CACHED = tuple({**s, "past": KEPT, "total": s["length"] + KEPT} for s in (FIRST, SECOND))
TOKEN = tuple({"batch": b, "length": 1, "past": KEPT, "total": KEPT + 1} for b in (2, 3))
CROSS = tuple({**s, "source": 6} for s in (FIRST, SECOND))
CROSS_CACHED = tuple({**s, "source": 6} for s in CACHED)
ANY = TANH + OTHER  # activation and head

MODELS: dict[str, Fused] = {
    "bert": Fused(
        lambda: bert("lengths", "BiasGelu", True), LAYERS * (ENCODER + ERF) + LAYERNORM + OTHER
    ),
    "bert_keys": Fused(
        lambda: bert("keys", "FastGelu", False), LAYERS * (ENCODER + TANH) + LAYERNORM
    ),
    "gpt2": Fused(lambda: gpt2(False, False), LAYERS * (ENCODER + TANH) + LAYERNORM + OTHER),
    "gpt2_tied": Fused(lambda: gpt2(False, True), LAYERS * (ENCODER + TANH) + LAYERNORM + OTHER),
    "gpt2_past": Fused(
        lambda: gpt2(True, False), LAYERS * (ENCODER + TANH) + LAYERNORM + OTHER, CACHED
    ),
    "llama": Fused(llama, LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER, TOKEN),
    "llama_prompt": Fused(
        lambda: llama(cached=False), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER
    ),
    "llama_packed": Fused(
        lambda: llama(packed=True),
        LAYERS * (FUSED + GATED + 2 * RMSNORM + ROPE + SILU) + RMSNORM + OTHER,
        TOKEN,
    ),
    "llama_outside": Fused(
        lambda: llama(rotary="outside"), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER, TOKEN
    ),
    "llama_quick": Fused(
        lambda: llama(cached=False, activation="QuickGelu"),
        LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER,
    ),
    "qwen3": Fused(
        lambda: llama(norms=True), LAYERS * (GQA + 2 * RMSNORM + ROPE + SILU) + RMSNORM + OTHER, TOKEN
    ),
    "gemma2": Fused(
        lambda: llama(activation="FastGelu", softcap=2.0, local_window_size=4),
        LAYERS * (GQA + ROPE + TANH) + RMSNORM + OTHER,
        TOKEN,
    ),
    "gpt_oss": Fused(
        lambda: llama(sink=True, cached=False, local_window_size=3),
        LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER,
    ),
    "mixtral": Fused(
        lambda: llama(experts=4, cached=False),
        LAYERS * (SEPARATE + 9 * LINEAR + SOFTMAX + 2 * RMSNORM + ROPE + SILU) + RMSNORM + OTHER,
    ),
    "phi": Fused(
        lambda: parallel("each", "FastGelu", HEAD // 2),
        LAYERS * (SEPARATE + PLAIN + LAYERNORM + ROPE + TANH) + LAYERNORM + OTHER,
    ),
    "falcon": Fused(
        lambda: parallel("one", "Gelu", HEAD),
        LAYERS * (FUSED + PLAIN + LAYERNORM + ROPE + ERF) + LAYERNORM + OTHER,
    ),
    "whisper_decoder": Fused(
        lambda: decoder("whisper"),
        LAYERS * (2 * SEPARATE + PLAIN + 3 * LAYERNORM + ERF) + LAYERNORM + OTHER,
        CROSS,
    ),
    "whisper_decoder_past": Fused(
        cross_cached,
        LAYERS * (SEPARATE + ATTENTION + 2 * PLAIN + 3 * LAYERNORM + ERF) + LAYERNORM + OTHER,
        CROSS_CACHED,
    ),
    "t5_decoder": Fused(
        lambda: decoder("t5"), LAYERS * (2 * SEPARATE + PLAIN + 3 * RMSNORM + RELU) + RMSNORM + OTHER, CROSS
    ),
    "clip_text": Fused(
        lambda: clip(False), LAYERS * (SEPARATE + PLAIN + 2 * LAYERNORM + QUICK) + LAYERNORM
    ),
    "clip_vision": Fused(
        lambda: clip(True), LAYERS * (SEPARATE + PLAIN + 2 * LAYERNORM + QUICK) + LAYERNORM + OTHER
    ),
    "mpt": Fused(alibi, LAYERS * (FUSED + PLAIN + 2 * LAYERNORM + ERF) + LAYERNORM + OTHER),
    "llama_23": Fused(
        lambda: modern(23, True, 2, ""), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER
    ),
    "llama_23_heads": Fused(
        lambda: modern(23, False, HEADS, "keys"), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER
    ),
    "llama_23_past": Fused(
        lambda: modern(23, True, 2, "keys", True), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER, CACHED
    ),
    "llama_24": Fused(
        lambda: modern(24, False, 1, "keys", softcap=3.0), LAYERS * (GQA + ROPE + SILU) + RMSNORM + OTHER
    ),
}  # fmt: skip
