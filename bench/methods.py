"""Every method on the bundled model and on SmolLM2, by timesteps: perplexity, divergence, events per synapse.

    python bench/methods.py --shared ../shared --cache DIR --work DIR [--only NAME ...] [--tokens 16384]
    python bench/methods.py --write

DIR of --cache is where `bench/models.py` put the models. What was measured is kept in bench/methods.json (a
run that was broken off goes on where it was; delete a row to measure it anew), from which --write makes the
tables of docs/methods.md. The ANN runs once; every network is compiled, scored on the same windows, and its
two executions are compared on a short input.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from methods_page import write

from spikec.compile import Settings, compile_model
from spikec.data import token_feeds
from spikec.ir.inputs import Feed, shorten, token_input
from spikec.ir.likelihood import log_softmax
from spikec.passes.methods import METHODS
from spikec.runtime.events import EventCounter
from spikec.runtime.session import Compiled, run
from spikec.verify import compare_executions

RESULTS = Path(__file__).with_suffix(".json")
STORY = Path(__file__).parent.parent / "examples" / "story"
SHORT = 16
"""Tokens on which unrolled and packed are compared."""
LONGEST_UNROLLED = 64
COUNTED = 128
"""Tokens on which the events of a stream are counted."""


@dataclass(frozen=True)
class Case:
    """One network: method, timesteps, options; `tokens` where it takes too long for all of them."""

    method: str
    timesteps: int
    options: dict[str, Any] = field(default_factory=dict)
    budget: str | None = None
    tokens: int | None = None
    weights: str = "fp32"

    @property
    def name(self) -> str:
        parts = [self.method, f"T={self.timesteps}", *(f"{k}={v}" for k, v in self.options.items())]
        return " ".join(parts + ([self.budget] if self.budget else []))


SOME, STREAMED = 2048, 512
"""Tokens for methods that are not in contention, and for those that really run all timesteps."""
CASES = (
    *(Case("auto", 8, budget=budget) for budget in ("events<=1.0", "ppl<=+1%")),
    *(Case("las", t, tokens=SOME) for t in (8, 6, 4, 16)),
    *(Case("auto", 8, budget=budget, tokens=SOME) for budget in ("ppl<=+0.1%", "events<=0.5")),
    *(Case("signed-if", t, tokens=SOME) for t in (160, 32)),
    *(Case("sta", t, tokens=SOME) for t in (8, 32)),
    *(Case("gif", 3, {"n_bits": n}, tokens=SOME) for n in (6, 4)),
    Case("gif", 5, {"n_bits": 6, "addbit": 2}, tokens=SOME),
    *(Case("int2spike", 8, {"k": k}, tokens=SOME) for k in (3.0, 8.0)),
    *(Case("dual", t, {"bits": 6}, tokens=SOME) for t in (3, 9)),
    Case("dual", 3, {"bits": 8, "range": "max"}, tokens=SOME),
    *(Case("delta", t, tokens=STREAMED) for t in (8, 4)),
    *(Case("ecmt", t, tokens=STREAMED) for t in (8, 4)),
    *(Case("dcgs", t, tokens=STREAMED) for t in (8, 4)),
    *(Case("fas", t, tokens=STREAMED) for t in (8, 16)),
    *(Case("dual", t, {"bits": 6, "allow_uneven": True, "stream": True}, tokens=STREAMED) for t in (2, 8)),
    *(Case("stbif", t, tokens=STREAMED) for t in (32, 64)),
    Case("las", 8, {"per_channel": True}, tokens=SOME),
)
MORE = {"story": 4}
"""A small model takes so many times more tokens of what SOME and STREAMED allow."""
MODELS = {
    "story": (STORY, STORY / "heldout.txt", STORY / "heldout.txt", 256),
    "smollm2": (None, "wikitext2-valid.txt", "wikitext2-test.txt", 512),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--work", type=Path, help="folder for the compiled networks")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--only", nargs="+", default=[], help="cases whose name begins with one of these")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--write", action="store_true", help="only make docs/methods.md from what is known")
    args = parser.parse_args()
    if args.work is not None:
        args.work.mkdir(parents=True, exist_ok=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not args.write:
        if args.cache is None or args.work is None:
            parser.error("--cache and --work are needed")
        for model in args.models:
            measure(model, args, results)
    write(results, {name: METHODS[name] for name in METHODS})
    return 0


def measure(model: str, args: argparse.Namespace, results: dict[str, Any]) -> None:
    folder, calibration, held_out, context = MODELS[model]
    folder = folder or args.cache / model
    calibration, held_out = (args.shared / "data" / str(path) for path in (calibration, held_out))
    known = results.setdefault(model, {"machine": platform.processor() or platform.machine(), "rows": {}})
    todo = [case for case in CASES if _wanted(case, args.only) and case.name not in known["rows"]]
    bench: Bench | None = None
    for case in todo:
        out = args.work / f"{model}-{case.name.replace(' ', '-').replace('<=', '')}"
        print(f"{model}: {case.name}", flush=True)
        try:
            program, feeds = _compile(case, folder, calibration, out, context, model == "story")
        except Exception as error:  # one method's trouble is a row, not the end of the table
            print(f"  {type(error).__name__}: {error}", flush=True)
            continue
        compiled = Compiled(out)
        if bench is None:
            every = token_feeds(
                compiled.inputs, held_out, folder / "tokenizer.json", args.tokens + 8192, context
            )
            windows = every[8192 // context :] if model == "story" else every
            bench = Bench(compiled, windows[: args.tokens // context])
        row = bench.score(compiled, case.tokens and case.tokens * MORE.get(model, 1))
        row |= {
            "method": case.method, "timesteps": case.timesteps,
            "options": case.options, "budget": case.budget,
            "level": METHODS[case.method].level, "compile_seconds": program.settings["seconds"],
            "compile_mb": program.settings["peak_mb"],
        }  # fmt: skip
        row["executions"] = _executions(compiled, feeds[0], case)
        if "pareto" in program.statistics:
            row["pareto"] = program.statistics["pareto"]
        known["rows"][case.name] = row
        RESULTS.write_text(json.dumps(results, indent=1))
        print(
            f"  {row['perplexity_change']:+.4%} perplexity, KL {row['kl']:.3e}, {row['events']}", flush=True
        )
        shutil.rmtree(out)
        gc.collect()


def _wanted(case: Case, only: list[str]) -> bool:
    return case.method in METHODS and (not only or any(case.name.startswith(name) for name in only))


def _compile(
    case: Case, folder: Path, calibration: Path, out: Path, context: int, story: bool
) -> tuple[Any, list[Feed]]:
    from spikec.data import calibration_feeds
    from spikec.ir.program import Program

    program = Program.load(folder / "model.onnx")
    tokens = 8192
    feeds = calibration_feeds(program, calibration, None, folder / "tokenizer.json", tokens, context)
    settings = Settings(
        case.method, case.timesteps, case.weights, options=case.options, budget=case.budget,
        search=out.parent / f"{out.name.split('-')[0]}.search.json" if case.method == "auto" else None,
    )  # fmt: skip
    compile_model(program, out, settings, feeds=feeds, calibration=f"{tokens} tokens of {calibration.name}")
    assert feeds is not None
    return program, feeds


def _executions(compiled: Compiled, feed: Feed, case: Case) -> dict[str, Any] | None:
    if case.timesteps > LONGEST_UNROLLED:
        return None
    return compare_executions(compiled, shorten(compiled.inputs, feed, SHORT))


def _events(compiled: Compiled, feed: Feed) -> dict[str, Any]:
    counter = EventCounter(compiled)
    counter.add(
        shorten(compiled.inputs, feed, COUNTED) if not compiled.report["method"]["collapses"] else feed
    )
    return counter.summary()


class Bench:
    """The windows, and the ANN's log-probabilities on them."""

    def __init__(self, compiled: Compiled, windows: list[Feed]) -> None:
        self.windows = windows
        tokens = token_input(compiled.inputs)
        assert tokens is not None
        self.ids = [feed[tokens][0] for feed in windows]
        self.output = compiled.outputs[0]
        session = compiled.session("ann")
        self.ann = [log_softmax(run(session, feed)[self.output][0]).astype(np.float32) for feed in windows]

    def score(self, compiled: Compiled, tokens: int | None) -> dict[str, Any]:
        session = compiled.session("packed")
        loss_a = loss_s = kl = 0.0
        rows = agree = targets = 0
        started = time.perf_counter()
        for ids, a, feed in self._windows(tokens):
            s = log_softmax(run(session, feed)[self.output][0]).astype(np.float32)
            at, wanted = np.arange(len(ids) - 1), ids[1:]
            loss_a -= float(a[at, wanted].sum(dtype=np.float64))
            loss_s -= float(s[at, wanted].sum(dtype=np.float64))
            kl += float((np.exp(a) * (a - s)).sum(dtype=np.float64))
            agree += int((a.argmax(-1) == s.argmax(-1)).sum())
            rows, targets = rows + len(ids), targets + len(wanted)
        seconds = time.perf_counter() - started
        return {
            "tokens": rows, "ann_perplexity": math.exp(loss_a / targets),
            "perplexity": math.exp(loss_s / targets),
            "perplexity_change": math.exp((loss_s - loss_a) / targets) - 1, "kl": kl / rows,
            "top1": agree / rows, "events": _events(compiled, self.windows[0]), "seconds": round(seconds, 1),
        }  # fmt: skip

    def _windows(self, tokens: int | None) -> Iterator[tuple[np.ndarray, np.ndarray, Feed]]:
        seen = 0
        for ids, a, feed in zip(self.ids, self.ann, self.windows, strict=True):
            if tokens is not None and seen >= tokens:
                return
            seen += len(ids)
            yield ids, a, feed


if __name__ == "__main__":
    sys.exit(main())
