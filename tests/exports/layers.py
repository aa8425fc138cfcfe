"""torch.nn's own transformer layers, as code written without transformers uses them."""

from __future__ import annotations

import torch
from exports.case import BATCH, LENGTH, Build, Case
from exports.decoders import FEED_FORWARD, HEADS, HIDDEN, LAYERS
from torch import Tensor, nn


def states(seed: int, length: int = LENGTH) -> Tensor:
    return torch.randn(BATCH, length, HIDDEN, generator=torch.Generator().manual_seed(seed))


def alone(module: nn.Module) -> Case:
    """Hidden states in and out."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    axes = {"hidden": {0: "batch", 1: "sequence"}}
    return Case(module.eval(), {"hidden": states(0)}, axes, ["output"])


class First(nn.Module):
    """Takes `*tensors`, as every case's module does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.module(*tensors)


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True)

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        return self.attention(x, x, x, need_weights=False)[0]


class AttentionBlock(nn.Module):
    """x + attention(norm(x)), returning the attention weights too: an interior value that is an output."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(HIDDEN)
        self.attention_block = nn.ModuleList([nn.MultiheadAttention(HIDDEN, HEADS, batch_first=True)])

    def forward(self, *tensors: Tensor) -> Tensor:
        (x,) = tensors
        y = self.norm(x)
        return x + self.attention_block[0](y, y, y, need_weights=True)[0]


def layer(**options: object) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(HIDDEN, HEADS, FEED_FORWARD, batch_first=True, **options)


def encoder(attention: str) -> Case:
    return alone(First(nn.TransformerEncoder(layer(), LAYERS, enable_nested_tensor=False)))


def prenorm(attention: str) -> Case:
    block = layer(norm_first=True, activation="gelu")
    return alone(
        First(nn.TransformerEncoder(block, LAYERS, nn.LayerNorm(HIDDEN), enable_nested_tensor=False))
    )


def decoder(attention: str) -> Case:
    """Target and memory."""
    block = nn.TransformerDecoderLayer(HIDDEN, HEADS, FEED_FORWARD, batch_first=True)
    case = alone(First(nn.TransformerDecoder(block, LAYERS)))
    case.inputs["memory"] = states(1, 5)
    case.axes["memory"] = {0: "batch", 1: "memory_sequence"}
    return case


ARCHITECTURES: dict[str, Build] = {
    "transformer_encoder": encoder,
    "transformer_encoder_prenorm": prenorm,
    "transformer_decoder": decoder,
    "mha": lambda attention: alone(SelfAttention()),
    "mha_block": lambda attention: alone(AttentionBlock()),
}
