"""What the documentation says of the code is made from the code, and every diagnostic code is real."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from spikec.ir.codes import FAMILIES, RETIRED, as_markdown
from spikec.ir.diagnostics import CODES

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for folder in ("spikec", "passes", "runtime") for path in sorted((ROOT / folder).rglob("*.py"))
]
DEFINITIONS = ROOT / "spikec/ir/codes.py"


def test_the_documentation_of_codes_is_what_the_code_makes() -> None:
    remake = "run python -m spikec.ir.codes > docs/diagnostics.md"
    assert (ROOT / "docs/diagnostics.md").read_text(encoding="utf-8") == as_markdown(), remake


def test_every_code_told_exists_and_every_code_is_told() -> None:
    told = {
        code
        for path in SOURCES
        if path != DEFINITIONS
        for code in re.findall(r"\bSPK\d{3}\b", path.read_text(encoding="utf-8"))
    }
    assert told == CODES.keys()


def test_no_code_is_given_twice_or_anew() -> None:
    given = [
        key.value
        for node in ast.walk(ast.parse(DEFINITIONS.read_text(encoding="utf-8")))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and re.fullmatch(r"SPK\d{3}", str(key.value))
    ]
    assert len(given) == len(set(given)) == len(CODES)
    assert not RETIRED & CODES.keys()


@pytest.mark.parametrize("number", sorted(CODES))
def test_every_code_says_what_it_means_and_what_to_do(number: str) -> None:
    code = CODES[number]
    assert re.fullmatch(r"SPK\d{3}", number) and number[:4] in FAMILIES
    assert code.severity in ("note", "warning")
    assert code.title and code.title[0].islower() and not code.title.endswith(".")
    for text in (code.explanation, code.remedy):
        assert text[0].isupper() and text.endswith(".")
