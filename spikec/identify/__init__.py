"""A guess at the architecture by meaning: the features that are there, and the families that have them."""

from __future__ import annotations

from typing import Any

from ..ir.program import Program
from .families import fits
from .features import features
from .words import Features

NOTHING = "no transformer found"
ACTIVATIONS = {
    "gelu_erf": "GELU", "gelu_tanh": "tanh GELU", "quick_gelu": "quick GELU", "silu": "SiLU", "relu": "ReLU",
}  # fmt: skip
POSITIONS = {
    "rope": "RoPE", "alibi": "ALiBi", "relative": "relative position bias",
    "learned-positions": "learned positions",
}  # fmt: skip


def identify(program: Program) -> dict[str, Any]:
    """`{"guess": one line, "family", "candidates", "evidence"}`; candidates cannot be told apart by what is
    looked at."""
    seen = features(program)
    if not program.of("attention"):
        return {"guess": NOTHING, "family": "", "candidates": [], "evidence": dict(seen.words)}
    fitting = fits({*seen.words})
    family = fitting[0].name if fitting else _generic(seen)
    members = [m.strip() for f in fitting[:1] for m in f.members.split(",") if m.strip()]
    return {
        "guess": f"{family} ({_traits(seen)})",
        "family": family,
        "candidates": members,
        "evidence": dict(seen.words),
    }


def _generic(seen: Features) -> str:
    if "cross" in seen:
        return "encoder-decoder"
    return "decoder" if "causal" in seen else "transformer"


def _traits(seen: Features) -> str:
    """What a reader would call it: RMSNorm, RoPE, SiLU gate, GQA 9/3."""
    traits = [name for word, name in (("layernorm", "LayerNorm"), ("rmsnorm", "RMSNorm")) if word in seen]
    traits += [name for word, name in POSITIONS.items() if word in seen]
    if seen.activation:
        name = ACTIVATIONS.get(seen.activation, seen.activation)
        traits.append(f"{name} gate" if "gated" in seen else name)
    traits += [seen.heads] * bool(seen.heads)
    names = {
        "parallel": "parallel residual",
        "qk-norm": "QK norm",
        "router": "experts",
        "cross": "cross-attention",
    }
    return ", ".join(traits + [name for word, name in names.items() if word in seen])
