"""Runs the asked tasks on both models of a compiled folder."""

from __future__ import annotations

import difflib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tqdm import tqdm

from ..ir import graph as graphs
from ..ir.diagnostics import SpikecError, reason
from ..runtime.session import FILES as MODEL_FILES
from ..runtime.session import Compiled
from . import generation, sentences
from .compare import Row, Scores, rows
from .data import FILES, Document, documents
from .scorer import Scorer

MODELS = {"ann": "ann", "snn": "packed"}
LANGUAGE = ("wikitext", "lambada", "wsc273", "piqa", "arc_easy", "generation")
"""What is asked of a language model when nothing is named."""
ALIASES = {"lambada_openai": "lambada", "sts": "stsb", "wsc": "wsc273"}


@dataclass(frozen=True)
class Choices:
    """`limit` None takes all documents; `prompts` and `new_tokens` are those of generation."""

    data: Path
    limit: int | None = None
    context: int = 512
    prompts: int = 16
    new_tokens: int = 32
    native: bool | None = None
    threads: int = 0

    def check(self) -> None:
        """Raises SpikecError for a number that cannot be."""
        for option, value, least in (
            ("--limit", self.limit, 1),
            ("--context", self.context, 2),
            ("--prompts", self.prompts, 1),
            ("--new-tokens", self.new_tokens, 1),
            ("--threads", self.threads, 0),
        ):
            if value is not None and value < least:
                raise SpikecError(f"{value} is too small", where=option, fix=f"give {least} or more")


def chosen(names: str | None, compiled: Compiled) -> list[str]:
    """The tasks of a comma-separated list, or those that fit the model; SpikecError names the nearest."""
    if names is None:
        return list(LANGUAGE) if scores_tokens(compiled) else ["stsb"]
    asked = [ALIASES.get(name, name) for name in (word.strip() for word in names.split(",")) if name]
    for name in asked:
        if name not in FILES:
            near = difflib.get_close_matches(name, [*FILES, *ALIASES], 1, 0)[0]
            raise SpikecError(
                f"unknown task {name!r}",
                where="--tasks",
                why=f"there are {', '.join(FILES)}",
                fix=f"did you mean {ALIASES.get(near, near)}?",
            )
    if not asked:
        raise SpikecError("names no task", where="--tasks", fix=f"choose from {', '.join(FILES)}")
    return list(dict.fromkeys(asked))


def scores_tokens(compiled: Compiled) -> bool:
    """Whether an output may be over the vocabulary, by its declared size."""
    sizes = [
        value.type.tensor_type.shape.dim
        for value in graphs.read(compiled.folder / MODEL_FILES["ann"]).graph.output
    ]
    return any(not dims or dims[-1].dim_value in (0, compiled.vocabulary) for dims in sizes)


def harness() -> Any:
    """The part that needs the lm-evaluation-harness; SpikecError when it is not installed."""
    try:
        from . import harness as found
    except ImportError as error:
        raise SpikecError(
            "these tasks need the lm-evaluation-harness",
            why=reason(error),
            fix="pip install 'spikec[eval]', or ask for generation and stsb only",
        ) from error
    return found


def evaluate(
    compiled: Compiled, tokenizer: Tokenizer, tasks: list[str], choices: Choices
) -> Iterator[tuple[list[Row], dict[str, float]]]:
    """Each task's rows, and the seconds that each model took for it, as they come."""
    choices.check()
    data = {task: documents(task, choices.data) for task in tasks}
    if any(task not in ("generation", "stsb") for task in tasks):
        harness()
    scorers: dict[str, Scorer] = {}
    for task, found in data.items():
        if task != "generation":
            found = found[: choices.limit]
        scores: dict[str, Any] = {}
        seconds = {}
        for name, which in MODELS.items():
            if task != "stsb" and name not in scorers:
                scorers[name] = Scorer(
                    compiled,
                    which,
                    tokenizer,
                    context=choices.context,
                    native=choices.native,
                    threads=choices.threads,
                )
            start = time.perf_counter()
            with Bar(f"{task} {name}") as bar:
                model = scorers.get(name) if task != "stsb" else None
                scores[name] = measure(task, found, compiled, which, tokenizer, model, choices, bar)
            seconds[name] = time.perf_counter() - start
        if task == "generation":
            scores["ann"], scores["snn"] = generation.agreement(scores["ann"], scores["snn"])
        yield rows(task, scores["ann"], scores["snn"]), seconds


def measure(
    task: str,
    found: list[Document],
    compiled: Compiled,
    which: str,
    tokenizer: Tokenizer,
    scorer: Scorer | None,
    choices: Choices,
    bar: Bar,
) -> Any:
    """One model on one task: its scores, or its continuations."""
    if scorer is None:
        return embeddings(found, compiled, which, tokenizer, choices, bar)
    scorer.progress = bar.step
    if task == "generation":
        count = min(choices.prompts, choices.limit or choices.prompts)
        starts = generation.prompts(found, tokenizer, count)
        bar.begin(len(starts) * choices.new_tokens)
        return scorer.continuations(starts, choices.new_tokens)
    harnessed = harness()
    model = harnessed.HarnessModel(scorer)
    model.begin = bar.begin
    return harnessed.score(task, found, model)


def embeddings(
    found: list[Document], compiled: Compiled, which: str, tokenizer: Tokenizer, choices: Choices, bar: Bar
) -> Scores:
    sentences.check(compiled)
    texts = [sentence for document in found for sentence in document["sentences"]]
    bar.begin(sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts)))
    vectors = sentences.embed(
        compiled,
        which,
        tokenizer,
        texts,
        context=choices.context,
        native=choices.native,
        threads=choices.threads,
        progress=bar.step,
    )
    return sentences.scores(found, vectors)


class Bar:
    """Progress in tokens on stderr while a terminal watches; it keeps its stderr when others lose theirs."""

    def __init__(self, title: str) -> None:
        self.bar = tqdm(desc=title, total=0, file=sys.stderr, disable=None, leave=False, unit=" tokens")

    def begin(self, total: int) -> None:
        self.bar.reset(total)

    def step(self, tokens: int) -> None:
        self.bar.update(tokens)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
