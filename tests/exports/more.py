"""Further architectures of transformers: each has something in attention, norms or MLP that no other has."""

from __future__ import annotations

import torch
import transformers as hf
from exports.case import BATCH, Build, Case, case, tokens
from exports.decoders import COMMON, GROUPED, NAMED, SIZES, decoder
from exports.encoders import encoder
from exports.seq2seq import BART, whole
from exports.vision import IMAGE, spread, tower

LATENT = {
    "q_lora_rank": 20,
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 12,
    "first_k_dense_replace": 2,
}
"""DeepSeek's attention: queries, keys and values through narrow waists, a part of each head rotated."""
BOTTLENECK = {
    "embedding_size": 24,
    "intra_bottleneck_size": 24,
    "true_hidden_size": 24,
    "num_feedforward_networks": 2,
    "intermediate_size": 56,
}
STAGES = {
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "hidden_sizes": [24, 48],
    "num_attention_heads": [2, 4],
    "sr_ratios": [2, 1],
    "patch_sizes": [3, 3],
    "strides": [2, 2],
    "mlp_ratios": [2, 2],
    "initializer_range": 0.15,
}


def segformer(attention: str) -> Case:
    torch.manual_seed(0)
    model = hf.SegformerModel(hf.SegformerConfig(**STAGES, attn_implementation=attention)).eval()
    pixels = torch.randn(BATCH, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(4))
    return case(spread(model), {"pixel_values": pixels}, ["last_hidden_state"])


def xlnet(attention: str) -> Case:
    torch.manual_seed(0)
    sizes = {"d_model": 48, "n_layer": 2, "n_head": 4, "d_inner": 80, "use_mems_eval": False}
    model = hf.XLNetLMHeadModel(hf.XLNetConfig(**COMMON, **sizes)).eval()
    return case(spread(model), tokens(), ["logits"])


ARCHITECTURES: dict[str, Build] = {
    "openai_gpt": decoder("OpenAIGPT", model="OpenAIGPTLMHeadModel", **NAMED),
    "ctrl": decoder("CTRL", model="CTRLLMHeadModel", **NAMED, dff=80),
    "codegen": decoder("CodeGen", **NAMED, rotary_dim=8, n_inner=80),
    "xglm": decoder("XGLM", **SIZES | {"d_model": 48, "num_layers": 2, "attention_heads": 4, "ffn_dim": 80}),
    "biogpt": decoder("BioGpt", **SIZES),
    "olmo": decoder("Olmo", **GROUPED, clip_qkv=2.0),
    "smollm3": decoder("SmolLM3", **GROUPED, no_rope_layers=[1, 0]),
    "glm4": decoder("Glm4", **GROUPED, head_dim=12, partial_rotary_factor=0.5),
    "persimmon": decoder("Persimmon", **SIZES, partial_rotary_factor=0.5, qk_layernorm=True),
    "apertus": decoder("Apertus", **GROUPED),
    "arcee": decoder("Arcee", **GROUPED),
    "deepseek_v3": decoder("DeepseekV3", **SIZES, num_key_value_heads=4, **LATENT, n_routed_experts=8),
    "mobilebert": encoder("MobileBertForMaskedLM", "MobileBert", ["logits"], **BOTTLENECK),
    "squeezebert": encoder("SqueezeBertForMaskedLM", "SqueezeBert", ["logits"], embedding_size=48),
    "roformer": encoder("RoFormerForMaskedLM", "RoFormer", ["logits"], embedding_size=48),
    "esm": encoder(
        "EsmForMaskedLM", "Esm", ["logits"], position_embedding_type="rotary", token_dropout=False
    ),
    "rembert": encoder("RemBertForMaskedLM", "RemBert", ["logits"], input_embedding_size=20),
    "xlnet": xlnet,
    "convbert": encoder("ConvBertForMaskedLM", "ConvBert", ["logits"], embedding_size=48, head_ratio=2),
    "mbart": whole("MBart", **BART),
    "m2m_100": whole("M2M100", **BART, activation_function="relu"),
    "blenderbot": whole("Blenderbot", **BART),
    "beit": tower("BeitModel", "Beit", "last_hidden_state", use_relative_position_bias=True),
    "segformer": segformer,
}
