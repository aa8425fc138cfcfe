"""Events of a compiled model, counted on data: what every encoder fires, and at how many synapses.

    events per synapse = Σ_products Σ events · fan-out / Σ_products dense MACs

An event is one unit spike of a train, or one digit that is not zero where spikes are binary weighted
(`SpikingOp.events`). Its fan-out is the number of sums it enters: the outputs of a linear layer, or, in a
product of two activations, the rows or columns of the other operand. An operand of one step beside one of
several is state: it lies in memory, like weights, and the other's spikes read it. Dense MACs are those that
the ANN computes for the same input, masked positions of attention included. Counted from the packed codes,
whose digits are the unrolled spikes; of neurons that stream, from the spikes of every step, as of those of a
trained attention (`stepwise.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import DOMAIN
from spikec.ir import graph as graphs
from spikec.ir.inputs import Feed
from spikec.ir.loops import step_loop

from . import stepwise
from .session import FILES, Compiled, Encoder, run


@dataclass
class SiteEvents:
    """What one site did: values encoded, events fired, events times fan-out, and the dense MACs of its
    products (those of a product of two activations count at its left side)."""

    site: str
    kind: str
    values: int = 0
    events: int = 0
    synaptic: int = 0
    macs: int = 0


@dataclass(frozen=True)
class Reader:
    """One product that reads a train: `side` 0 or 1, the name of the other operand (a weight's columns, or a
    train)."""

    kind: str
    side: int
    other: str
    columns: int = 0


class EventCounter:
    """Counts over any number of inputs."""

    def __init__(self, compiled: Compiled, native: bool | None = None) -> None:
        self.encoders = {encoder.train: encoder for encoder in compiled.encoders("unrolled")}
        self.stepwise = stepwise.readers(compiled)
        outputs = [*self.encoders, *self.stepwise]
        self.session = compiled.session("packed", native=native, outputs=outputs)
        self.readers = _readers(compiled, self.encoders)
        self.sites = {
            train: SiteEvents(encoder.source, self._kind(train)) for train, encoder in self.encoders.items()
        }

    def _kind(self, train: str) -> str:
        return "linear" if any(reader.kind == "linear" for reader in self.readers[train]) else "product"

    def add(self, feed: Feed) -> None:
        found = run(self.session, feed)
        codes = {train: found[train][0] for train in self.encoders}  # of a stream, the first step's spikes
        for train, stepper in self.stepwise.items():
            site = self.sites.setdefault(train, SiteEvents(train, stepper.kind))
            values, events, synaptic, macs = stepper.count(found)
            site.values, site.events = site.values + values, site.events + events
            site.synaptic, site.macs = site.synaptic + synaptic, site.macs + macs
        for train, encoder in self.encoders.items():
            count = OPS[encoder.op].events
            assert count is not None
            code, site = codes[train], self.sites[train]
            fired = found[train] if encoder.streams else code
            events = int(count(fired, encoder.attributes).sum(dtype=np.int64))
            site.values += code.size
            site.events += events
            for reader in self.readers[train]:
                if reader.kind == "linear":
                    site.synaptic += events * reader.columns
                    site.macs += code.size * reader.columns
                    continue
                left, right = (code, codes[reader.other])[:: 1 if reader.side == 0 else -1]
                macs = _product_macs(left.shape, right.shape)
                site.macs += macs if reader.side == 0 else 0
                if not self._is_state(encoder, self.encoders[reader.other]):
                    site.synaptic += events * macs // max(1, code.size)

    @staticmethod
    def _is_state(own: Encoder, other: Encoder) -> bool:
        return own.attributes.get("steps", 1) == 1 and other.attributes.get("steps", 1) > 1

    def per_synapse(self, *kinds: str) -> float | None:
        """Events per synapse over sites of these kinds ("linear", "product"), or over all."""
        sites = [site for site in self.sites.values() if not kinds or site.kind in kinds]
        macs = sum(site.macs for site in sites)
        return sum(site.synaptic for site in sites) / macs if macs else None

    def summary(self) -> dict[str, Any]:
        """What a report keeps."""
        values = sum(site.values for site in self.sites.values())
        return {
            "events_per_synapse": self.per_synapse(),
            "linear": self.per_synapse("linear"),
            "products": self.per_synapse("product"),
            "events_per_value": sum(site.events for site in self.sites.values()) / values if values else None,
            "dense_macs": sum(site.macs for site in self.sites.values()),
        }


def _product_macs(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Multiplications of `left @ right`."""
    leading = np.broadcast_shapes(left[:-2], right[:-2])
    return math.prod(leading) * left[-2] * left[-1] * right[-1]


def _readers(compiled: Compiled, trains: dict[str, Encoder]) -> dict[str, list[Reader]]:
    """The products that read each train."""
    model = graphs.read(compiled.folder / FILES["packed"])
    loop = step_loop(model.graph)
    carried = {encoder.running: train for train, encoder in trains.items() if encoder.streams}
    columns = {tensor.name: tensor.dims[-1] for tensor in model.graph.initializer if len(tensor.dims) == 2}
    readers: dict[str, list[Reader]] = {train: [] for train in trains}
    for node in (*(loop[1].node if loop else ()), *model.graph.node):
        if node.domain != DOMAIN:
            continue
        inputs = [carried.get(name, name) for name in node.input]
        if node.op_type == "SpikeLinear" and inputs[0] in trains:
            readers[inputs[0]].append(Reader("linear", 0, inputs[1], columns[inputs[1]]))
        elif node.op_type == "SpikeMatMul":
            for side in (0, 1):
                if inputs[side] in trains:
                    readers[inputs[side]].append(Reader("product", side, inputs[1 - side]))
    return readers
