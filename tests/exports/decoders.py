"""Decoder-only language models of transformers, each with two layers and sizes that cannot be confused."""

from __future__ import annotations

import torch
import transformers as hf
from exports.case import SPREAD, VOCABULARY, Build, Case, case, tokens

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS, FEED_FORWARD, POSITIONS = 48, 4, 2, 12, 2, 80, 40

COMMON = {
    "vocab_size": VOCABULARY,
    "initializer_range": SPREAD,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SIZES = COMMON | {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FEED_FORWARD,
    "max_position_embeddings": POSITIONS,
}
GROUPED = SIZES | {"num_key_value_heads": KV_HEADS}
NAMED = COMMON | {"n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS, "n_positions": POSITIONS}


def decoder(name: str, model: str = "", config_name: str = "", **sizes: object) -> Build:
    """Builds `{name}Config` and `{name}ForCausalLM`: ids and mask to logits."""

    def build(attention: str) -> Case:
        torch.manual_seed(0)
        config = getattr(hf, f"{config_name or name}Config")(**sizes, attn_implementation=attention)
        return case(
            getattr(hf, model or f"{name}ForCausalLM")(config).eval(), tokens(), ["logits"], use_cache=False
        )

    return build


ARCHITECTURES: dict[str, Build] = {
    "gpt2": decoder("GPT2", model="GPT2LMHeadModel", **NAMED, n_inner=FEED_FORWARD),
    "opt": decoder("OPT", **SIZES | {"ffn_dim": FEED_FORWARD, "word_embed_proj_dim": HIDDEN}),
    "opt_350m": decoder(
        "OPT",
        **SIZES | {"ffn_dim": FEED_FORWARD, "word_embed_proj_dim": 20, "do_layer_norm_before": False},
    ),
    "llama": decoder("Llama", **GROUPED),
    "smollm": decoder(
        "Llama", **SIZES | {"num_attention_heads": 6, "num_key_value_heads": 3, "tie_word_embeddings": True}
    ),
    "mistral": decoder("Mistral", **GROUPED, sliding_window=4),
    "qwen2": decoder("Qwen2", **GROUPED, tie_word_embeddings=True),
    "qwen3": decoder("Qwen3", **GROUPED, head_dim=16),
    "gemma": decoder("Gemma", **SIZES, num_key_value_heads=1, head_dim=16),
    "gemma2": decoder("Gemma2", **GROUPED, head_dim=16, sliding_window=4, query_pre_attn_scalar=20),
    "gemma3": decoder(
        "Gemma3",
        config_name="Gemma3Text",
        **GROUPED,
        head_dim=16,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "phi": decoder("Phi", **SIZES, partial_rotary_factor=0.5),
    "phi3": decoder("Phi3", **GROUPED),
    "gpt_neox": decoder("GPTNeoX", **SIZES, rotary_pct=0.5),
    "gptj": decoder("GPTJ", **NAMED, rotary_dim=8, n_inner=FEED_FORWARD),
    "falcon": decoder("Falcon", **SIZES, multi_query=True, parallel_attn=True, alibi=False),
    "falcon_new": decoder(
        "Falcon", **SIZES, num_kv_heads=KV_HEADS, new_decoder_architecture=True, alibi=False
    ),
    "falcon_alibi": decoder("Falcon", **SIZES, multi_query=False, parallel_attn=False, bias=True, alibi=True),
    "bloom": decoder("Bloom", **COMMON, hidden_size=HIDDEN, n_layer=LAYERS, n_head=HEADS),
    "mpt": decoder("Mpt", **COMMON, d_model=HIDDEN, n_layers=LAYERS, n_heads=HEADS, max_seq_len=POSITIONS),
    "stablelm": decoder("StableLm", **GROUPED, partial_rotary_factor=0.5),
    "olmo2": decoder("Olmo2", **GROUPED),
    "cohere": decoder("Cohere", **GROUPED),
    "gpt_neo": decoder(
        "GPTNeo",
        **SIZES | {"num_heads": HEADS, "num_layers": LAYERS, "window_size": 4},
        attention_types=[[["global", "local"], 1]],
    ),
    "gpt_bigcode": decoder("GPTBigCode", **NAMED, n_inner=FEED_FORWARD, multi_query=True),
    "starcoder2": decoder("Starcoder2", **GROUPED, sliding_window=None),
    "nemotron": decoder("Nemotron", **GROUPED, partial_rotary_factor=0.5),
    "granite": decoder("Granite", **GROUPED),
}
