"""A model cut into levels at its sites: what is computed between the encoding of one site and of the next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from spikec.ir.inputs import Feed
from spikec.ir.program import Program
from spikec.ir.session import frugal
from spikec.ir.stream import Segment, Stream, node_reads

from .neuron import Neuron
from .respond import at, quantised, respond

DECODED = "/decoded"
"""What readers of a site get: the decoded value."""
Live = dict[str, list[np.ndarray]]
"""Running values by name: one a step, or a single one that never changes."""


class Levels(Stream):
    """Level n holds the nodes that read decoded sites of level n - 1 and before; `sites[n]` are made in it.

    The readers of a site that are converted read `<site>/decoded`; a site that is an input is read as it is.
    `keep` are values that every level hands on when it makes them. Sessions stay open, their weights in the
    mapped file.
    """

    def __init__(self, path: Path, program: Program, keep: Sequence[str]) -> None:
        super().__init__(path, str(program.source), _lean)
        self.keep = set(keep)
        wired = _readers(program)
        made: dict[str, int] = {}
        nodes: list[list[onnx.NodeProto]] = []
        for node in self.model.graph.node:
            sites = wired.get(node.output[0], set()) & self.values
            node.input[:] = [name + DECODED if name in sites else name for name in node.input]
            level = 0
            for name in node_reads(node):
                site = name.removesuffix(DECODED)
                level = max(level, made.get(site, -1) + 1 if name != site else made.get(name, 0))
            made |= {name: level for name in node.output}
            nodes += [[] for _ in range(level + 1 - len(nodes))]
            nodes[level].append(node)
        names = {site for sites in wired.values() for site in sites & self.values}
        self.sites = [[n for n in _made(level) if n in names] for level in nodes]
        self.values |= {name + DECODED for name in names}
        self.levels = [self._segment(level) for level in nodes]
        self.last = {name: number for number, level in enumerate(self.levels) for name in level.reads}
        later = set(self.outputs) | self.keep | names
        for segment in reversed(self.levels):
            segment.gives = [name for name in _made(segment.nodes) if name in later]
            later.update(segment.reads)

    def _segment(self, nodes: list[onnx.NodeProto]) -> Segment:
        own = set(_made(nodes))
        names = dict.fromkeys(name for node in nodes for name in node_reads(node))
        return Segment(
            nodes,
            {name: 0 for name in names if name in self.tensors},
            [name for name in names if name not in own and (name in self.values or name in self.inputs)],
        )

    def start(self, feed: Feed) -> Live:
        return {name: [value] for name, value in feed.items()}

    def compute(self, number: int, live: Live) -> Live:
        """What the level gives, a step after the other, or once where nothing that it reads changes."""
        level = self.levels[number]
        steps = max((len(live[name]) for name in level.reads), default=1)
        found: Live = {name: [] for name in level.gives}
        if not level.gives:
            return found
        for step in range(steps):
            feed = {name: at(live[name], step) for name in level.reads}
            level.session = level.session or self.open(level, feed)
            for name, value in zip(level.gives, level.session.run(level.gives, feed), strict=True):
                found[name].append(value)
        return found

    def hand_on(self, number: int, live: Live, made: Live) -> Live:
        """What later levels read."""
        kept = live | made
        return {name: value for name, value in kept.items() if self.last.get(name, -1) > number}

    def original(self, number: int, live: Live) -> tuple[Live, Live]:
        """(live values after a level of the original network, what it made)."""
        made = self.compute(number, live)
        read = {site + DECODED: made[site] for site in self.sites[number]}
        return self.hand_on(number, live, made | read), made

    def spiking(
        self, number: int, live: Live, neurons: dict[str, Neuron], timesteps: int
    ) -> tuple[Live, Live, dict[str, np.ndarray]]:
        """(live values after a level of the streaming network, what it made, last codes of its sites)."""
        made = self.compute(number, live)
        after, codes = self.fire(number, live, made, neurons, timesteps)
        return after, made, codes

    def fire(
        self, number: int, live: Live, made: Live, neurons: dict[str, Neuron], timesteps: int
    ) -> tuple[Live, dict[str, np.ndarray]]:
        """The same once the level is computed, without what it made."""
        read: Live = {}
        codes: dict[str, np.ndarray] = {}
        for site in self.sites[number]:
            read[site + DECODED], codes[site] = respond(neurons[site], made[site], timesteps)
        return self.hand_on(number, live, made | read), codes

    def chain(
        self, number: int, live: Live, neurons: dict[str, Neuron]
    ) -> tuple[Live, dict[str, np.ndarray]]:
        """Likewise of the network quantised by what the neurons are under constant input, without time."""
        made, codes = self.compute(number, live), {}
        read: Live = {}
        for site in self.sites[number]:
            value, codes[site] = quantised(neurons[site], made[site][-1])
            read[site + DECODED] = [value]
        return self.hand_on(number, live, made | read), codes

    def finish(self, number: int, live: Live) -> np.ndarray:
        """The model's first output when all from level `number` on is the original network, for the last
        step's values."""
        live = {name: value[-1:] for name, value in live.items()}
        made: Live = {}
        for rest in range(number, len(self.levels)):
            live, new = self.original(rest, live)
            made = made | {name: new[name] for name in self.outputs if name in new}
        return made[self.outputs[0]][-1]


def _lean() -> ort.SessionOptions:
    """With many sessions open, each would hold on to the memory of its last run."""
    settings = frugal()
    settings.enable_cpu_mem_arena = False
    return settings


def _made(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    return [name for node in nodes for name in node.output if name]


def _readers(program: Program) -> dict[str, set[str]]:
    """Which sites a node reads spikes of, by the node's first output."""
    found: dict[str, set[str]] = {}
    for finding in program.of("linear", "matmul_dynamic"):
        sources = {id(source) for source in finding.sources}
        for node in finding.nodes:
            names = {tensor.name for tensor in node.inputs if id(tensor) in sources}
            if names:
                found.setdefault(node.outputs[0].name, set()).update(names)
    return found
