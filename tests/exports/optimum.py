"""Decoders as optimum exports them: explicit positions, and past keys and values in, present ones out."""

from __future__ import annotations

import torch
from exports.case import BATCH, Case, tokens
from torch import Tensor, nn
from transformers import DynamicCache

PAST = 3
"""What a sliding window of four keeps."""


class WithPast(nn.Module):
    """input_ids, attention_mask, position_ids, past.i.key, past.i.value ... -> logits, present.i.key ..."""

    def __init__(self, model: nn.Module, positions: bool) -> None:
        super().__init__()
        self.model, self.positions = model, positions

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        fixed = 3 if self.positions else 2
        ids, mask, past = tensors[0], tensors[1], tensors[fixed:]
        extra = {"position_ids": tensors[2]} if self.positions else {}
        cache = DynamicCache([*zip(past[::2], past[1::2])])
        result = self.model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra
        )
        layers = result.past_key_values.layers
        return (result.logits, *(tensor for layer in layers for tensor in (layer.keys, layer.values)))


def takes_positions(model: nn.Module) -> bool:
    return "position_ids" in model.forward.__code__.co_varnames


def with_past(case: Case) -> Case:
    """The case of `model(ids, mask)` as one step of generation after PAST tokens."""
    model = case.module.model
    with torch.no_grad():
        layers = model(**tokens(length=PAST), use_cache=True).past_key_values.layers
    inputs = tokens()
    length = inputs["input_ids"].shape[1]
    inputs["attention_mask"] = torch.cat(
        [torch.ones(BATCH, PAST, dtype=torch.long), inputs["attention_mask"]], 1
    )
    axes = {
        "input_ids": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "total_sequence"},
    }
    if takes_positions(model):
        inputs["position_ids"] = torch.arange(PAST, PAST + length).expand(BATCH, -1).contiguous()
        axes["position_ids"] = {0: "batch", 1: "sequence"}
    outputs = ["logits"]
    for index, layer in enumerate(layers):
        for kind, tensor in (("key", layer.keys), ("value", layer.values)):
            name = f"past_key_values.{index}.{kind}"
            inputs[name], axes[name] = tensor, {0: "batch", 2: "past_sequence"}
            outputs.append(f"present.{index}.{kind}")
    return Case(WithPast(model, takes_positions(model)), inputs, axes, outputs)


def with_positions(case: Case) -> Case:
    """The case without a cache, as optimum feeds it: position ids are an input where the model takes them."""
    model = case.module.model
    if not takes_positions(model):
        return case
    inputs = case.inputs | {
        "position_ids": torch.arange(case.inputs["input_ids"].shape[1]).expand(BATCH, -1).contiguous()
    }
    case.module.names = list(inputs)
    return Case(case.module, inputs, case.axes | {"position_ids": {0: "batch", 1: "sequence"}}, case.outputs)
