"""How long both models write the same text when each goes on from its own words."""

from __future__ import annotations

import numpy as np
from tokenizers import Tokenizer

from ..ir.diagnostics import SpikecError
from .compare import Scores
from .data import Document

PROMPT = 32
"""Tokens of a prompt: all of one length, so that a batch needs no padding."""


def prompts(documents: list[Document], tokenizer: Tokenizer, count: int) -> np.ndarray:
    """`[count, PROMPT]`: the beginnings of the first passages that are long enough."""
    found: list[list[int]] = []
    for document in documents:
        ids = tokenizer.encode(document["text"]).ids
        if len(ids) >= PROMPT:
            found.append(ids[:PROMPT])
        if len(found) == count:
            return np.array(found, np.int64)
    if not found:
        raise SpikecError(
            f"no passage has {PROMPT} tokens", where="generation", fix="give the data file as it is published"
        )
    return np.array(found, np.int64)


def agreement(ann: np.ndarray, snn: np.ndarray) -> tuple[Scores, Scores]:
    """Of continuations `[N, count]`: the share of places with the same token, and the tokens before the first
    that differs. The ANN's side is its agreement with itself: 1, and all of them."""
    count = ann.shape[1]
    same = ann == snn
    prefix = np.where(same.all(1), count, (~same).argmax(1))
    whole = np.full(len(ann), float(count))
    return (
        {"same_tokens": (np.ones(len(ann)).tolist(), mean), "common_prefix": (whole.tolist(), mean)},
        {"same_tokens": (same.mean(1).tolist(), mean), "common_prefix": (prefix.tolist(), mean)},
    )


def mean(values: list[float]) -> float:
    return float(np.mean(values))
