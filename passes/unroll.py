"""Chooses the execution: timesteps one by one (unrolled), or the same train collapsed to one integer
(packed).

Legal because every encoder re-encodes a decoded value and everything between is linear or telescopes (the
collapse theorem, methods §6.3): only attributes change, never the graph.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.custom_ops.oat_encode import spike_type
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
            node.attrs.update(_attributes(node, packed=execution == "packed"))
            if node.op == "OATEncode":
                node.outputs[0].dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attrs["to"])
                node.outputs[0].shape = None
            elif node.op == "SpikeFunction":
                node.outputs[0].dtype = np.dtype(np.int32)


def _attributes(node: gs.Node, packed: bool) -> dict[str, int]:
    bits = node.attrs.get("bits", 0)
    if node.op == "OATEncode":
        loudest = node.attrs["ratio"] ** (node.attrs["ranges"] - 1)
        if packed:
            return {"steps": 1, "radix": 2**bits, "to": spike_type(loudest * (2**bits - 1))}
        return {"steps": bits, "radix": 2, "to": spike_type(loudest)}
    if node.op in ("SpikeSoftmax", "SpikeRMSNorm", "SpikeLayerNorm"):
        return {"steps": 1, "radix": 2 ** (bits + 2)} if packed else {"steps": bits + 2, "radix": 2}
    if node.op == "SpikeFunction":
        return {"steps": 1 if packed else bits + 1}
    return {}
