"""Greedy text from a model: with its cache of keys and values when it has one, else by running all again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed, ModelInput, feed_tokens
from spikec.ir.roles import CACHE, TOKENS
from spikec.ir.session import Session


def presents(inputs: Iterable[ModelInput]) -> dict[str, str] | None:
    """The output that each cache input grows into; None for a model without a cache, or with half a one."""
    pairs = {i.name: i.role.present for i in inputs if i.role.kind == CACHE}
    return pairs if pairs and all(pairs.values()) else None


def generate(
    session: Session,
    inputs: Iterable[ModelInput],
    prompt: list[int],
    count: int,
    *,
    end: int | None = None,
    vocabulary: int | None = None,
    cache: bool = True,
) -> Iterator[int]:
    """The likeliest next token, `count` times or until `end`. Without `cache` every step runs the whole
    sequence again, which gives the same tokens."""
    inputs, ids = list(inputs), list(prompt)
    if sum(i.role.kind == TOKENS for i in inputs) > 1:
        raise SpikecError(
            "cannot continue a text",
            where=session.where,
            why="it takes a source and a target text",
            fix="measure it with spikec verify --npz",
        )
    pairs = presents(inputs) if cache else None
    past: Feed | None = None
    pending = ids
    for _ in range(count):
        result = _run(session, feed_tokens(inputs, np.array([pending]), past))
        token = int(np.argmax(_logits(session, result, vocabulary)[0, -1]))
        if token == end:
            return
        yield token
        ids.append(token)
        if pairs is None:
            pending = ids
        else:
            past = {name: result[present] for name, present in pairs.items()}
            pending = [token]


def _run(session: Session, feed: Feed) -> Feed:
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def _logits(session: Session, result: Feed, vocabulary: int | None) -> np.ndarray:
    """The output `[batch, length, vocabulary]`."""
    first = next(iter(result.values()))
    fitting = (v for v in result.values() if v.ndim == 3 and v.shape[-1] == (vocabulary or v.shape[-1]))
    logits = next(fitting, None)
    if logits is None:
        raise SpikecError(
            "cannot continue a text",
            where=session.where,
            why=f"its output {list(first.shape)} is not over the vocabulary",
            fix="measure it with spikec verify --npz",
        )
    return logits
