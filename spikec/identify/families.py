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


FAMILIES = (
    # vision, sound, and several towers
    Family("vision-language model", "LLaVA and its like", "patches tokens rmsnorm layernorm"),
    Family("image and text towers", "CLIP", "patches tokens quick_gelu"),
    Family("image and text towers", "SigLIP", "patches tokens gelu_tanh"),
    Family("CLIP image tower", "CLIP vision", "patches layernorm quick_gelu", "tokens"),
    Family("SigLIP image tower", "SigLIP vision", "patches layernorm gelu_tanh", "tokens"),
    Family("vision transformer", "ViT, DeiT, DINOv2", "patches layernorm gelu_erf", "tokens"),
    Family("Whisper-like encoder-decoder", "Whisper", "sound cross layernorm"),
    Family("Whisper-like encoder", "Whisper encoder", "sound layernorm", "cross"),
    Family("CLIP text tower", "CLIP text", "layernorm pre-norm quick_gelu tokens", "patches"),
    # encoder-decoders
    Family("T5-like encoder-decoder", "T5, mT5, FLAN-T5", "rmsnorm relative cross", "rope"),
    Family("T5-like encoder", "T5 encoder", "rmsnorm relative", "rope cross causal"),
    Family(
        "Whisper-like decoder",
        "Whisper decoder",
        "layernorm pre-norm cross gelu_erf learned-positions causal",
    ),
    Family("BART-like encoder-decoder", "BART, mBART", "layernorm post-norm cross gelu_erf"),
    Family("Marian-like encoder-decoder", "Marian", "layernorm post-norm cross silu"),
    Family("Pegasus-like encoder-decoder", "Pegasus", "layernorm pre-norm cross relu"),
    Family("torch.nn.TransformerDecoder", "", "layernorm post-norm cross relu", "tokens"),
    # encoders
    Family("DeBERTa-like encoder", "DeBERTa v1 to v3", "layernorm post-norm disentangled"),
    Family("ALBERT-like encoder", "ALBERT", "layernorm post-norm shared-layers tokens", "causal"),
    Family("MPNet-like encoder", "MPNet", "layernorm post-norm relative tokens", "causal"),
    Family(
        "ELECTRA-like encoder",
        "ELECTRA (small)",
        "layernorm post-norm gelu_erf embedding-projection",
        "causal",
    ),
    Family("BERT-like encoder", "BERT, ELECTRA", "layernorm post-norm gelu_erf token-types", "causal"),
    Family(
        "BERT-like encoder",
        "RoBERTa, DistilBERT, BERT",
        "layernorm post-norm gelu_erf tokens",
        "causal cross",
    ),
    Family(
        "SigLIP text tower", "SigLIP text", "layernorm pre-norm gelu_tanh tokens two-way", "causal rope alibi"
    ),
    # decoders with RMS norms
    Family("mixture of experts", "Mixtral, Qwen MoE, OLMoE", "rmsnorm rope router"),
    Family("Gemma-3-like decoder", "Gemma 3", "rmsnorm rope gelu_tanh gated qk-norm"),
    Family("Gemma-2-like decoder", "Gemma 2", "rmsnorm rope gelu_tanh gated branch-norm", "qk-norm"),
    Family("Gemma-like decoder", "Gemma", "rmsnorm rope gelu_tanh gated", "branch-norm qk-norm"),
    Family("OLMo-2-like decoder", "OLMo 2", "rmsnorm rope silu gated branch-norm qk-norm", "pre-norm"),
    Family("Qwen3-like decoder", "Qwen3", "rmsnorm pre-norm rope silu gated qk-norm"),
    Family("Qwen2-like decoder", "Qwen2, Qwen2.5", "rmsnorm pre-norm rope silu gated qkv-bias", "qk-norm"),
    Family("Phi-3-like decoder", "Phi-3, Phi-4", "rmsnorm pre-norm rope silu gated fused-qkv", "qk-norm"),
    Family(
        "LLaMA-like decoder", "LLaMA, Mistral, SmolLM, Granite", "rmsnorm pre-norm rope silu gated", "qk-norm"
    ),
    # decoders with layer norms
    Family("Cohere-like decoder", "Command R", "layernorm rope silu gated parallel"),
    Family("StableLM-like decoder", "StableLM", "layernorm pre-norm rope silu gated", "parallel"),
    Family("GPT-J-like decoder", "GPT-J", "layernorm rope gelu_tanh parallel", "qkv-bias"),
    Family("Phi-like decoder", "Phi-1, Phi-2", "layernorm rope gelu_tanh parallel qkv-bias"),
    Family("GPT-NeoX-like decoder", "GPT-NeoX, Pythia", "layernorm rope gelu_erf parallel qkv-bias"),
    Family("Falcon-like decoder", "Falcon", "layernorm rope gelu_erf", "qkv-bias"),
    Family("StarCoder2-like decoder", "StarCoder2", "layernorm pre-norm rope gelu_tanh", "parallel"),
    Family("Nemotron-like decoder", "Nemotron", "layernorm pre-norm rope relu"),
    Family("BLOOM-like decoder", "BLOOM", "layernorm alibi embedding-norm"),
    Family("MPT-like decoder", "MPT", "layernorm alibi norm-without-shift"),
    Family("Falcon-like decoder", "Falcon-RW", "layernorm alibi"),
    Family("OPT-like decoder", "OPT", "layernorm relu learned-positions causal", "cross"),
    Family(
        "GPT-2-like decoder", "GPT-2, GPT-Neo, GPT-BigCode", "layernorm pre-norm gelu_tanh learned-positions"
    ),
)


def fits(words: set[str]) -> list[Family]:
    """The families that fit, as FAMILIES has them: the more special first."""
    return [f for f in FAMILIES if {*f.has.split()} <= words and not {*f.lacks.split()} & words]
