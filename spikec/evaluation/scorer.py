"""Log-likelihoods and greedy texts of a compiled model, in batches of equal length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from ..ir.diagnostics import SpikecError
from ..ir.inputs import Feed, feed_tokens, fixed_tokens, token_input
from ..ir.roles import TOKENS
from ..runtime.generate import presents
from ..runtime.session import Compiled, run
from ..text import end_token
from ..verify import is_causal, log_softmax, over_vocabulary

BATCH = 512
"""Tokens a run: enough for a matrix product to be at its best, few enough for 100 MB of logits."""
PROBE = 4
Pair = tuple[list[int], list[int]]


class Scorer:
    """One session of a compiled causal language model.

    A batch holds sequences of one length, so no padding reaches a neighbour and an answer does not depend on
    what was asked beside it. A model exported for a fixed length gets its sequences filled up on the right,
    where a causal model does not look.

    Raises SpikecError when the model is no causal language model.
    """

    def __init__(
        self,
        compiled: Compiled,
        which: str,
        tokenizer: Tokenizer,
        *,
        context: int = 512,
        native: bool | None = None,
        threads: int = 0,
        batch: int = BATCH,
    ) -> None:
        self.inputs, self.tokenizer, self.batch = compiled.inputs, tokenizer, batch
        self.rows, self.length = fixed_tokens(compiled.inputs)
        self.context = min(context, self.length or context)
        self.progress: Callable[[int], object] = lambda tokens: None
        where = str(compiled.folder)
        fix = "measure it with spikec verify, or a sentence encoder with --tasks stsb"
        name = token_input(compiled.inputs)
        if name is None or sum(i.role.kind == TOKENS for i in compiled.inputs) > 1:
            raise SpikecError(
                "is no language model", where=where, why="it does not take the tokens of one text", fix=fix
            )
        self.session = compiled.session(which, native=native, threads=threads)
        probe = np.zeros((self.rows or 1, self.length or PROBE), np.int64)
        feed = feed_tokens(compiled.inputs, probe)
        self.output = over_vocabulary(compiled, run(self.session, feed), probe)
        if not self.output:
            raise SpikecError(
                "is no language model",
                where=where,
                why=f"no output has scores over a vocabulary of {compiled.vocabulary}",
                fix=fix,
            )
        if not is_causal(self.session, feed, name, self.output):
            raise SpikecError("is no causal language model", where=where, why="it sees later tokens", fix=fix)

    @property
    def beginning(self) -> int:
        """The token before a text: what the tokenizer puts there, else the one that ends texts, else 0."""
        first = self.tokenizer.encode("").ids
        end = end_token(self.tokenizer)
        return first[0] if first else end if end is not None else 0

    def run(self, ids: np.ndarray, past: Feed | None = None) -> Feed:
        """All outputs for `ids` `[batch, length]`, rows and positions that only fill up taken off."""
        batch, length = ids.shape
        fill = ((0, max((self.rows or 0) - batch, 0)), (0, max((self.length or 0) - length, 0)))
        result = run(self.session, feed_tokens(self.inputs, np.pad(ids, fill), past))
        return result | {self.output: result[self.output][:batch, :length]}

    def batches(self, sequences: Sequence[Sequence[int]]) -> Iterator[list[int]]:
        """Places of the sequences that are run together: of one length, the longest first."""
        by_length: dict[int, list[int]] = {}
        for place, sequence in enumerate(sequences):
            by_length.setdefault(len(sequence), []).append(place)
        for length, places in sorted(by_length.items(), reverse=True):
            count = self.rows or max(self.batch // (self.length or length), 1)
            yield from (places[i : i + count] for i in range(0, len(places), count))

    def score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """For each (context, continuation): log p(continuation | context) in nats, and whether greedy
        decoding would give it. What is longer than the window loses its beginning."""
        wanted: dict[tuple[int, ...], list[int]] = {}
        for place, (before, after) in enumerate(pairs):
            if len(after) > self.context:
                raise SpikecError(
                    f"a text to score has {len(after)} tokens",
                    where="--context",
                    why=f"a window is {self.context}",
                    fix="give a longer --context",
                )
            wanted.setdefault(tuple((before + after)[-self.context - 1 : -1]), []).append(place)
        sequences = list(wanted)
        answers: dict[int, tuple[float, bool]] = {}
        for together in self.batches(sequences):
            ids = np.array([sequences[i] for i in together], np.int64)
            logits = self.run(ids)[self.output]
            for row, i in zip(logits, together, strict=True):
                for place in wanted[sequences[i]]:
                    answers[place] = likelihood(row, pairs[place][1])
            self.progress(ids.size)
        return [answers[place] for place in range(len(pairs))]

    def continuations(self, prompts: np.ndarray, count: int) -> np.ndarray:
        """`[N, count]`: the likeliest next token, `count` times, after each of `prompts` `[N, length]`; a
        token that ends texts does not end these."""
        if self.length is not None:
            raise SpikecError(
                "cannot continue a text",
                where=self.session.where,
                why="the model takes a fixed number of tokens",
                fix="leave generation out of --tasks",
            )
        pairs = presents(self.inputs)
        size = self.rows or max(self.batch // (prompts.shape[1] + count), 1)
        done = []
        for start in range(0, len(prompts), size):
            ids = pending = prompts[start : start + size]
            past: Feed | None = None
            for _ in range(count):
                result = self.run(pending, past)
                token = result[self.output][:, -1].argmax(-1)[:, None]
                ids = np.concatenate([ids, token], 1)
                past = {name: result[present] for name, present in pairs.items()} if pairs else None
                pending = token if pairs else ids
                self.progress(len(ids))
            done.append(ids[:, prompts.shape[1] :])
        return np.concatenate(done)


def likelihood(logits: np.ndarray, after: list[int]) -> tuple[float, bool]:
    """log p of the tokens `after`, read off the last rows of logits `[length, vocabulary]`."""
    rows = log_softmax(logits[len(logits) - len(after) :])
    at = np.array(after)
    return float(rows[np.arange(len(at)), at].sum()), bool((rows.argmax(-1) == at).all())
