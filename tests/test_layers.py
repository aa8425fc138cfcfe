"""Imports point downward only, and compiling never needs a training framework."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = {"custom_ops": 0, "spikec/ir": 1, "passes": 2, "runtime": 3, "spikec": 4}
PACKAGES = {
    "custom_ops": "spikec/custom_ops",
    "passes": "spikec/passes",
    "runtime": "spikec/runtime",
    "spikec": "spikec",
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of everything a file imports, relative ones resolved as installed."""
    folder, _, rest = path.relative_to(ROOT).as_posix().partition("/")
    package = f"{PACKAGES[folder]}/{rest}".split("/")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def floor(dotted: str) -> int:
    name = dotted.replace(".", "/").removeprefix("spikec/") + "/"
    below = (
        height for start, height in FLOORS.items() if name.startswith(start.removeprefix("spikec/") + "/")
    )
    return next(below, FLOORS["spikec"])


def test_imports_point_downward() -> None:
    files = [path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))]
    arrows = [
        (path.relative_to(ROOT), name)
        for path in files
        for name in imports(path)
        if name.startswith("spikec.")
    ]
    assert len(files) > 50 and len(arrows) > 100
    upward = [
        f"{path} -> {name}" for path, name in arrows if floor(name) > floor(path.with_suffix("").as_posix())
    ]
    assert upward == []


def test_no_training_framework_is_imported() -> None:
    code = "import sys, spikec.compile, spikec.verify\nprint({'torch', 'transformers'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT, check=True
    )
    assert result.stdout == "set()\n"
