"""Streaming execution, for methods whose neurons do not collapse: all layers run concurrently in every step.

`stream` moves the graph between the first spiking operator and the last encoder's readers into one Loop over
the timesteps, in which every encoder has become its neuron's step; latency is T steps in all instead of T a
layer. There a layer computes on the running code (packed); `unroll_events` makes it
accumulate the step's own spikes instead (unrolled).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import DOMAIN
from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

from ..rewrite.encode import Train
from .arrival import shares
from .loop import export_results, wrap
from .region import check_steady, input_currents, stepped_nodes
from .step import StepGraph, event_driven, step_graph

__all__ = ["step_graph", "stream", "unroll_events"]


@compiler_pass(after=["unroll"])
def stream(program: Program, *, seed: int = 0) -> None:
    """For methods that do not collapse. Their options: `arrival` (front, even, uneven) and `settle` (the last
    steps, in which no input arrives any more)."""
    trains: list[Train] = list(program.settings["trains"].values())
    nodes = stepped_nodes(program.graph, trains)
    check_steady(program, nodes)
    currents = input_currents(nodes, trains)
    step = step_graph(program, nodes, trains)
    for current in currents:
        _arrive(program, step, current, seed)
    outside = export_results(program, step)
    program.settings["stream"] = (step, outside)
    _wrap(program)


def _arrive(program: Program, step: StepGraph, current: gs.Variable, seed: int) -> None:
    """Readers inside the step get the running value of the input current."""
    options, timesteps = program.settings["options"], program.settings["timesteps"]
    arrival, settle = options.get("arrival", "front"), options.get("settle", 0)
    if arrival == "front":
        return
    size = current.shape[-1] if current.shape else None
    channels = size if isinstance(size, int) else None
    table = shares(arrival, timesteps, timesteps - settle, channels, seed)
    inside = {id(node) for node in step.nodes}
    readers = [node for node in current.outputs if id(node) in inside]
    arrived = program.constant(f"{current.name}/shares", table)
    share = step.add("Gather", [arrived, step.index], f"{current.name}/share", np.float32)
    running = step.add("Mul", [current, share], f"{current.name}/arrived", np.float32)
    running.shape = current.shape
    for reader in readers:
        for index, tensor in enumerate(reader.inputs):
            if tensor is current:
                reader.inputs[index] = running


def _wrap(program: Program) -> None:
    step, outside = program.settings["stream"]
    program.settings["loop"] = wrap(program, step, outside, program.settings["timesteps"])
    graphs.sort(program.graph)


def unroll_events(program: Program) -> None:
    """Turns the packed loop of a streaming program into the event-driven one; there is no way back."""
    step, _ = program.settings["stream"]
    loop = program.settings["loop"]
    program.graph.nodes.remove(loop)
    loop.inputs.clear()
    loop.outputs.clear()
    event_driven(program, step)
    for node in step.nodes:
        if node.domain == DOMAIN and OPS[node.op].events is None:  # an encoder only tells what is wanted
            node.attrs.update(OPS[node.op].execution(dict(node.attrs), False))
    _wrap(program)
