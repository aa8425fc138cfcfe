"""The architecture guess on one export of each of the architectures in the matrix."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from exports import matrix

from spikec.identify import identify
from spikec.overview import recognise

BERT, GPT2, LLAMA = "BERT-like encoder", "GPT-2-like decoder", "LLaMA-like decoder"
RELATIVE = "vision transformer of relative positions"
EXPERTS, VIT, TORCH = "mixture-of-experts decoder", "vision transformer", "torch.nn.TransformerEncoder"
FALCON, T5_DECODER = "Falcon-like decoder", "T5-like decoder, of an encoder-decoder"
FAMILY = {
    "albert": "ALBERT-like encoder", "bart": "BART-like encoder-decoder",
    "bart_decoder_past": "BART-like decoder, of an encoder-decoder", "bert": BERT, "bert_classifier": BERT,
    "bert_mlm": BERT, "bloom": "BLOOM-like decoder", "clip": "image and text towers",
    "clip_text": "CLIP text tower", "clip_vision": "CLIP image tower", "cohere": "Cohere-like decoder",
    "deberta": "DeBERTa-like encoder", "deberta_v3": "DeBERTa-like encoder", "deit": VIT, "dinov2": VIT,
    "distilbert": BERT, "electra": "ELECTRA-like encoder", "falcon": FALCON, "falcon_alibi": FALCON,
    "falcon_new": FALCON, "gemma": "Gemma-like decoder", "gemma2": "Gemma-2-like decoder",
    "gemma3": "Gemma-3-like decoder", "gpt2": GPT2, "gpt_bigcode": GPT2, "gpt_neo": GPT2,
    "gpt_neox": "GPT-NeoX-like decoder", "gpt_oss": EXPERTS, "gptj": "GPT-J-like decoder", "granite": LLAMA,
    "llama": LLAMA, "llava": "vision-language model", "marian": "Marian-like encoder-decoder",
    "mha": "transformer", "mha_block": TORCH, "mistral": LLAMA, "mixtral": EXPERTS, "mixtral_dense": EXPERTS,
    "mixtral_routed": EXPERTS, "mixtral_stacked": EXPERTS, "modernbert": "ModernBERT-like encoder",
    "mpnet": "MPNet-like encoder", "mpt": "MPT-like decoder", "nemotron": "Nemotron-like decoder",
    "olmo2": "OLMo-2-like decoder", "opt": "OPT-like decoder", "opt_350m": "OPT-like decoder",
    "pegasus": "Pegasus-like encoder-decoder", "phi": "Phi-like decoder", "phi3": "Phi-3-like decoder",
    "qwen2": "Qwen2-like decoder", "qwen2_moe": EXPERTS, "qwen3": "Qwen3-like decoder", "qwen3_moe": EXPERTS,
    "roberta": BERT, "siglip": "image and text towers", "siglip_text": "SigLIP text tower",
    "siglip_vision": "SigLIP image tower", "smollm": LLAMA, "stablelm": "StableLM-like decoder",
    "starcoder2": "StarCoder2-like decoder", "swin": RELATIVE,
    "t5": "T5-like encoder-decoder", "t5_decoder": T5_DECODER, "t5_decoder_past": T5_DECODER,
    "t5_encoder": "T5-like encoder", "t5_gated": "T5-like encoder-decoder",
    "transformer_decoder": "torch.nn.TransformerDecoder", "transformer_encoder": TORCH,
    "transformer_encoder_prenorm": TORCH, "vit": VIT, "vit_classifier": VIT,
    "whisper": "Whisper-like encoder-decoder", "whisper_encoder": "Whisper-like encoder",
    "whisper_decoder": "mBART-like decoder, of an encoder-decoder", "arcee": "Arcee-like decoder",
    "beit": RELATIVE, "biogpt": "GPT-like decoder with exact GELU",
    "blenderbot": "mBART-like encoder-decoder",
    "codegen": "GPT-J-like decoder", "convbert": BERT, "ctrl": "CTRL-like decoder",
    "deepseek_v3": "DeepSeek-like decoder", "esm": "ESM-like encoder",
    "m2m_100": "Pegasus-like encoder-decoder", "mbart": "mBART-like encoder-decoder",
    "mobilebert": "transformer", "olmo": "OLMo-like decoder", "openai_gpt": "GPT-1-like decoder",
    "persimmon": "Persimmon-like decoder", "rembert": "ELECTRA-like encoder",
    "roformer": "RoFormer-like encoder", "smollm3": LLAMA, "squeezebert": "transformer",
    "xglm": "GPT-like decoder with exact GELU", "xlnet": "DeBERTa-like encoder",
}  # fmt: skip
WORDS = {
    "gemma2": {"softcap", "sliding", "gqa", "embedding-scale", "branch-norm"},
    "llama": {"gqa", "causal", "padding", "rope", "gated"},
    "gptj": {"interleaved", "partial-rope", "parallel"},
    "t5": {"relative", "cross", "encoder"},
    "electra": {"embedding-projection", "token-types"},
    "albert": {"shared-layers"},
    "falcon": {"mqa", "parallel", "fused-qkv"},
}
"""Some of the evidence, for models whose configuration is known to have it."""


def first(architecture: str) -> str:
    return next(name for name in matrix.NAMES if name.partition("-")[0] == architecture)


@pytest.mark.parametrize("architecture", FAMILY)
def test_family(architecture: str, tmp_path: Path) -> None:
    onnx.save(matrix.load(first(architecture)), tmp_path / "model.onnx")
    guess = identify(recognise(tmp_path / "model.onnx"))
    assert guess["family"] == FAMILY[architecture], guess["evidence"]
    assert WORDS.get(architecture, set()) <= guess["evidence"].keys()
