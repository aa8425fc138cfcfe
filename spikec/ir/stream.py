"""Runs a model one stretch of its graph after the other: only a part of its weights is ever in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from .census import graph_protos
from .diagnostics import SpikecError
from .inputs import Feed
from .session import Session, anchored, frugal

SEGMENT_BYTES = 1 << 30
"""Weights of one stretch: pages of a mapped file count as memory of whoever reads them, until it closes."""
SEGMENT_VALUES = 64
"""Values fetched from one stretch: each is there for one input at a time."""
SEGMENT_NODES = 1500
"""ONNX Runtime takes a second to load so many, and over a minute for ten thousand."""
KEPT_BYTES = 1 << 28
"""Weights of a model whose sessions stay open from one run to the next."""


@dataclass
class Segment:
    """Consecutive nodes, what they read from before, and what of theirs is asked for or read later."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    session: Session | None = None


class Stream:
    """A model file ready to be run in segments; those of a small model stay open between runs."""

    def __init__(
        self,
        model: Path | onnx.ModelProto,
        where: str = "",
        settings: Callable[[], ort.SessionOptions] = frugal,
    ) -> None:
        """`model` is a file, or a protobuf whose data are `anchored`."""
        self.model = anchored(model) if isinstance(model, Path) else model
        self.where, self.settings = where or str(model if isinstance(model, Path) else "the model"), settings
        graph = self.model.graph
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {value.name: value for value in graph.input if value.name not in self.tensors}
        self.outputs = [value.name for value in graph.output]
        self.values = {name for node in graph.node for name in node.output if name}
        self.plans: dict[tuple[str, ...], list[Segment]] = {}
        self.refused: SpikecError | None = None
        """Why no session can be made of it: no input helps."""

    def run(self, names: list[str] | None, feed: Feed) -> list[np.ndarray]:
        """The named values, or the model's outputs, in their order."""
        names = self.outputs if names is None else names
        found = {name: value for _, name, value in self.fetch([feed], names)}
        return [found[name] for name in names]

    def stages(
        self, feeds: list[Feed], names: list[str], cuts: Collection[str]
    ) -> Iterator[dict[str, list[np.ndarray]]]:
        """The named values of all feeds, by name, one segment of those that `cuts` make after the other. What
        is changed of `tensors` in between is what the segments after that read."""
        plan = self.plans[tuple(names)] = self.segments(names, cuts)
        values, wanted = self.fetch(feeds, names), set(names)
        for segment in plan:
            asked = sum(name in wanted for name in segment.gives)
            found: dict[str, list[np.ndarray]] = {}
            for _, name, value in itertools.islice(values, asked * len(feeds)):
                found.setdefault(name, []).append(value)
            yield found

    def fetch(
        self, feeds: list[Feed], names: list[str], progress: Callable[[int, int], None] | None = None
    ) -> Iterator[tuple[int, str, np.ndarray]]:
        """(number of the feed, name, value) of the named values, as they are computed."""
        if self.refused is not None:
            raise self.refused
        if tuple(names) not in self.plans:
            self.plans[tuple(names)] = self.segments(names)
        segments = self.plans[tuple(names)]
        live: list[Feed] = [dict(feed) for feed in feeds]
        last = {name: index for index, segment in enumerate(segments) for name in segment.reads}
        wanted = set(names)
        kept = len(segments) == 1 or sum(sum(s.weights.values()) for s in segments) <= KEPT_BYTES
        for index, feed in enumerate(live):
            yield from ((index, name, feed[name]) for name in names if name in feed and name in self.inputs)
        for number, segment in enumerate(segments):
            if not segment.nodes:
                continue
            session = segment.session or self.open(segment, live[0])
            segment.session = session if kept else None
            for index, values in enumerate(live):
                feed = {name: values[name] for name in segment.reads}
                for name, value in zip(segment.gives, session.run(segment.gives, feed), strict=True):
                    if name in wanted:
                        yield index, name, value
                    if last.get(name, -1) > number:
                        values[name] = value
                for name in segment.reads:
                    if last[name] == number:
                        del values[name]
                if progress:
                    progress(number * len(live) + index + 1, len(segments) * len(live))
            del session

    def segments(self, names: list[str], cuts: Collection[str] = ()) -> list[Segment]:
        """The nodes that `names` need, cut where the weights or the values asked for become too many, and
        after the nodes that make `cuts`."""
        needed, nodes = set(names), []
        for node in reversed(self.model.graph.node):
            if any(name in needed for name in node.output):
                nodes.append((node, reads := node_reads(node)))
                needed.update(reads)
        result, wanted, size, asked = [Segment()], set(names), 0, 0
        for node, reads in reversed(nodes):
            new = {name: _size(self.tensors[name]) for name in reads if name in self.tensors}
            segment, count = result[-1], sum(name in wanted for name in node.output)
            more = sum(new[name] for name in new if name not in segment.weights)
            full = size + more > SEGMENT_BYTES or asked + count > SEGMENT_VALUES
            if segment.nodes and (full or len(segment.nodes) >= SEGMENT_NODES):
                result.append(segment := Segment())
                size = asked = 0
                more = sum(new.values())
            size += more
            segment.nodes.append(node)
            segment.weights |= new
            asked += count
            if any(name in cuts for name in node.output):
                result.append(Segment())
                size = asked = 0
        later = set(names)
        for segment in reversed(result):
            made = [name for node in segment.nodes for name in node.output if name]
            segment.gives = [name for name in made if name in later]
            own, read = set(made), dict.fromkeys(name for node in segment.nodes for name in node_reads(node))
            segment.reads = [n for n in read if n not in own and (n in self.values or n in self.inputs)]
            later.update(segment.reads)
        return result

    def open(self, segment: Segment, feed: Feed) -> Session:
        part = onnx.ModelProto(ir_version=self.model.ir_version)
        part.opset_import.extend(self.model.opset_import)
        part.functions.extend(self.model.functions)
        part.graph.name = "segment"
        part.graph.node.extend(segment.nodes)
        part.graph.initializer.extend(self.tensors[name] for name in segment.weights)
        part.graph.input.extend(self.inputs.get(name) or _typed(name, feed[name]) for name in segment.reads)
        part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in segment.gives)
        try:
            return Session(part, self.settings(), where=self.where)
        except SpikecError as error:
            self.refused = error
            raise


def node_reads(node: onnx.NodeProto) -> list[str]:
    """Names that the node and its bodies read; what a body makes for itself is among them."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for body in graph_protos(graph):
                names.extend(name for inner in body.node for name in inner.input if name)
                names.extend(value.name for value in body.output)
    return names


def _size(tensor: onnx.TensorProto) -> int:
    """Bytes of memory: ONNX Runtime widens half precision to float32, beside the mapped file."""
    itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return math.prod(tensor.dims) * (itemsize + 4 if tensor.data_type in HALF else itemsize)


HALF = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def _typed(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, None)
