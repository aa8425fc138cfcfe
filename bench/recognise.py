"""Time to recognise: reading the file, normalising, and finding everything, over the whole matrix.

    python bench/recognise.py [MODEL.onnx ...]

Without models it takes the stored exports of tests/exports. Prints the sum, the median, the slowest, and how
the time divides among the passes. Nothing is timed but what `spikec inspect` does with a file.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import onnx

from spikec.compile import FRONT
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.passes.methods import METHODS

SLOWEST = 5


def recognise(path: Path) -> tuple[float, Counter[str]]:
    """(seconds in all, seconds by pass, reading the file included)."""
    start = time.perf_counter()
    program = Program.load(path)
    by_pass = Counter({"load": time.perf_counter() - start})
    program.settings["method"] = METHODS["las"]
    pipeline.run(program, FRONT, {}, [pipeline.Stopwatch()])
    by_pass.update({timing["pass"]: timing["seconds"] for timing in program.timings})
    return time.perf_counter() - start, by_pass


def stored(folder: Path) -> dict[str, Path]:
    """The matrix, written out as plain files before anything is timed."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    from exports import matrix

    paths = {name: folder / f"{name}.onnx" for name in matrix.NAMES}
    for name, path in paths.items():
        onnx.save(matrix.load(name), path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="*", type=Path)
    models = {str(path): path for path in parser.parse_args().model}
    with tempfile.TemporaryDirectory() as folder:
        models = models or stored(Path(folder))
        seconds: dict[str, float] = {}
        by_pass: Counter[str] = Counter()
        for name, path in models.items():
            seconds[name], spent = recognise(path)
            by_pass.update(spent)
    print(
        f"{len(seconds)} models in {sum(seconds.values()):.2f} s; "
        f"median {1000 * statistics.median(seconds.values()):.0f} ms"
    )
    for name in sorted(seconds, key=seconds.__getitem__)[: -SLOWEST - 1 : -1]:
        print(f"  {1000 * seconds[name]:8.0f} ms  {name}")
    for name, spent in by_pass.most_common():
        print(f"  {100 * spent / sum(seconds.values()):7.1f} %  {name}")


if __name__ == "__main__":
    main()
