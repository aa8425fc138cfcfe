"""Passes: functions of a Program with declared order and typed options; instruments hang on the pipeline."""

from __future__ import annotations

import inspect
import resource
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import networkx as nx

from .program import Program


@dataclass(frozen=True)
class Pass:
    name: str
    run: Callable[..., None]
    after: tuple[str, ...]

    @property
    def options(self) -> dict[str, Any]:
        """Keyword options with their defaults."""
        return {
            name: p.default for name, p in inspect.signature(self.run).parameters.items() if name != "program"
        }


PASSES: dict[str, Pass] = {}


def compiler_pass(*, after: Iterable[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a pass: `fn(program, *, option=default, ...) -> None`, to run after the named passes."""

    def declare(fn: Callable[..., None]) -> Callable[..., None]:
        PASSES[fn.__name__] = Pass(fn.__name__, fn, tuple(after))
        return fn

    return declare


class Instrument(Protocol):
    """Something that watches the pipeline from outside: timing, dumps, checks, progress."""

    def before(self, program: Program, name: str, index: int, count: int) -> None: ...
    def after(self, program: Program, name: str, index: int, count: int) -> None: ...


def order(passes: Iterable[str]) -> list[str]:
    """Topological order by `after`; raises KeyError for an unknown pass."""
    chosen = list(passes)
    wanted = nx.DiGraph()
    wanted.add_nodes_from(chosen)
    for name in chosen:
        wanted.add_edges_from((before, name) for before in PASSES[name].after if before in chosen)
    return list(nx.lexicographical_topological_sort(wanted, key=chosen.index))


def run(
    program: Program, passes: Iterable[str], options: dict[str, Any], instruments: Iterable[Instrument] = ()
) -> None:
    """Runs the passes in order; each takes from `options` the ones it declares."""
    names = order(passes)
    watchers = list(instruments)
    for index, name in enumerate(names):
        for watcher in watchers:
            watcher.before(program, name, index, len(names))
        declared = PASSES[name].options
        PASSES[name].run(program, **{key: value for key, value in options.items() if key in declared})
        for watcher in watchers:
            watcher.after(program, name, index, len(names))


class Stopwatch:
    """Seconds and peak resident memory of every pass, into `program.timings`."""

    def before(self, program: Program, name: str, index: int, count: int) -> None:
        self.start = time.perf_counter()

    def after(self, program: Program, name: str, index: int, count: int) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        program.timings.append(
            {
                "pass": name,
                "seconds": round(time.perf_counter() - self.start, 3),
                "peak_mb": round(peak),
                "nodes": len(program.graph.nodes),
            }
        )
