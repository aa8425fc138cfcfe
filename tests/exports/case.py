"""What is exported: a tiny torch module of plain tensors, example inputs by name, and their dynamic axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BATCH, LENGTH = 2, 7
VOCABULARY = 101
SPREAD = 0.15
"""Standard deviation of the weights: about 1 / sqrt(hidden size), so that attention is not uniform."""


@dataclass
class Case:
    module: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, dict[int, str]]
    outputs: list[str]


Build = Callable[[str], Case]
"""Takes the attention implementation, "eager" or "sdpa"."""


class Plain(nn.Module):
    """A transformers model with tensors in, given by name, and the chosen tensors out."""

    def __init__(self, model: nn.Module, names: list[str], outputs: list[str], **fixed: object) -> None:
        super().__init__()
        self.model, self.names, self.outputs, self.fixed = model, names, outputs, fixed

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        result = self.model(**dict(zip(self.names, tensors)), **self.fixed)
        return tuple(getattr(result, name) for name in self.outputs)


def tokens(batch: int = BATCH, length: int = LENGTH) -> dict[str, Tensor]:
    """Token ids, and a mask that hides the end of the last sequence."""
    ids = torch.randint(3, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, -2:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def axes_of(inputs: dict[str, Tensor]) -> dict[str, dict[int, str]]:
    """Batch and length of token inputs, the batch of everything else."""
    return {
        name: {0: "batch", 1: "sequence"} if tensor.dim() == 2 else {0: "batch"}
        for name, tensor in inputs.items()
    }


def case(model: nn.Module, inputs: dict[str, Tensor], outputs: list[str], **fixed: object) -> Case:
    return Case(Plain(model, list(inputs), outputs, **fixed), inputs, axes_of(inputs), outputs)


def make_trained(module: nn.Module, seed: int = 1) -> None:
    """Biases and gains become different from the zeros and ones they start as, as training makes them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


def fill_padding(module: nn.Module, seed: int = 2) -> None:
    """The padding token's embedding is not zero, so that a stored table is noise throughout."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 2 and not (kept := parameter.abs().sum(1) != 0).all():
                filled = SPREAD * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(torch.where(kept[:, None], parameter, filled))
