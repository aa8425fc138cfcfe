"""What each architecture of the matrix computes in one run, counted by hand from its config; no torch needed.

`Counts` add up and multiply: a model is `layers * LAYER + HEAD`. The definitions:

- linear: products with constant weights on branches of residual sums around attention; a fused one is one;
- other_linear: every other one: heads, poolers, patch embeddings, convolutions, projectors;
- matmul_dynamic: products of two activations; softmax and norms wherever they are.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Counts:
    attention: int = 0
    softmax: int = 0
    layernorm: int = 0
    rmsnorm: int = 0
    gelu_erf: int = 0
    gelu_tanh: int = 0
    quick_gelu: int = 0
    silu: int = 0
    relu: int = 0
    rope: int = 0
    linear: int = 0
    other_linear: int = 0
    matmul_dynamic: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Counts) -> Counts:
        return self + -1 * other

    def __rmul__(self, times: int) -> Counts:
        return Counts(*(times * getattr(self, f.name) for f in fields(self)))


LAYERS = 2

ATTENTION = Counts(attention=1, softmax=1, matmul_dynamic=2)
SEPARATE = ATTENTION + Counts(linear=4)  # query, key, value and output projections
FUSED = ATTENTION + Counts(linear=2)  # one projection for query, key and value; the output projection
PLAIN = Counts(linear=2)  # up, activation, down
GATED = Counts(linear=3)  # down(activation(gate) * up)
ROPE = Counts(rope=2)  # query and key
LINEAR, OTHER = Counts(linear=1), Counts(other_linear=1)
LAYERNORM, RMSNORM = Counts(layernorm=1), Counts(rmsnorm=1)
ERF, TANH, QUICK = Counts(gelu_erf=1), Counts(gelu_tanh=1), Counts(quick_gelu=1)
SILU, RELU = Counts(silu=1), Counts(relu=1)

# Decoders. The embedding needs no product; the head is one.
LLAMA_LAYER = 2 * RMSNORM + SEPARATE + ROPE + GATED + SILU
GPT2 = LAYERS * (2 * LAYERNORM + FUSED + PLAIN + TANH) + LAYERNORM + OTHER
LLAMA = LAYERS * LLAMA_LAYER + RMSNORM + OTHER
OPT_LAYER = 2 * LAYERNORM + SEPARATE + PLAIN + RELU

DECODERS = {
    "gpt2": GPT2,
    "opt": LAYERS * OPT_LAYER + LAYERNORM + OTHER,
    "opt_350m": LAYERS * OPT_LAYER + 3 * OTHER,  # project_in, project_out, head; norms only in the layers
    "llama": LLAMA,
    "smollm": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA + LAYERS * 2 * RMSNORM,  # query and key norm
    "gemma": LLAMA + LAYERS * (TANH - SILU),
    "gemma2": LLAMA + LAYERS * (TANH - SILU + 2 * RMSNORM),  # norms after attention and MLP
    "gemma3": LLAMA + LAYERS * (TANH - SILU + 4 * RMSNORM),  # and query and key norm
    "phi": LAYERS * (LAYERNORM + SEPARATE + ROPE + PLAIN + TANH) + LAYERNORM + OTHER,
    "phi3": LAYERS * (2 * RMSNORM + FUSED + ROPE + 2 * LINEAR + SILU) + RMSNORM + OTHER,  # gate-up is one
    "gpt_neox": LAYERS * (2 * LAYERNORM + FUSED + ROPE + PLAIN + ERF) + LAYERNORM + OTHER,
    "gptj": LAYERS * (LAYERNORM + SEPARATE + ROPE + PLAIN + TANH) + LAYERNORM + OTHER,
    "falcon": LAYERS * (LAYERNORM + FUSED + ROPE + PLAIN + ERF) + LAYERNORM + OTHER,
    "falcon_new": LAYERS * (2 * LAYERNORM + FUSED + ROPE + PLAIN + ERF) + LAYERNORM + OTHER,
    "falcon_alibi": LAYERS * (2 * LAYERNORM + FUSED + PLAIN + ERF) + LAYERNORM + OTHER,
    "bloom": GPT2 + LAYERNORM,  # the embedding's norm
    "mpt": LAYERS * (2 * LAYERNORM + FUSED + PLAIN + ERF) + LAYERNORM + OTHER,
    "stablelm": LAYERS * (2 * LAYERNORM + SEPARATE + ROPE + GATED + SILU) + LAYERNORM + OTHER,
    "olmo2": LLAMA + LAYERS * 2 * RMSNORM,
    "cohere": LAYERS * (LAYERNORM + SEPARATE + ROPE + GATED + SILU) + LAYERNORM + OTHER,
    "gpt_neo": LAYERS * (2 * LAYERNORM + SEPARATE + PLAIN + TANH) + LAYERNORM + OTHER,
    "gpt_bigcode": GPT2,
    "starcoder2": LAYERS * (2 * LAYERNORM + SEPARATE + ROPE + PLAIN + TANH) + LAYERNORM + OTHER,
    # Nemotron's activation is relu(x) ** 2.
    "nemotron": LAYERS * (2 * LAYERNORM + SEPARATE + ROPE + PLAIN + RELU) + LAYERNORM + OTHER,
    "granite": LLAMA,
}

# Encoders of text. BERT: a norm after the embedding, then after each residual sum.
BERT_LAYER = 2 * LAYERNORM + SEPARATE + PLAIN + ERF
BERT_BODY = LAYERNORM + LAYERS * BERT_LAYER
MLM_HEAD = 2 * OTHER + ERF + LAYERNORM  # dense, activation, norm, decoder
DEBERTA_SCORES = Counts(matmul_dynamic=2, linear=2)  # content to position and back; projected positions

ENCODERS = {
    "bert": BERT_BODY + OTHER,  # pooler
    "bert_mlm": BERT_BODY + MLM_HEAD,
    "bert_classifier": BERT_BODY + 2 * OTHER,  # pooler, classifier
    "roberta": BERT_BODY + MLM_HEAD,
    # One layer's weights three times; embedding_hidden_mapping_in; gelu_new in layers and head.
    "albert": LAYERNORM + OTHER + 3 * (BERT_LAYER + TANH - ERF) + MLM_HEAD + TANH - ERF,
    "electra": BERT_BODY + OTHER + 2 * OTHER + ERF,  # embeddings_project; dense, activation, prediction
    "distilbert": BERT_BODY + MLM_HEAD,
    "mpnet": BERT_BODY + MLM_HEAD,
    # v1: fused query, key and value. v3: separate, and the norm of the relative embeddings.
    "deberta": BERT_BODY - LAYERS * 2 * LINEAR + LAYERS * DEBERTA_SCORES + MLM_HEAD,
    # No norm before the first attention; GELU on half of a fused up projection.
    "modernbert": LAYERNORM + LAYERS * (2 * LAYERNORM + FUSED + ROPE + PLAIN + ERF) + MLM_HEAD,
    "deberta_v3": BERT_BODY + LAYERS * DEBERTA_SCORES + LAYERNORM + MLM_HEAD,
}

# Encoder-decoders: (self-)attention in the encoder, self and cross-attention in the decoder.
T5_ENCODER = LAYERS * (2 * RMSNORM + SEPARATE + PLAIN + RELU) + RMSNORM
T5_DECODER = LAYERS * (3 * RMSNORM + 2 * SEPARATE + PLAIN + RELU) + RMSNORM + OTHER
T5_GATES = LAYERS * (LINEAR + TANH - RELU)
BART_ENCODER = LAYERNORM + LAYERS * (2 * LAYERNORM + SEPARATE + PLAIN + ERF)
BART_DECODER = LAYERNORM + LAYERS * (3 * LAYERNORM + 2 * SEPARATE + PLAIN + ERF)
WHISPER_ENCODER = 2 * (OTHER + ERF) + BART_ENCODER  # two convolutions
WHISPER_DECODER = BART_DECODER + OTHER

CACHED = LAYERS * 2 * LINEAR  # keys and values of cross-attention come from the cache

SEQ2SEQ = {
    "t5": T5_ENCODER + T5_DECODER,
    "t5_encoder": T5_ENCODER,
    "t5_decoder": T5_DECODER,
    "t5_decoder_past": T5_DECODER - CACHED,
    "t5_gated": T5_ENCODER + T5_DECODER + 2 * T5_GATES,
    "bart": BART_ENCODER + BART_DECODER + OTHER,
    "bart_decoder_past": BART_DECODER + OTHER - CACHED,
    "marian": BART_ENCODER + BART_DECODER - 2 * LAYERNORM + 2 * LAYERS * (SILU - ERF) + OTHER,
    "pegasus": BART_ENCODER + BART_DECODER + 2 * LAYERS * (RELU - ERF) + OTHER,
    "whisper_encoder": WHISPER_ENCODER,
    "whisper_decoder": WHISPER_DECODER,
    "whisper": WHISPER_ENCODER + WHISPER_DECODER,
}

# Vision. The patch embedding is one convolution.
VIT_LAYER = 2 * LAYERNORM + SEPARATE + PLAIN + ERF
CLIP_LAYER = 2 * LAYERNORM + SEPARATE + PLAIN + QUICK
CLIP_TEXT = LAYERS * CLIP_LAYER + LAYERNORM + OTHER  # final norm, text projection
CLIP_VISION = OTHER + LAYERS * CLIP_LAYER + 2 * LAYERNORM + OTHER  # norms before and after, projection
SIGLIP_LAYER = 2 * LAYERNORM + SEPARATE + PLAIN + TANH
SIGLIP_TEXT = LAYERS * SIGLIP_LAYER + LAYERNORM + OTHER
# Attention pooling: a learned query, keys and values in one product, output, norm, MLP; all outside layers.
SIGLIP_POOL = ATTENTION + 3 * OTHER + LAYERNORM + 2 * OTHER + TANH
SIGLIP_VISION = OTHER + LAYERS * SIGLIP_LAYER + LAYERNORM + SIGLIP_POOL
SIMILARITY = Counts(matmul_dynamic=1)  # of image and text embeddings

VISION = {
    "vit": OTHER + LAYERS * VIT_LAYER + LAYERNORM + OTHER,  # pooler
    "vit_classifier": OTHER + LAYERS * VIT_LAYER + LAYERNORM + OTHER,
    "deit": OTHER + LAYERS * VIT_LAYER + LAYERNORM + OTHER,
    "dinov2": OTHER + LAYERS * VIT_LAYER + LAYERNORM,
    # Three layers; between the stages a norm and the product that merges patches.
    "swin": OTHER + LAYERNORM + 3 * VIT_LAYER + LAYERNORM + OTHER + LAYERNORM,
    "clip_text": CLIP_TEXT,
    "clip_vision": CLIP_VISION,
    "clip": CLIP_TEXT + CLIP_VISION + SIMILARITY,
    "siglip_text": SIGLIP_TEXT,
    "siglip_vision": SIGLIP_VISION,
    "siglip": SIGLIP_TEXT + SIGLIP_VISION + SIMILARITY,
    # The tower's last layer and its last norm are not used; projector: two products around a GELU.
    "llava": OTHER + LAYERNORM + (LAYERS - 1) * CLIP_LAYER + 2 * OTHER + ERF + LLAMA,
}

VISION["llava_joined"] = VISION["llava"]

# torch.nn's own layers.
TORCH_LAYER = 2 * LAYERNORM + FUSED + PLAIN
LAYER = {
    "transformer_encoder": LAYERS * (TORCH_LAYER + RELU),
    "transformer_encoder_prenorm": LAYERS * (TORCH_LAYER + ERF) + LAYERNORM,
    # Self-attention is fused; cross-attention has its query apart from its fused keys and values.
    "transformer_decoder": LAYERS * (TORCH_LAYER + RELU + LAYERNORM + ATTENTION + 3 * LINEAR),
    "mha": ATTENTION + 2 * OTHER,  # no residual sum: not a block
    "mha_block": LAYERNORM + FUSED,
}

# Mixtures of experts: a router with its softmax; a stack of expert matrices counts each of them.
EXPERTS = 4
ROUTED_LAYER = LLAMA_LAYER - GATED - SILU + LINEAR + Counts(softmax=1) + 2 * EXPERTS * LINEAR  # gate-up, down
AT_ONCE = LAYERS * (ROUTED_LAYER + SILU) + RMSNORM + OTHER
ONE_BY_ONE = AT_ONCE + LAYERS * (EXPERTS - 1) * SILU

MIXTURES = {
    "mixtral": AT_ONCE,
    "mixtral_dense": ONE_BY_ONE,
    "mixtral_routed": ONE_BY_ONE,
    "mixtral_stacked": AT_ONCE,
    "qwen2_moe": ONE_BY_ONE + LAYERS * (GATED + SILU + LINEAR),  # shared expert and its gate
    # Gated by clamp(x) * sigmoid(1.702 * clamp(x)); softmax with a learned sink.
    "gpt_oss": AT_ONCE + LAYERS * (QUICK - SILU),
    "qwen3_moe": AT_ONCE + LAYERS * 2 * RMSNORM,
}

# Further architectures, each with something of its own.
ARCEE_LAYER = 2 * RMSNORM + SEPARATE + ROPE + PLAIN
MORE = {
    "openai_gpt": GPT2 - LAYERNORM,  # norms after the sums, none at the end
    "ctrl": LAYERS * OPT_LAYER + LAYERNORM + OTHER,
    "codegen": LAYERS * (LAYERNORM + FUSED + ROPE + PLAIN + TANH) + LAYERNORM + OTHER,
    "xglm": LAYERS * (OPT_LAYER + ERF - RELU) + LAYERNORM + OTHER,
    "biogpt": LAYERS * (OPT_LAYER + ERF - RELU) + LAYERNORM + OTHER,
    "olmo": LAYERS * (2 * LAYERNORM + SEPARATE + ROPE + GATED + SILU) + LAYERNORM + OTHER,
    "smollm3": LLAMA - ROPE,  # no positions in the second layer
    "glm4": LLAMA + LAYERS * (2 * RMSNORM - LINEAR),  # norms after both branches; gate-up is one
    "persimmon": LAYERS * (4 * LAYERNORM + FUSED + ROPE + PLAIN + RELU) + LAYERNORM + OTHER,
    "apertus": LAYERS * (ARCEE_LAYER + 2 * RMSNORM) + RMSNORM + OTHER,  # xIELU, query and key norm
    "arcee": LAYERS * (ARCEE_LAYER + RELU) + RMSNORM + OTHER,
    # Queries, and keys with values, go through a waist with a norm.
    "deepseek_v3": LLAMA + LAYERS * (2 * RMSNORM + LINEAR),
    # A layer: bottleneck (2), attention (4), two MLPs (4), output bottleneck; scales in place of norms.
    "mobilebert": OTHER + LAYERS * (ATTENTION + 11 * LINEAR + 2 * RELU) + MLM_HEAD - ERF + RELU,
    "squeezebert": BERT_BODY + MLM_HEAD,  # its products are grouped convolutions
    "roformer": BERT_BODY + MLM_HEAD + LAYERS * ROPE,
    "esm": LAYERS * (BERT_LAYER + ROPE) + LAYERNORM + MLM_HEAD,
    "rembert": BERT_BODY + OTHER + MLM_HEAD,
    # Positions are projected too, and met by queries: a third product of activations.
    "xlnet": LAYERS * (BERT_LAYER + LINEAR + Counts(matmul_dynamic=1)) + OTHER,
    # Also mixes by convolutions: depthwise and pointwise for keys, kernels with a softmax, values.
    "convbert": BERT_BODY + LAYERS * (4 * LINEAR + Counts(softmax=1, matmul_dynamic=1)) + MLM_HEAD,
    "mbart": BART_ENCODER + BART_DECODER + 2 * LAYERNORM + OTHER,
    "m2m_100": BART_ENCODER + BART_DECODER + 2 * LAYERS * (RELU - ERF) + OTHER,
    "blenderbot": BART_ENCODER + BART_DECODER + OTHER,
    "beit": OTHER + LAYERS * VIT_LAYER,
    # Two stages: patch convolution and norm, layer with a convolution in its MLP, norm; one shortens keys.
    "segformer": LAYERS * (OTHER + LAYERNORM + VIT_LAYER + LINEAR + LAYERNORM) + LINEAR + LAYERNORM,
}

DROPPED = {
    "llava": CLIP_LAYER + LAYERNORM,
    "llava_joined": CLIP_LAYER + LAYERNORM,
    "squeezebert": OTHER,
    "beit": LAYERNORM,
}
"""What torch runs and no exporter keeps, because nothing uses it."""

EXPECTED = DECODERS | ENCODERS | SEQ2SEQ | VISION | LAYER | MIXTURES | MORE

PACKED = {
    name: EXPECTED[name.partition("-")[0]] - LAYERS * (SEPARATE - FUSED)
    for name in (
        "bert-legacy17-eager-fp16-ort",
        "bert-dynamo18-sdpa-onnxscript",
        "opt-dynamo18-sdpa-onnxscript",
        "vit-dynamo18-sdpa-onnxscript",
    )
}
"""Models whose optimizer put the projections of query, key and value into one product."""
