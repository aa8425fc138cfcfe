"""Which features make which family of models: all of the words it has, and none of those it lacks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """`name` as a user reads it; `members` are models that cannot be told apart by what is looked at."""

    name: str
    members: str
    has: str
    lacks: str = ""

    def fits(self, words: set[str]) -> bool:
        return {*self.has.split()} <= words and not {*self.lacks.split()} & words


# fmt: off
VISION = (
    Family("vision-language model", "LLaVA and its like", "patches tokens rmsnorm layernorm"),
    Family("image and text towers", "CLIP", "patches tokens quick_gelu"),
    Family("image and text towers", "SigLIP", "patches tokens gelu_tanh"),
    Family("CLIP image tower", "CLIP vision", "patches layernorm quick_gelu"),
    Family("SigLIP image tower", "SigLIP vision", "patches layernorm gelu_tanh"),
    Family("vision transformer of relative positions", "Swin, BEiT", "patches layernorm gelu_erf relative"),
    Family("vision transformer", "ViT, DeiT, DINOv2", "patches layernorm gelu_erf", "tokens"),
    Family("Whisper-like encoder-decoder", "Whisper", "sound cross layernorm"),
    Family("Whisper-like encoder", "Whisper encoder", "sound layernorm"),
)
ENCODER_DECODERS = (
    Family("T5-like encoder-decoder", "T5, mT5, FLAN-T5", "rmsnorm relative cross"),
    Family("T5-like encoder", "T5 encoder", "rmsnorm relative two-way"),
    Family("BART-like encoder-decoder", "BART", "layernorm post-norm cross gelu_erf"),
    Family("mBART-like encoder-decoder", "mBART, Blenderbot, Whisper without its encoder",
           "layernorm pre-norm cross gelu_erf tokens"),
    Family("Marian-like encoder-decoder", "Marian", "layernorm post-norm cross silu"),
    Family("Pegasus-like encoder-decoder", "Pegasus, M2M-100, NLLB", "layernorm pre-norm cross relu"),
    Family("torch.nn.TransformerDecoder", "", "layernorm cross", "tokens"),
)
ENCODERS = (
    Family("DeBERTa-like encoder", "DeBERTa v1 to v3, XLNet",
           "layernorm post-norm disentangled", "learned-positions"),
    Family("ALBERT-like encoder", "ALBERT", "layernorm post-norm shared-layers tokens", "causal"),
    Family("MPNet-like encoder", "MPNet", "layernorm post-norm relative tokens", "causal"),
    Family("ELECTRA-like encoder", "ELECTRA, RemBERT",
           "layernorm post-norm gelu_erf embedding-projection", "causal"),
    Family("RoFormer-like encoder", "RoFormer", "layernorm post-norm gelu_erf rope", "causal"),
    Family("BERT-like encoder", "BERT, RoBERTa", "layernorm post-norm gelu_erf token-types", "causal"),
    Family("BERT-like encoder", "DistilBERT, BERT", "layernorm post-norm gelu_erf tokens", "causal"),
    Family("ModernBERT-like encoder", "ModernBERT", "layernorm rope gelu_erf gated", "causal"),
    Family("ESM-like encoder", "ESM-2", "layernorm pre-norm rope gelu_erf encoder", "causal"),
    Family("torch.nn.TransformerEncoder", "", "layernorm fused-qkv qkv-bias", "tokens causal rope patches"),
)
RMS_DECODERS = (
    Family("mixture-of-experts decoder", "Mixtral, Qwen MoE, OLMoE, gpt-oss", "rmsnorm rope router"),
    Family("DeepSeek-like decoder", "DeepSeek V2 and V3", "rmsnorm rope latent-keys"),
    Family("Arcee-like decoder", "Arcee AFM", "rmsnorm rope relu_squared"),
    Family("Gemma-3-like decoder", "Gemma 3", "rmsnorm rope gelu_tanh gated qk-norm"),
    Family("Gemma-2-like decoder", "Gemma 2", "rmsnorm rope gelu_tanh gated branch-norm"),
    Family("Gemma-like decoder", "Gemma", "rmsnorm rope gelu_tanh gated"),
    Family("OLMo-2-like decoder", "OLMo 2", "rmsnorm rope silu gated branch-norm qk-norm", "pre-norm"),
    Family("Qwen3-like decoder", "Qwen3", "rmsnorm pre-norm rope silu gated qk-norm"),
    Family("Qwen2-like decoder", "Qwen2, Qwen2.5", "rmsnorm pre-norm rope silu gated qkv-bias"),
    Family("Phi-3-like decoder", "Phi-3, Phi-4", "rmsnorm pre-norm rope silu gated fused-qkv"),
    Family("LLaMA-like decoder", "LLaMA, Mistral, SmolLM, Granite", "rmsnorm pre-norm rope silu gated"),
)
LAYERNORM_DECODERS = (
    Family("Cohere-like decoder", "Command R", "layernorm rope silu gated parallel"),
    Family("OLMo-like decoder", "OLMo", "layernorm rope silu gated norm-without-shift"),
    Family("StableLM-like decoder", "StableLM", "layernorm rope silu gated"),
    Family("GPT-J-like decoder", "GPT-J, CodeGen", "layernorm rope gelu_tanh parallel", "qkv-bias"),
    Family("Phi-like decoder", "Phi-1, Phi-2", "layernorm rope gelu_tanh parallel qkv-bias"),
    Family("GPT-NeoX-like decoder", "GPT-NeoX, Pythia", "layernorm rope gelu_erf qkv-bias"),
    Family("Falcon-like decoder", "Falcon", "layernorm rope gelu_erf"),
    Family("StarCoder2-like decoder", "StarCoder2", "layernorm rope gelu_tanh"),
    Family("Persimmon-like decoder", "Persimmon", "layernorm rope relu_squared qk-norm"),
    Family("Nemotron-like decoder", "Nemotron", "layernorm rope relu_squared"),
    Family("BLOOM-like decoder", "BLOOM", "layernorm alibi embedding-norm"),
    Family("Falcon-like decoder", "Falcon-RW", "layernorm alibi qkv-bias"),
    Family("MPT-like decoder", "MPT", "layernorm alibi"),
    Family("CLIP text tower", "CLIP text", "layernorm pre-norm quick_gelu tokens"),
    Family("CTRL-like decoder", "CTRL", "layernorm relu tokens causal embedding-scale"),
    Family("OPT-like decoder", "OPT", "layernorm relu tokens causal", "rope"),
    Family("SigLIP text tower", "SigLIP text", "layernorm pre-norm gelu_tanh tokens two-way", "cache"),
    Family("GPT-1-like decoder", "OpenAI GPT", "layernorm post-norm gelu_tanh tokens causal"),
    Family("GPT-like decoder with exact GELU", "XGLM, BioGPT", "layernorm pre-norm gelu_erf tokens causal"),
    Family("GPT-2-like decoder", "GPT-2, GPT-Neo, GPT-BigCode", "layernorm pre-norm gelu_tanh tokens"),
)
# fmt: on
FAMILIES = VISION + ENCODER_DECODERS + ENCODERS + RMS_DECODERS + LAYERNORM_DECODERS
"""The more special before the more general: the first that fits is the guess."""


def first_fit(words: set[str]) -> Family | None:
    return next((family for family in FAMILIES if family.fits(words)), None)
