"""A guess at the architecture by meaning: the features that are there, and the families that have them."""

from __future__ import annotations

from typing import Any

from ..ir.program import Program
from .families import first_fit
from .features import features
from .words import Features

NOTHING = "no transformer found"
ACTIVATIONS = {
    "gelu_erf": "GELU", "gelu_tanh": "tanh GELU", "quick_gelu": "quick GELU", "silu": "SiLU", "relu": "ReLU",
}  # fmt: skip
POSITIONS = {
    "rope": "RoPE", "alibi": "ALiBi", "relative": "relative position bias",
    "learned-positions": "absolute positions",
}  # fmt: skip


def identify(program: Program) -> dict[str, Any]:
    """`{"guess": one line, "family", "candidates", "evidence"}`; candidates cannot be told apart by what is
    looked at."""
    seen = features(program)
    if not program.of("attention"):
        return {"guess": NOTHING, "family": "", "candidates": [], "evidence": dict(seen.words)}
    family = first_fit({*seen.words})
    name = family.name if family else _generic(seen)
    if "cross" in seen and "encoder" not in seen:
        name = name.replace("encoder-decoder", "decoder, of an encoder-decoder")
    return {
        "guess": f"{name} ({_traits(seen)})",
        "family": name,
        "candidates": [m.strip() for m in family.members.split(",") if m.strip()] if family else [],
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
