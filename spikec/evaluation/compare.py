"""A metric of both models with standard errors, by drawing the documents again, the same for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Scores = dict[str, tuple[list[Any], Callable[[list[Any]], float]]]
"""By metric: what each document gave, and how a number is made of all of them."""

DRAWS = 500
"""Bootstrap draws: a standard error is then known to about 3 %."""


@dataclass(frozen=True)
class Row:
    """One metric of one task on `documents` documents. `*_error` are standard errors by bootstrap; that of
    the difference (SNN - ANN) draws the same documents for both models, so what both find hard does not
    count. `same` is the share of documents with the same value from both, for metrics that are 0 or 1."""

    task: str
    metric: str
    documents: int
    ann: float
    snn: float
    difference: float
    ann_error: float
    snn_error: float
    difference_error: float
    same: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def row(
    task: str,
    metric: str,
    ann: Sequence[Any],
    snn: Sequence[Any],
    statistic: Callable[[list[Any]], float],
    draws: int = DRAWS,
) -> Row:
    """`statistic` of what each document gave, for both models."""
    count, random = len(ann), np.random.default_rng(0)
    drawn = np.empty((draws, 2))
    for draw in range(draws):
        places = random.integers(0, count, count)
        drawn[draw] = [statistic([values[i] for i in places]) for values in (ann, snn)]
    ann_error, snn_error = (float(np.std(values)) for values in drawn.T)
    difference_error = float(np.std(drawn[:, 1] - drawn[:, 0]))
    a, s = float(statistic(list(ann))), float(statistic(list(snn)))
    verdicts = all(not isinstance(value, tuple) and value in (0, 1) for value in (*ann, *snn))
    same = float(np.mean([x == y for x, y in zip(ann, snn)])) if verdicts else None
    return Row(task, metric, count, a, s, s - a, ann_error, snn_error, difference_error, same)


def rows(task: str, ann: Scores, snn: Scores) -> list[Row]:
    return [row(task, metric, ann[metric][0], snn[metric][0], ann[metric][1]) for metric in ann]


def as_text(found: Sequence[Row]) -> str:
    """A table of one line a metric."""
    lines = [f"{'task':<11}{'metric':<16}{'n':>6}{'ANN':>20}{'SNN':>20}{'difference':>20}  same answer"]
    for r in found:
        cells = (
            number(r.ann, r.ann_error),
            number(r.snn, r.snn_error),
            number(r.difference, r.difference_error, "+"),
        )
        same = "" if r.same is None else f"{100 * r.same:11.2f} %"
        values = "".join(f"{cell:>20}" for cell in cells)
        lines.append(f"{r.task:<11}{r.metric:<16}{r.documents:>6}{values}{same}".rstrip())
    return "\n".join([*lines, "± one standard error, by bootstrap over documents, paired for the difference"])


def number(value: float, error: float, sign: str = "") -> str:
    return f"{value:{sign}.5g} ± {error:.2g}"
