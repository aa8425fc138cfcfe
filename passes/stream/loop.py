"""The timesteps as one ONNX Loop: the model stays self-contained and runs wherever ONNX does."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.loops import STEP_BODY
from spikec.ir.program import Program

from .step import State, StepGraph, rank_of


def export_results(program: Program, step: StepGraph) -> list[gs.Variable]:
    """The running values that are read outside (`step.results`), each with a variable of its name for those
    readers."""
    inside = {id(node) for node in step.nodes}
    made = {id(o): o for node in step.nodes for o in node.outputs}
    outer: dict[int, gs.Variable] = {}

    def replaced(tensor: gs.Tensor) -> gs.Tensor:
        if id(tensor) not in made:
            return tensor
        if id(tensor) not in outer:
            outer[id(tensor)] = gs.Variable(tensor.name, tensor.dtype, tensor.shape)
            step.results.append(tensor)
        return outer[id(tensor)]

    for body in graphs.bodies(program.graph):
        for node in body.nodes:
            assert id(node) not in inside
            for index, tensor in enumerate(node.inputs):
                if id(tensor) in made:
                    node.inputs[index] = replaced(tensor)
        body.outputs[:] = [replaced(tensor) for tensor in body.outputs]
    for tensor in step.results:
        tensor.name = f"{tensor.name}/running"
    return list(outer.values())


def wrap(program: Program, step: StepGraph, outside: list[gs.Variable], timesteps: int) -> gs.Node:
    """One Loop of `timesteps` trips over the step; the result of each state's last step is an output too, by
    the state's name."""
    results = [State(step.remember(r.name, r.dtype, rank_of(program, r)), r, r.dtype) for r in step.results]
    carried = [*step.states, *results]
    last = [gs.Variable(state.name, state.dtype) for state in step.states]
    going, go = gs.Variable("spikec/going", np.bool_, ()), gs.Variable("spikec/go", np.bool_, ())
    body = gs.Graph(
        nodes=[*step.nodes, gs.Node("Identity", "spikec/go", inputs=[going], outputs=[go])],
        inputs=[step.index, going, *(state.before for state in carried)],
        outputs=[go, *(state.after for state in carried)],
        name=STEP_BODY,
        opset=program.graph.opset,
        import_domains=program.graph.import_domains,
    )
    zeros = [program.constant(f"spikec/zero_{s.start.dtype.name}_{s.start.ndim}", s.start) for s in carried]
    trips = program.constant("spikec/timesteps", np.array(timesteps, np.int64))
    always = program.constant("spikec/always", np.array(True))
    loop = gs.Node("Loop", "spikec/loop", attrs={"body": body}, inputs=[trips, always, *zeros])
    loop.outputs.extend([*last, *outside])
    program.graph.nodes.append(loop)
    return loop
