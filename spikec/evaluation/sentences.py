"""Sentence encoders on STS-B: cosine of mean-pooled embeddings against human scores, by Spearman's rho."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tokenizers import Tokenizer

from ..ir.diagnostics import SpikecError
from ..ir.inputs import Feed, ModelInput, feed_tokens, fixed_tokens, token_input
from ..ir.roles import MASK
from ..runtime.session import Compiled, run
from .compare import Scores
from .data import Document

BATCH = 2048
"""Tokens a run."""


def embed(
    compiled: Compiled,
    which: str,
    tokenizer: Tokenizer,
    texts: list[str],
    *,
    context: int = 512,
    native: bool | None = None,
    threads: int = 0,
    progress: Callable[[int], object] = lambda tokens: None,
    batch: int = BATCH,
) -> np.ndarray:
    """`[N, width]`: the mean of a text's token vectors, its special tokens among them, padding left out.

    Texts are run with others of their own length, so an embedding does not depend on its neighbours; a model
    exported for a fixed length gets padding, hidden by its mask. One vector a text is taken as it is. Raises
    SpikecError for a model that gives neither.
    """
    session = compiled.session(which, native=native, threads=threads)
    rows, length = fixed_tokens(compiled.inputs)
    ids = [tokenizer.encode(text).ids[: min(context, length or context)] for text in texts]
    found: dict[int, np.ndarray] = {}
    for size in sorted({len(sentence) for sentence in ids}, reverse=True):
        places = [place for place, sentence in enumerate(ids) if len(sentence) == size]
        count = rows or max(batch // (length or size), 1)
        for start in range(0, len(places), count):
            some = places[start : start + count]
            feed = padded(compiled.inputs, np.array([ids[i] for i in some], np.int64), rows, length)
            output = next(iter(run(session, feed).values()))
            found |= zip(some, pooled(compiled, output, size))
            progress(len(some) * size)
    return np.array([found[place] for place in range(len(texts))], np.float64)


def padded(inputs: list[ModelInput], ids: np.ndarray, rows: int | None, length: int | None) -> Feed:
    """The feed, filled up to the batch and length that the model was exported for."""
    batch, size = ids.shape
    fill = ((0, max((rows or 0) - batch, 0)), (0, max((length or 0) - size, 0)))
    feed = feed_tokens(inputs, np.pad(ids, fill))
    if length is None or size == length:
        return feed
    masks = [i.name for i in inputs if i.role.kind == MASK and feed[i.name].ndim == 2]
    if not masks:
        raise SpikecError(
            f"takes exactly {length} tokens and no mask for padding",
            where="the model",
            fix="export it with a free length or an attention mask",
        )
    for name in masks:
        feed[name][:, size:] = 0
    return feed


def pooled(compiled: Compiled, output: np.ndarray, size: int) -> np.ndarray:
    """One vector a text of the model's first output."""
    vectors = output if output.ndim == 2 else output[:, :size].mean(1, dtype=np.float64)
    if output.ndim not in (2, 3) or vectors.shape[-1] in (1, compiled.vocabulary):
        raise SpikecError(
            "is no sentence encoder",
            where=str(compiled.folder),
            why=f"its output {list(output.shape)} is no vector a token",
            fix="leave stsb out of --tasks",
        )
    return vectors


def check(compiled: Compiled) -> None:
    """Raises SpikecError when the model is not fed by the tokens of a text."""
    if token_input(compiled.inputs) is None:
        raise SpikecError(
            "is no sentence encoder",
            where=str(compiled.folder),
            why="it does not take token ids alone",
            fix="leave stsb out of --tasks",
        )


def similarities(vectors: np.ndarray) -> np.ndarray:
    """`[N]`: the cosine of vectors 2i and 2i + 1 of `[2N, width]`."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.einsum("nw,nw->n", unit[::2], unit[1::2])


def scores(documents: list[Document], vectors: np.ndarray) -> Scores:
    human = [document["score"] for document in documents]
    return {"spearman": (list(zip(human, similarities(vectors).tolist())), spearman)}


def spearman(pairs: list[tuple[float, float]]) -> float:
    """Spearman's rank correlation of pairs: Pearson's of the ranks, tied values sharing their mean rank."""
    left, right = (ranks(np.array(side)) for side in zip(*pairs))
    left, right = left - left.mean(), right - right.mean()
    scale = np.sqrt((left @ left) * (right @ right))
    return float(left @ right / scale) if scale else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[where]
