"""How far the surrogate's outputs are from the ANN's: divergence, perplexity, cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spikec.ir.inputs import Feed, token_input
from spikec.ir.likelihood import log_softmax
from spikec.ir.program import Program
from spikec.ir.session import Session


@dataclass(frozen=True)
class Quality:
    """`kl` in nats a token and `ppl` (change of perplexity as a share) where an output scores the vocabulary,
    else None; `cosine` of all outputs; `distance` is what a search minimises: kl, or 1 - cosine."""

    kl: float | None
    ppl: float | None
    cosine: float

    @property
    def distance(self) -> float:
        return self.kl if self.kl is not None else 1 - self.cosine

    def value(self, measure: str) -> float | None:
        return {"kl": self.kl, "ppl": self.ppl, "cosine": self.cosine}[measure]


class Reference:
    """The ANN's outputs on some feeds, to be compared with."""

    def __init__(self, program: Program, session: Session, feeds: list[Feed]) -> None:
        self.feeds = feeds
        self.outputs = [output.name for output in session.get_outputs()]
        self.given = [session.run(self.outputs, feed) for feed in feeds]
        tokens = token_input(program.settings["inputs"])
        self.ids = [feed[tokens] for feed in feeds] if tokens else None
        vocabulary = program.settings.get("vocabulary")
        self.scores = next(
            (
                index
                for index, values in enumerate(self.given[0])
                if self.ids is not None
                and values.ndim == 3
                and values.shape == (*self.ids[0].shape, vocabulary)
            ),
            None,
        )

        self.known: list[list[np.ndarray]] = [
            [log_softmax(scores).astype(np.float32) for scores in given[self.scores]]
            for given in self.given
            if self.scores is not None
        ]

    def compare(self, session: Session, fixed: Feed) -> Quality:
        kl = loss_a = loss_b = dot = left = right = 0.0
        rows = targets = 0
        for index, (feed, given) in enumerate(zip(self.feeds, self.given, strict=True)):
            got = session.run(self.outputs, feed | fixed)
            for a, b in zip(given, got, strict=True):
                x, y = a.reshape(-1).astype(np.float32), b.reshape(-1).astype(np.float32)
                dot, left, right = dot + float(x @ y), left + float(x @ x), right + float(y @ y)
            if self.scores is None or self.ids is None:
                continue
            for p, b, ids in zip(self.known[index], got[self.scores], self.ids[index], strict=True):
                q = log_softmax(b).astype(np.float32)
                kl += float((np.exp(p) * (p - q)).sum(dtype=np.float64))
                rows += len(p)
                at, wanted = np.arange(len(p) - 1), ids[1:]
                loss_a -= float(p[at, wanted].sum(dtype=np.float64))
                loss_b -= float(q[at, wanted].sum(dtype=np.float64))
                targets += len(wanted)
        cosine = dot / math.sqrt(left * right) if left and right else float(left == right)
        if not rows:
            return Quality(None, None, cosine)
        return Quality(kl / rows, math.exp((loss_b - loss_a) / max(1, targets)) - 1, cosine)
