"""One encoder per site: however many layers read an activation, it is turned into spikes once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.ir.program import Program

from ..calibrate.neuron import Neuron


@dataclass(frozen=True)
class Train:
    """The spike train of a site; `worth`, when the neuron is dynamic, is what code 1 is worth at run time."""

    spikes: gs.Variable
    neuron: Neuron
    worth: gs.Variable | None


def train(program: Program, tensor: gs.Tensor) -> Train:
    """The spike train of `tensor`, added to the graph on first use."""
    trains: dict[str, Train] = program.settings.setdefault("trains", {})
    if tensor.name not in trains:
        neuron = program.neurons[tensor.name]
        constants = [
            program.constant(f"{tensor.name}/{part}", values) for part, values in neuron.constants.items()
        ]
        source = tensor if neuron.gains is None else _times(program, tensor, neuron.gains)
        inputs = [source, *constants]
        spikes = program.node(OPS[neuron.op], inputs, f"{tensor.name}/spikes", np.int32, **neuron.attributes)
        worth = None
        if neuron.dynamic:
            worth = gs.Variable(f"{tensor.name}/worth", dtype=np.float32)
            spikes.inputs[0].outputs.append(worth)
        trains[tensor.name] = Train(spikes, neuron, worth)
    return trains[tensor.name]


def _times(program: Program, tensor: gs.Tensor, gains: np.ndarray) -> gs.Variable:
    """Every channel in units of its own threshold."""
    result = gs.Variable(f"{tensor.name}/in_thresholds", np.float32, tensor.shape)
    constant = program.constant(f"{tensor.name}/gains", gains)
    program.graph.nodes.append(gs.Node("Mul", result.name, inputs=[tensor, constant], outputs=[result]))
    return result


def scaled(program: Program, current: gs.Variable, *trains: Train) -> gs.Variable:
    """A product of trains times what their codes are worth, where only run time tells."""
    for index, worth in enumerate(t.worth for t in trains):
        if worth is not None:
            name = f"{current.name}/worth_{index}"
            result = gs.Variable(name, current.dtype, current.shape)
            program.graph.nodes.append(gs.Node("Mul", name, inputs=[current, worth], outputs=[result]))
            current = result
    return current


def sample(
    program: Program, tensor: gs.Tensor, shape: tuple[int, ...], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | np.float32]:
    """(values like the site's, their code as a one-step train, what code 1 is worth besides the neuron's
    scale), for certificates."""
    x = program.statistics["sites"][tensor.name].draw(np.random.default_rng(seed), shape)
    return x, *program.neurons[tensor.name].encode(x)
