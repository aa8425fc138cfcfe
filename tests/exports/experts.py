"""Mixtures of experts of transformers, with the four ways their experts are made exportable.

transformers' own loop runs only over the experts that tokens chose, which no exporter can follow.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import transformers as hf
from exports.case import Build, Case, case, tokens
from exports.decoders import GROUPED
from exports.vision import spread
from torch import Tensor, nn
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

EXPERTS, CHOSEN, EXPERT_FEED_FORWARD = 4, 2, 56


def dense(self: nn.Module, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Every expert on every token, weighted by the router (zero for those not chosen)."""
    scores = torch.zeros(hidden.shape[0], EXPERTS).to(weights).scatter(1, chosen, weights)
    result = torch.zeros_like(hidden)
    for index in range(EXPERTS):
        gate, up = F.linear(hidden, self.gate_up_proj[index]).chunk(2, dim=-1)
        result = result + scores[:, index, None] * F.linear(self.act_fn(gate) * up, self.down_proj[index])
    return result


def routed(self: nn.Module, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """Every expert on the tokens that chose it, gathered and scattered, as optimum patches the loop."""
    result = torch.zeros_like(hidden)
    mask = F.one_hot(chosen, EXPERTS).permute(2, 1, 0)
    for index in range(EXPERTS):
        rank, token = torch.where(mask[index])
        gate, up = F.linear(hidden[token], self.gate_up_proj[index]).chunk(2, dim=-1)
        output = F.linear(self.act_fn(gate) * up, self.down_proj[index]) * weights[token, rank, None]
        result = result.index_add(0, token, output)
    return result


def stacked(self: nn.Module, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
    """All experts at once: products with the stacks [experts, in, out]."""
    scores = torch.zeros(hidden.shape[0], EXPERTS).to(weights).scatter(1, chosen, weights)
    gate, up = torch.matmul(hidden[None], self.gate_up_proj.transpose(1, 2)).chunk(2, dim=-1)
    outputs = torch.matmul(self.act_fn(gate) * up, self.down_proj.transpose(1, 2))
    return (outputs * scores.transpose(0, 1)[:, :, None]).sum(0)


for way in (dense, routed, stacked):
    ALL_EXPERTS_FUNCTIONS.register(way.__name__, way)


def mixture(name: str, way: str, **sizes: object) -> Build:
    """`way`: one of the above, or transformers' batched_mm, which gathers a matrix for each token."""

    def build(attention: str) -> Case:
        torch.manual_seed(0)
        config = getattr(hf, f"{name}Config")(
            **GROUPED | sizes, num_experts_per_tok=CHOSEN, attn_implementation=attention
        )
        config._experts_implementation = way
        model = getattr(hf, f"{name}ForCausalLM")(config).eval()
        return case(spread(model), tokens(), ["logits"], use_cache=False)

    return build


MIXTRAL = {"num_local_experts": EXPERTS, "intermediate_size": EXPERT_FEED_FORWARD}
QWEN = {"num_experts": EXPERTS, "moe_intermediate_size": EXPERT_FEED_FORWARD}

ARCHITECTURES: dict[str, Build] = {
    "mixtral": mixture("Mixtral", "batched_mm", **MIXTRAL),
    "mixtral_dense": mixture("Mixtral", "dense", **MIXTRAL),
    "mixtral_routed": mixture("Mixtral", "routed", **MIXTRAL),
    "mixtral_stacked": mixture("Mixtral", "stacked", **MIXTRAL),
    "qwen2_moe": mixture("Qwen2Moe", "dense", **QWEN, shared_expert_intermediate_size=64),
    "qwen3_moe": mixture("Qwen3Moe", "stacked", **QWEN, head_dim=16, norm_topk_prob=True),
    "gpt_oss": mixture("GptOss", "batched_mm", **MIXTRAL, head_dim=16, sliding_window=4),
}
