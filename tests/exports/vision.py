"""Vision towers, image-text pairs, and a vision-language model, of transformers."""

from __future__ import annotations

import torch
import transformers as hf
from exports.case import BATCH, SPREAD, VOCABULARY, Build, Case, case, tokens
from exports.decoders import FEED_FORWARD, GROUPED, HEADS, HIDDEN, LAYERS, POSITIONS
from torch import Tensor, nn

IMAGE, PATCH = 16, 8
PATCHES = (IMAGE // PATCH) ** 2
TOWER = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FEED_FORWARD,
    "image_size": IMAGE,
    "patch_size": PATCH,
    "initializer_range": SPREAD,
}
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 5,
    "intermediate_size": 72,
    "max_position_embeddings": POSITIONS,
    "projection_dim": 24,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


SWIN = {
    "image_size": IMAGE,
    "patch_size": 4,
    "embed_dim": 24,
    "depths": [2, 1],
    "num_heads": [2, 4],
    "window_size": 2,
    "initializer_range": SPREAD,
}
"""Two stages, the second of half the patches: its first layer of windows is shifted in the first stage."""


def image() -> Tensor:
    return torch.randn(BATCH, 3, IMAGE, IMAGE, generator=torch.Generator().manual_seed(4))


def tower(model: str, config_name: str, output: str, **sizes: object) -> Build:
    """Pixels to one output."""

    def build(attention: str) -> Case:
        torch.manual_seed(0)
        config = getattr(hf, f"{config_name}Config")(**TOWER | sizes, attn_implementation=attention)
        return case(spread(getattr(hf, model)(config).eval()), {"pixel_values": image()}, [output])

    return build


def text(model: str, config_name: str, output: str) -> Build:
    def build(attention: str) -> Case:
        torch.manual_seed(0)
        config = getattr(hf, f"{config_name}Config")(**TEXT, attn_implementation=attention)
        return case(spread(getattr(hf, model)(config).eval()), tokens(), [output])

    return build


def pair(name: str) -> Build:
    """Image and text to their similarity."""

    def build(attention: str) -> Case:
        torch.manual_seed(0)
        sizes = {"projection_dim": 24} if name == "CLIP" else {}
        width = TEXT | {"hidden_size": HIDDEN, "num_attention_heads": HEADS} if name == "Siglip" else TEXT
        config = getattr(hf, f"{name}Config")(
            text_config=width, vision_config=TOWER | sizes, attn_implementation=attention, **sizes
        )
        inputs = tokens() | {"pixel_values": image()}
        return case(spread(getattr(hf, f"{name}Model")(config).eval()), inputs, ["logits_per_image"])

    return build


def spread(model: nn.Module) -> nn.Module:
    """Matrices as wide as every other architecture's: these towers start from much smaller ones."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= SPREAD / parameter.std().clamp(min=1e-3)
    return model


def llava(attention: str) -> Case:
    """Pixels and a prompt with one image token for each patch."""
    torch.manual_seed(0)
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**TOWER),
        text_config=hf.LlamaConfig(**GROUPED),
        image_token_index=VOCABULARY - 1,
        attn_implementation=attention,
    )
    inputs = tokens(length=PATCHES + 5)
    inputs["input_ids"] = inputs["input_ids"].clamp(max=VOCABULARY - 2)
    inputs["input_ids"][:, 1 : 1 + PATCHES] = VOCABULARY - 1
    inputs["pixel_values"] = image()
    model = hf.LlavaForConditionalGeneration(config).eval()
    return case(spread(model), inputs, ["logits"], use_cache=False)


def swin(attention: str) -> Case:
    torch.manual_seed(0)
    model = hf.SwinModel(hf.SwinConfig(**SWIN, attn_implementation=attention)).eval()
    return case(spread(model), {"pixel_values": image()}, ["last_hidden_state"])


class Joined(nn.Module):
    """LLaVA with the image's tokens before the prompt's: prompt, mask of both, and pixels to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor]:
        ids, mask, pixels = tensors
        features = self.model.get_image_features(pixels).pooler_output
        seen = torch.stack(list(features)) if isinstance(features, tuple | list) else features
        embedded = torch.cat([seen, self.model.get_input_embeddings()(ids)], 1)
        result = self.model.model.language_model(inputs_embeds=embedded, attention_mask=mask, use_cache=False)
        return (self.model.lm_head(result.last_hidden_state),)


def llava_joined(attention: str) -> Case:
    case = llava(attention)
    ids = case.inputs["input_ids"][:, PATCHES + 1 :]
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones(BATCH, PATCHES + ids.shape[1], dtype=torch.long),
        "pixel_values": case.inputs["pixel_values"],
    }
    axes = {"input_ids": {1: "sequence"}, "attention_mask": {1: "total"}, "pixel_values": {}}
    return Case(Joined(case.module.model), inputs, axes, ["logits"])


ARCHITECTURES: dict[str, Build] = {
    "vit": tower("ViTModel", "ViT", "pooler_output"),
    "vit_classifier": tower("ViTForImageClassification", "ViT", "logits", num_labels=3),
    "deit": tower("DeiTForImageClassification", "DeiT", "logits", num_labels=3),
    "dinov2": tower("Dinov2Model", "Dinov2", "last_hidden_state", mlp_ratio=2),
    "clip_text": text("CLIPTextModelWithProjection", "CLIPText", "text_embeds"),
    "clip_vision": tower("CLIPVisionModelWithProjection", "CLIPVision", "image_embeds", projection_dim=24),
    "clip": pair("CLIP"),
    "siglip_text": text("SiglipTextModel", "SiglipText", "pooler_output"),
    "siglip_vision": tower("SiglipVisionModel", "SiglipVision", "pooler_output"),
    "siglip": pair("Siglip"),
    "llava": llava,
    "llava_joined": llava_joined,
    "swin": swin,
}
