"""The lm-evaluation-harness around a scorer: its task descriptions, prompts and metrics, on local data."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval.tasks
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from ..ir.diagnostics import SpikecError
from ..runtime.generate import generate
from ..text import end_token
from .compare import Scores
from .data import Document
from .scorer import Scorer

TASKS = {
    "wikitext": ("wikitext", "wikitext"),
    "lambada": ("lambada_openai", "lambada"),
    "wsc273": ("wsc273", "wsc273"),
    "piqa": ("piqa", "piqa"),
    "arc_easy": ("arc_easy", "arc"),
}
"""The harness's own name of each task, and the folder of its description."""
FILES = {"wsc273": "default"}
"""Descriptions that are not called what their task is."""
STRUCTURE = ("tag", "group", "task_list")
"""Keys of a description that say where it belongs."""
NEW_TOKENS = 256


class HarnessModel(TemplateLM):
    """A compiled model as the harness asks for one: three kinds of requests, log-likelihoods for all."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.begin: Callable[[int], object] = lambda tokens: None

    @property
    def eot_token_id(self) -> int:
        end = end_token(self.scorer.tokenizer)
        return self.scorer.beginning if end is None else end

    @property
    def prefix_token_id(self) -> int:
        return self.scorer.beginning

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        ids: list[int] = self.scorer.tokenizer.encode(
            string, add_special_tokens=add_special_tokens is not False
        ).ids
        return ids

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        pairs = [(before, after) for _, before, after in requests]
        self.begin(sum(len(sequence) - 1 for sequence in {tuple(b + a) for b, a in pairs}))
        return self.scorer.score(pairs)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """A text in windows without overlap, every token scored once, the first after the beginning token."""
        pairs, owner = [], []
        for place, request in enumerate(requests):
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.scorer.context, 1):
                pairs.append(make_disjoint_window(window))
                owner.append(place)
        self.begin(sum(len(before) + len(after) - 1 for before, after in pairs))
        totals = [0.0] * len(requests)
        for place, (value, _) in zip(owner, self.scorer.score(pairs), strict=True):
            totals[place] += value
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy text up to the first of the stopping strings, the end token or the asked length."""
        return [self._text(*request.args) for request in requests]

    def _text(self, context: str, options: dict[str, Any]) -> str:
        if options.get("do_sample"):
            raise SpikecError("only greedy text can be compared", fix="choose a task that does not sample")
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else list(until)
        count = int(options.get("max_gen_toks", NEW_TOKENS))
        prompt = self.tok_encode(context)[-max(self.scorer.context - count, 1) :]
        ids: list[int] = []
        text = ""
        for token in generate(self.scorer.session, self.scorer.inputs, prompt, count, end=self.eot_token_id):
            ids.append(token)
            text = self.scorer.tokenizer.decode(ids)
            if any(stop in text for stop in stops):
                break
        return min((text.split(stop)[0] for stop in stops), key=len, default=text)


def build(task: str, documents: list[Document]) -> Any:
    """The harness's task, as its own description has it, with the documents in the place of a download."""
    name, folder = TASKS[task]
    config = load_yaml(Path(lm_eval.tasks.__file__).parent / folder / f"{FILES.get(name, name)}.yaml")
    dataset = Dataset.from_list(documents)

    def local(**_: Any) -> dict[str, Dataset]:
        return {"test": dataset, "validation": dataset}

    config = {key: value for key, value in config.items() if key not in STRUCTURE}
    return ConfigurableTask(config=config | {"training_split": None, "custom_dataset": local})


def score(task: str, documents: list[Document], model: HarnessModel) -> Scores:
    """A task's metrics by the harness's evaluator."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars, one for each step
        built = build(task, documents)
        name = TASKS[task][0]
        result = evaluate(model, {name: built}, bootstrap_iters=0, log_samples=True)
    samples = result["samples"][name]
    aggregations = built.aggregation()
    return {m: ([sample[m] for sample in samples], aggregations[m]) for m in samples[0]["metrics"]}
