"""Calibrates θ and v₀ one block at a time, inputs taken from the blocks converted before it, weights frozen.

Dual's layer-wise calibration (OpenReview nzkObUsajY, methods §1.3.3) and FAS's coarse to fine (arXiv
2502.04405, methods §1.2.3), without gradients: min over θ, v₀ of ‖Σ_t ŷ_t - y‖² at every site of a block, by
a search over all candidates at once; then a block keeps the fine step, the coarse one or neither, by the
divergence of the model's output on a window that was held out, all later blocks being the original ones. Cost
is linear in the blocks but for that last run. `program.statistics["layerwise"]` tells what it did to the
paper's error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikec.ir.inputs import Feed, feed_windows, fixed_tokens, token_input
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

from .integrate import tunable
from .levels import Levels, Live
from .neuron import Neuron
from .tune import tune

WINDOW, HELD_OUT = 192, 64
"""Tokens of a calibration window and of the one held out, where the model takes any number."""
ROWS = 160
"""Rows that a search looks at."""


@compiler_pass(after=["choose_thresholds"])
def calibrate_layers(
    program: Program, *, model: Path, feeds: list[Feed], progress: Callable[[int, int], None] | None = None
) -> None:
    """For streaming methods; options of the method: `calibrate` (false: measures only) and
    `calibration_tokens`."""
    options = program.settings["options"]
    blocks = _block_outputs(program)
    levels = Levels(model, program, list(blocks.values()))
    fit, held = windows(program, feeds, options["calibration_tokens"])
    if not options["calibrate"]:
        fit = []
    Calibration(program, levels, blocks, fit, held, progress or (lambda done, of: None)).run()


def windows(program: Program, feeds: list[Feed], tokens: int) -> tuple[list[Feed], Feed]:
    """(inputs to fit on, the one held out): windows cut short where the model takes any length."""
    inputs = program.settings["inputs"]
    name = token_input(inputs)
    if name is None or fixed_tokens(inputs) != (None, None) or feeds[0][name].ndim != 2:
        return (feeds[:-1] or feeds)[: max(1, tokens // WINDOW)], feeds[-1]
    ids = [feed[name] for feed in feeds]
    held = feed_windows(inputs, ids[-1][-1:, -HELD_OUT:])[0]
    length = min(WINDOW, ids[0].shape[1])
    parts = np.concatenate([row[:, : row.shape[1] // length * length].reshape(-1, length) for row in ids])
    parts = parts[:-1] if len(parts) > 1 else parts  # the last is where the one held out comes from
    keep = np.linspace(0, len(parts) - 1, min(max(1, tokens // length), len(parts))).astype(int)
    return feed_windows(inputs, parts[keep]), held


def _block_outputs(program: Program) -> dict[int, str]:
    """The last residual sum of every block."""
    return {f.block: f.name for f in program.of("residual") if f.block >= 0}


@dataclass
class Calibration:
    """One run over the levels; every input is carried along as `Live` values of all steps."""

    program: Program
    levels: Levels
    blocks: dict[int, str]
    fit: list[Feed]
    held: Feed
    progress: Callable[[int, int], None]
    done: int = 0
    chosen: dict[int, str] = field(default_factory=dict)
    divergence: dict[int, float] = field(default_factory=dict)

    def run(self) -> None:
        program, levels = self.program, self.levels
        self.timesteps = program.settings["timesteps"]
        self.of = (4 if self.fit else 3) * len(levels.levels)
        self.reference = self._original()
        before, first = self._errors(program.neurons)
        after, last = before, first
        if self.fit:
            self._calibrate()
            after, last = self._errors(program.neurons)
        program.statistics["layerwise"] = self._summary(before, after) | {
            "divergence_before": first,
            "divergence_after": last,
        }

    def _tick(self) -> None:
        self.done += 1
        self.progress(min(self.done, self.of), self.of)

    def _original(self) -> dict[str, np.ndarray]:
        """Block outputs, and the model's, of the original network on the held-out input."""
        live = self.levels.start(self.held)
        found: dict[str, np.ndarray] = {}
        for number in range(len(self.levels.levels)):
            live, made = self.levels.original(number, live)
            found |= {name: made[name][-1] for name in self.levels.keep & made.keys()}
            found |= {name: made[name][-1] for name in self.levels.outputs[:1] if name in made}
        return found

    def _errors(self, neurons: dict[str, Neuron]) -> tuple[dict[str, float], float]:
        """The paper's error ‖Σ_t ŷ_t - y‖ / ‖y‖, the mean over tokens, of every block output; and how far the
        output diverges. Counts on the way what differs from the chain of quantisers (`mismatch`)."""
        levels, found = self.levels, {}
        live, chain = levels.start(self.held), levels.start(self.held)
        wrong = active = total = 0
        output = self.reference[levels.outputs[0]]
        for number in range(len(levels.levels)):
            live, made, codes = levels.spiking(number, live, neurons, self.timesteps)
            chain, wanted = levels.chain(number, chain, neurons)
            for site in levels.sites[number]:
                step = neurons[site].step
                if step is not None and step.op != "DeltaStep":
                    differs, lit = codes[site] != wanted[site], (codes[site] != 0) | (wanted[site] != 0)
                    wrong, active, total = wrong + differs.sum(), active + lit.sum(), total + differs.size
            for name in levels.keep & made.keys():
                found[name] = relative(made[name][-1], self.reference[name])
            if levels.outputs[0] in made:
                output = made[levels.outputs[0]][-1]
            self._tick()
        self.mismatch = {
            "codes": int(total),
            "differ": int(wrong),
            "of_active": float(wrong / max(int(active), 1)),
        }
        return found, divergence(output, self.reference[levels.outputs[0]])

    def _groups(self) -> list[tuple[int, list[int]]]:
        """(block, its levels), in order, up to the last site; a level belongs to the block that reads its
        sites."""
        readers: dict[str, int] = {}
        for finding in self.program.of("linear", "matmul_dynamic"):
            for source in finding.sources:
                readers[source.name] = min(finding.block, readers.get(source.name, finding.block))
        groups: list[tuple[int, list[int]]] = []
        ending = max((number for number, sites in enumerate(self.levels.sites) if sites), default=-1)
        for number, sites in enumerate(self.levels.sites[: ending + 1]):
            block = max((readers[site] for site in sites), default=-1)
            if not groups or (block != groups[-1][0] and block >= 0):
                groups.append((block, []))
            groups[-1][1].append(number)
        return groups

    def _calibrate(self) -> None:
        levels, neurons = self.levels, self.program.neurons
        fit, held = [levels.start(feed) for feed in self.fit], levels.start(self.held)
        originals = [levels.start(feed) for feed in self.fit]
        for block, numbers in self._groups():
            ways: dict[str, dict[str, Neuron]] = {"coarse": {}, "fine": {}}
            ahead = fit
            for number in numbers:
                steps = [levels.original(number, live) for live in originals]
                originals = [live for live, _ in steps]
                ahead = self._level(number, ahead, [made for _, made in steps], ways)
                self._tick()
            if not ways["fine"]:
                fit, held = ahead, self._advance(numbers, held, neurons)
                continue
            tried = {}
            for way, tuned in {"neither": {}, **ways}.items():
                live = self._advance(numbers, held, neurons | tuned)
                output = levels.finish(numbers[-1] + 1, live)
                tried[way] = divergence(output, self.reference[levels.outputs[0]]), live
            way = min(reversed(tried), key=lambda name: tried[name][0])
            self.chosen[block], (self.divergence[block], held) = way, tried[way]
            neurons.update(ways.get(way, {}))
            fit = ahead if way == "fine" else [self._advance(numbers, live, neurons) for live in fit]

    def _level(
        self, number: int, fit: list[Live], originals: list[Live], ways: dict[str, dict[str, Neuron]]
    ) -> list[Live]:
        """The fitting inputs one level on, its sites tuned."""
        levels = self.levels
        made = [levels.compute(number, live) for live in fit]
        for site in levels.sites[number]:
            neuron = self.program.neurons[site]
            if tunable(neuron):
                steps = max(len(part[site]) for part in made)
                running = [picked([part[site][t] for part in made]) for t in range(steps)]
                target = picked([part[site][-1] for part in originals])
                weight = self.program.statistics["sites"][site].weight
                ways["coarse"][site], ways["fine"][site] = tune(
                    neuron, running, target, weight, self.timesteps
                )
        neurons = self.program.neurons | ways["fine"]
        return [
            levels.fire(number, live, part, neurons, self.timesteps)[0]
            for live, part in zip(fit, made, strict=True)
        ]

    def _advance(self, numbers: list[int], live: Live, neurons: dict[str, Neuron]) -> Live:
        for number in numbers:
            live, *_ = self.levels.spiking(number, live, neurons, self.timesteps)
        return live

    def _summary(self, before: dict[str, float], after: dict[str, float]) -> dict[str, Any]:
        return {
            "measure": "mean over held-out tokens of |sum_t y(t) - y| / |y|, by block",
            "fitted_on": int(sum(next(iter(feed.values())).size for feed in self.fit)),
            "held_out": int(next(iter(self.held.values())).size),
            "blocks": {
                str(block): {
                    "before": before[name], "after": after[name], "kept": self.chosen.get(block, "nothing"),
                }
                for block, name in self.blocks.items() if name in before
            },
            "chain_mismatch": self.mismatch,
        }  # fmt: skip


def picked(values: list[np.ndarray]) -> np.ndarray:
    """Up to ROWS rows, evenly spread, of values `[..., C]` of several inputs."""
    rows = np.concatenate([value.reshape(-1, value.shape[-1]) for value in values])
    return rows[np.linspace(0, len(rows) - 1, min(ROWS, len(rows))).astype(int)]


def relative(got: np.ndarray, want: np.ndarray) -> float:
    """Mean over rows of ‖got - want‖ / ‖want‖."""
    off = np.linalg.norm((got - want).astype(np.float64), axis=-1)
    return float((off / np.maximum(np.linalg.norm(want.astype(np.float64), axis=-1), 1e-12)).mean())


def divergence(got: np.ndarray, want: np.ndarray) -> float:
    """Mean KL of next-token scores, in nats; of outputs with few values a row, their relative error."""
    if want.ndim < 3 or want.shape[-1] < 256:
        return relative(got, want)
    p, q = (log_softmax(x.reshape(-1, x.shape[-1])) for x in (want, got))
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(-1, keepdims=True)))
