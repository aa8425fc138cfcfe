"""Models not yet recognised; as a script it tries them all, says what is wrong, and writes the list again.

`PYTHONPATH=. python tests/exports/pending.py [PART OF A NAME...]` (with names it only says).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from exports import matrix

LIST = Path(__file__).with_name("pending.txt")


def read() -> set[str]:
    return set(LIST.read_text().split()) if LIST.exists() else set()


def miss(name: str) -> str:
    """What is wrong with what is found, or nothing."""
    try:
        found = matrix.recognised(name)
    except Exception as error:  # a crash is a miss like any other
        return f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
    wrong = {
        kind: (count, found[kind]) for kind, count in matrix.expected(name).items() if count != found[kind]
    }
    return ", ".join(f"{kind} {found} of {count}" for kind, (count, found) in wrong.items())


def main() -> None:
    parts = sys.argv[1:]
    names = [n for n in matrix.NAMES if not parts or any(part in n for part in parts)]
    started = time.perf_counter()
    misses = {name: said for name in names if (said := miss(name))}
    for name, said in misses.items():
        print(f"{name}: {said}")
    seconds = time.perf_counter() - started
    print(f"{len(names) - len(misses)} of {len(names)} recognised in {seconds:.1f} s")
    if not parts:
        LIST.write_text("".join(f"{name}\n" for name in misses))


if __name__ == "__main__":
    main()
