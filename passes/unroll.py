"""Chooses the execution: timesteps one by one (unrolled), or the same train collapsed to one integer
(packed).

Legal because every encoder re-encodes a decoded value and everything between is linear or telescopes (the
collapse theorem, methods §6.3): only attributes change, never the graph.
"""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import DOMAIN
from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

REWRITES = ("spike_linear", "spike_products", "spike_softmax", "spike_norms", "spike_activations")
EXECUTIONS = ("packed", "unrolled")


@compiler_pass(after=REWRITES)
def unroll(program: Program) -> None:
    graphs.prune(program.graph)
    graphs.sort(program.graph)
    set_execution(program.graph, "packed")


def set_execution(graph: gs.Graph, execution: str) -> None:
    """Sets steps, radix and train type of every spiking op."""
    for node in graph.nodes:
        if node.domain == DOMAIN:
            node.attrs.update(OPS[node.op].execution(dict(node.attrs), execution == "packed"))
            if "to" in node.attrs:
                node.outputs[0].dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attrs["to"])
                node.outputs[0].shape = None
