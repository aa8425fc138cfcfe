"""`docs/fused.md`, made by PYTHONPATH=.:tests python -m fused_table > docs/fused.md"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from operators import Case

from spikec.passes.normalise.fused import FORMS
from spikec.passes.normalise.fused.whole import WHOLE

TESTS = Path(__file__).parent / "passes"
HEADER = """# Fused operators

<!-- Made by `PYTHONPATH=.:tests python -m fused_table > docs/fused.md`. -->

Operators that do several things at once are taken apart into plain ones before anything is recognised, so
that a fused model is recognised and converted as the same model before its fusion. Every variant below is run
whole in ONNX Runtime (or by its definition, where no kernel for CPUs exists) and taken apart, at two batch
sizes and lengths; the outputs agree to 1e-5.

| operator | variants tested |
|---|---|
"""
KEPT = """
These stay whole, on host, and each is told (`SPK401`):

| operator | why |
|---|---|
"""


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def cases() -> dict[tuple[str, str], list[str]]:
    """The names of the variants of every operator, in the order of the tests."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(TESTS.glob("test_decompose_*.py")):
        for table in vars(module(path)).values():
            if isinstance(table, dict):
                for name, case in table.items():
                    if isinstance(case, Case):
                        found.setdefault((case.domain, case.op), []).append(name)
    return found


def title(key: tuple[str, str]) -> str:
    return f"`{key[0] or 'ai.onnx'}` `{key[1]}`"


def document() -> str:
    tested = cases()
    rows = [f"| {title(key)} | {'; '.join(tested[key])} |" for key in sorted(FORMS) if key in tested]
    kept = [f"| {title(key)} | {WHOLE[key]} |" for key in sorted(WHOLE)]
    return HEADER + "\n".join(rows) + "\n" + KEPT + "\n".join(kept) + "\n"


if __name__ == "__main__":
    print(document(), end="")
