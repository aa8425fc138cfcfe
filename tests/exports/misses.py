"""Which models are not recognised, and why not: `PYTHONPATH=. python tests/exports/misses.py [PART...]`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from exports import matrix


def miss(name: str) -> str:
    """What is wrong with what is found, or nothing."""
    try:
        found = matrix.recognised(name)
    except Exception as error:  # a crash is a miss like any other
        return f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    expected = matrix.expected(name)
    return ", ".join(f"{kind} {found[kind]} of {n}" for kind, n in expected.items() if found[kind] != n)


def main() -> int:
    parts = sys.argv[1:]
    names = [n for n in matrix.NAMES if not parts or any(part in n for part in parts)]
    started = time.perf_counter()
    misses = {name: said for name in names if (said := miss(name))}
    for name, said in misses.items():
        print(f"{name}: {said}")
    seconds = time.perf_counter() - started
    print(f"{len(names) - len(misses)} of {len(names)} recognised in {seconds:.1f} s")
    return 3 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
