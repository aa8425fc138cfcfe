"""Encoder-decoders of transformers: in one graph, and as the separate files they are deployed as."""

from __future__ import annotations

from collections.abc import Callable

import torch
import transformers as hf
from exports.case import BATCH, SPREAD, VOCABULARY, Build, Case, Plain, axes_of, case, tokens
from exports.decoders import COMMON, FEED_FORWARD, HEADS, HIDDEN, LAYERS, POSITIONS
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

MELS, FRAMES, SOURCE = 16, 40, 20

T5 = COMMON | {
    "d_model": HIDDEN,
    "d_kv": 16,
    "d_ff": FEED_FORWARD,
    "num_layers": LAYERS,
    "num_heads": HEADS,
    "decoder_start_token_id": 0,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 10,
    "tie_word_embeddings": False,
}
BART = COMMON | {
    "d_model": HIDDEN,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": FEED_FORWARD,
    "decoder_ffn_dim": FEED_FORWARD + 8,
    "max_position_embeddings": POSITIONS,
    "init_std": SPREAD,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
WHISPER = BART | {
    "num_mel_bins": MELS,
    "max_source_positions": SOURCE,
    "max_target_positions": POSITIONS,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}


class Decoder(nn.Module):
    """Token ids and the encoder's output (and mask) to logits.

    The decoder is given a mask of ones, without which transformers looks for packed sequences by `diff`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        ids, hidden, *mask = tensors
        extra = {"attention_mask": mask[0]} if mask else {}
        output = BaseModelOutput(last_hidden_state=hidden)
        ones = torch.ones_like(ids)
        result = self.model(
            decoder_input_ids=ids,
            decoder_attention_mask=ones,
            encoder_outputs=output,
            use_cache=False,
            **extra,
        )
        return (result.logits,)


class Listener(nn.Module):
    """Sound and token ids to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        sound, ids = tensors
        ones = torch.ones_like(ids)
        result = self.model(sound, decoder_input_ids=ids, decoder_attention_mask=ones, use_cache=False)
        return (result.logits,)


class CachedDecoder(nn.Module):
    """One step of generation: the past of self-attention grows, that of cross-attention stays."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        ids, hidden, mask, past = tensors[0], tensors[1], tensors[2], tensors[3:]
        cache = EncoderDecoderCache([past[i : i + 4] for i in range(0, len(past), 4)])
        result = self.model(
            decoder_input_ids=ids,
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
        )
        layers = result.past_key_values.self_attention_cache.layers
        return (result.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values)))


def made(
    name: str, sizes: dict[str, object], attention: str, kind: str = "ForConditionalGeneration"
) -> nn.Module:
    torch.manual_seed(0)
    config = getattr(hf, f"{name}Config")(**sizes, attn_implementation=attention)
    if name == "T5":
        config.initializer_factor = 1.0
    return getattr(hf, f"{name}{kind}")(config).eval()


def target(length: int = 5) -> Tensor:
    return torch.randint(3, VOCABULARY, (BATCH, length), generator=torch.Generator().manual_seed(1))


def sound() -> Tensor:
    return torch.randn(BATCH, MELS, FRAMES, generator=torch.Generator().manual_seed(2))


def whole(name: str, kind: str = "ForConditionalGeneration", **sizes: object) -> Build:
    def build(attention: str) -> Case:
        inputs = tokens() | {"decoder_input_ids": target()}
        model = made(name, sizes, attention, kind)
        axes = axes_of(inputs)
        axes["decoder_input_ids"] = {0: "batch", 1: "target_sequence"}
        return Case(Plain(model, list(inputs), ["logits"], use_cache=False), inputs, axes, ["logits"])

    return build


def decoder(name: str, hidden: Callable[[], Tensor], masked: bool, **sizes: object) -> Build:
    def build(attention: str) -> Case:
        inputs = {"decoder_input_ids": target(), "encoder_hidden_states": hidden()}
        axes = {
            "decoder_input_ids": {0: "batch", 1: "target_sequence"},
            "encoder_hidden_states": {0: "batch"},
        }
        if masked:
            axes["encoder_hidden_states"][1] = "sequence"
            inputs["encoder_attention_mask"] = tokens()["attention_mask"]
            axes["encoder_attention_mask"] = {0: "batch", 1: "sequence"}
        return Case(Decoder(made(name, sizes, attention)), inputs, axes, ["logits"])

    return build


def decoder_with_past(name: str, heads: int, head_dim: int, **sizes: object) -> Build:
    """Token ids, the encoder's output and mask, and `past.layer.{self,cross}.{key,value}`."""

    def build(attention: str) -> Case:
        generator = torch.Generator().manual_seed(5)
        mask = tokens()["attention_mask"]
        inputs = {
            "decoder_input_ids": target(1),
            "encoder_hidden_states": encoded(mask.shape[1]),
            "encoder_attention_mask": mask,
        }
        axes = {name: {0: "batch", 1: "sequence"} for name in inputs}
        axes["decoder_input_ids"] = {0: "batch"}
        outputs = ["logits"]
        for layer in range(LAYERS):
            for kind, length, axis in (("self", 4, "past_sequence"), ("cross", mask.shape[1], "sequence")):
                for part in ("key", "value"):
                    past = f"past.{layer}.{kind}.{part}"
                    inputs[past] = torch.randn(BATCH, heads, length, head_dim, generator=generator)
                    axes[past] = {0: "batch", 2: axis}
            outputs += [f"present.{layer}.self.key", f"present.{layer}.self.value"]
        return Case(CachedDecoder(made(name, sizes, attention)), inputs, axes, outputs)

    return build


def encoded(length: int) -> Tensor:
    return torch.randn(BATCH, length, HIDDEN, generator=torch.Generator().manual_seed(3))


def t5_encoder(attention: str) -> Case:
    return case(made("T5", T5, attention, "EncoderModel"), tokens(), ["last_hidden_state"])


def whisper_encoder(attention: str) -> Case:
    model = made("Whisper", WHISPER, attention, "Model").encoder
    return case(model, {"input_features": sound()}, ["last_hidden_state"])


def whisper(attention: str) -> Case:
    inputs = {"input_features": sound(), "decoder_input_ids": target()}
    return Case(Listener(made("Whisper", WHISPER, attention)), inputs, axes_of(inputs), ["logits"])


ARCHITECTURES: dict[str, Build] = {
    "t5": whole("T5", **T5),
    "t5_encoder": t5_encoder,
    "t5_decoder": decoder("T5", lambda: encoded(7), masked=True, **T5),
    "t5_decoder_past": decoder_with_past("T5", HEADS, 16, **T5),
    "t5_gated": whole("T5", **T5, feed_forward_proj="gated-gelu"),
    "bart": whole("Bart", **BART),
    "bart_decoder_past": decoder_with_past("Bart", HEADS, HIDDEN // HEADS, **BART),
    "marian": whole("Marian", "MTModel", **BART, activation_function="swish"),
    "pegasus": whole("Pegasus", **BART, activation_function="relu"),
    "whisper_encoder": whisper_encoder,
    "whisper_decoder": decoder("Whisper", lambda: encoded(SOURCE), masked=False, **WHISPER),
    "whisper": whisper,
}
