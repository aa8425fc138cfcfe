"""How an Einsum of two operands is one matrix product: indices are common, added up, or one side's own."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Operands in `order`, transposed by `left_perm` and `right_perm`, given new axes of one at `*_new`, then
    multiplied as matrices; of the result the axes `drop` go, and `out_perm` puts the rest in place.

    `weight` says that the right operand is constant and shares with the left only the `added` indices."""

    order: tuple[int, int]
    left_perm: list[int]
    right_perm: list[int]
    out_perm: list[int]
    left_new: list[int]
    right_new: list[int]
    drop: list[int]
    added: int
    weight: bool


def plan(equation: str, ranks: Sequence[int | None], constant: Sequence[bool]) -> Plan | None:
    """None for what is no matrix product: an index twice in a term or summed alone, an unknown rank."""
    parsed = _terms(equation, ranks)
    if parsed is None:
        return None
    terms, out = parsed
    order = (1, 0) if constant[0] and not constant[1] else (0, 1)
    a, b = terms[order[0]], terms[order[1]]
    if any(len(set(t)) != len(t) for t in (a, b, out)) or not set(out) <= set(a) | set(b):
        return None
    common = [c for c in out if c in a and c in b]
    added = [c for c in a if c in b and c not in out]
    rows, columns = [c for c in out if c in a and c not in b], [c for c in out if c in b and c not in a]
    if not added or len(added) + len(common) + len(rows) != len(a):
        return None
    if len(added) + len(common) + len(columns) != len(b):
        return None
    if constant[order[1]] and not common:
        made = rows + columns
        return Plan(
            order, _where(a, rows + added), _where(b, added + columns), _where(made, out), [], [], [],
            len(added), True,
        )  # fmt: skip
    if len(added) != 1:
        return None
    # of several own indices the last is the matrix's; the others are common ones that the other side repeats
    lone_rows, lone_columns = rows[:-1], columns[:-1]
    lead = common + lone_rows + lone_columns
    left = common + lone_rows + rows[-1:] + added
    right = common + lone_columns + added + columns[-1:]
    before = len(common)
    left_new = [before + len(lone_rows) + i for i in range(len(lone_columns))]
    right_new = [before + i for i in range(len(lone_rows))]
    drop = []
    if not rows:
        left_new.append(len(lead))
        drop.append(len(lead))
    if not columns:
        right_new.append(len(lead) + 1)
        drop.append(len(lead) + 1)
    made = lead + rows[-1:] + columns[-1:]
    return Plan(
        order, _where(a, left), _where(b, right), _where(made, out), left_new, right_new, drop, 1, False
    )


def _where(given: Sequence[str], wanted: Sequence[str]) -> list[int]:
    return [list(given).index(c) for c in wanted]


def _terms(equation: str, ranks: Sequence[int | None]) -> tuple[list[list[str]], list[str]] | None:
    """The indices of each operand and of the result; an ellipsis becomes indices of its own."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != 2:
        return None
    spare = [c for c in string.ascii_letters if c not in equation]
    widest = 0
    for text, rank in zip(texts, ranks, strict=True):
        if "..." in text:
            if rank is None:
                return None
            widest = max(widest, rank - len(text) + 3)
    dots = spare[:widest]
    terms = []
    for text, rank in zip(texts, ranks, strict=True):
        front, some, back = text.partition("...")
        middle = dots[widest - (rank - len(text) + 3) :] if some and rank is not None else []
        terms.append([*front, *middle, *back])
    if arrow:
        front, some, back = right.partition("...")
        return terms, [*front, *(dots if some else []), *back]
    letters = [c for c in left if c.isalpha()]
    return terms, dots + sorted(c for c in set(letters) if letters.count(c) == 1)
