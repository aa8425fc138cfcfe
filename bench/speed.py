"""Time of one forward pass: packed spiking model over ONNX Runtime's own fp32 model, interleaved in one run.

    python bench/speed.py out/ [out-int8/ ...] --length 128 --rounds 9

Prints the median of each and the ratio of medians. Only the ratio means anything: both run in the same
process, in turns, on the same threads.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from spikec.ir.inputs import feed_tokens
from spikec.runtime.session import Compiled

QUIET = 0.1
"""Seconds before each pass: the threads of the session that ran last spin for a while on the same cores."""


def measure(folders: list[Path], length: int, rounds: int, threads: int = 0) -> dict[str, float]:
    """Median milliseconds by name: "ann" of the first folder, then "packed" of each."""
    compiled = [Compiled(folder) for folder in folders]
    sessions = {"ann": compiled[0].session("ann", threads=threads)}
    sessions |= {str(c.folder): c.session("packed", threads=threads) for c in compiled}
    ids = np.random.default_rng(0).integers(0, compiled[0].vocabulary, (1, length))
    feed = feed_tokens(compiled[0].inputs, ids)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(rounds + 1):
        for name, session in sessions.items():
            time.sleep(QUIET)
            start = time.perf_counter()
            session.run(None, feed)
            if turn:
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="+", type=Path, help="compiled models of one original")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0, help="0: ONNX Runtime's choice")
    options = parser.parse_args()
    medians = measure(options.folder, options.length, options.rounds, options.threads)
    for name, milliseconds in medians.items():
        print(f"{name:<40} {milliseconds:9.1f} ms   {milliseconds / medians['ann']:6.2f} x ann")


if __name__ == "__main__":
    main()
