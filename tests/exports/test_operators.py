"""`docs/operators.md` is what the matrix makes."""

from __future__ import annotations

from pathlib import Path

from exports import matrix, operators

DOCUMENT = Path(__file__).parents[2] / "docs/operators.md"


def test_the_document_is_current() -> None:
    remake = "run PYTHONPATH=.:tests python -m exports.operators > docs/operators.md"
    assert DOCUMENT.read_text(encoding="utf-8") == operators.document(), remake


def test_every_model_has_a_column() -> None:
    assert {operators.maker(name) for name in matrix.NAMES} == set(operators.MAKERS.values())


def test_every_operator_of_every_model_has_a_row() -> None:
    rows = operators.survey(matrix.NAMES).rows
    for name in matrix.NAMES:
        assert matrix.seen(name).ops.keys() <= rows.keys()
    assert all(row.uses for row in rows.values())
