"""Which nodes run in every timestep: those between the first spiking operator and the last encoder's
readers."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from spikec.custom_ops.spec import DOMAIN
from spikec.ir import graph as graphs
from spikec.ir.diagnostics import SpikecError
from spikec.ir.program import Program

from ..rewrite.encode import Train

RAGGED = {"NonZero", "Unique", "Compress"}
"""Operators after which the number of rows of an activation may change from step to step."""


def stepped_nodes(graph: gs.Graph, trains: list[Train]) -> list[gs.Node]:
    """The nodes that depend on a spiking operator and that an encoder depends on, and the readers of trains,
    in the graph's order. What lies before is constant in time or the input current; what lies after (the last
    residual, the final norm, a dense head) reads the running values once the last step is done."""
    after: set[int] = set()
    for node in graph.nodes:
        reads = (*node.inputs, *graphs.subgraph_inputs(node))
        if node.domain == DOMAIN or any(id(maker) in after for t in reads for maker in t.inputs):
            after.add(id(node))
    stack = [maker for train in trains if (maker := graphs.producer(train.spikes)) is not None]
    stack += [reader for train in trains for reader in train.spikes.outputs]
    needed: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in after and id(node) not in needed:
            needed.add(id(node))
            stack += [m for t in (*node.inputs, *graphs.subgraph_inputs(node)) for m in t.inputs]
    return [node for node in graph.nodes if id(node) in needed]


def check_steady(program: Program, nodes: list[gs.Node]) -> None:
    """Raises SpikecError where the rows of an activation are chosen at run time: a neuron's state belongs to
    a row."""
    for node in nodes:
        if node.op in RAGGED:
            raise SpikecError(
                f"{node.op} node {node.name!r} chooses rows at run time",
                where=str(program.source),
                why="which rows those are may change from step to step, and a neuron's state belongs to one",
                fix="take a method that collapses: spikec methods says which",
            )


def input_currents(nodes: list[gs.Node], trains: list[Train]) -> list[gs.Variable]:
    """What arrives from outside as input current: values read by a norm or by an encoder. All else that is
    read from outside (masks, rotations, caches) is there from the start."""
    inside = {id(node) for node in nodes}
    encoders = {id(graphs.producer(train.spikes)) for train in trains}
    found: dict[int, gs.Variable] = {}
    for node in nodes:
        if node.op in ("SpikeRMSNorm", "SpikeLayerNorm") or id(node) in encoders:
            source = node.inputs[0]
            maker = graphs.producer(source)
            if isinstance(source, gs.Variable) and (maker is None or id(maker) not in inside):
                found[id(source)] = source
    return list(found.values())
