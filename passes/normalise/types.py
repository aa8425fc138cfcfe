"""Type and shape of every value, by ONNX's own inference on the graph without its weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.order import bodies
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import dtype_of

Dim = int | str | None
INVENTED = "unk__"
"""How inference begins the names of sizes that nobody named."""


@compiler_pass(after=["split_gemm", "spell_products", "spread_experts"])
def infer_types(program: Program) -> None:
    """Where inference knows less than the file says, the file's word stands."""
    made = variables(program.graph)
    types = program.settings.get("types")
    if types is None or any(tensor.name not in types.names for tensor in made):
        types = Types(program.graph)
    for tensor in made:
        dtype = types.dtype(tensor)
        tensor.dtype = dtype if dtype is not None else tensor.dtype
        tensor.shape = merged(types.shape(tensor), tensor.shape)


def merged(inferred: list[Dim] | None, told: list[Dim] | None) -> list[Dim] | None:
    told = None if told is None else [None if str(d).startswith(INVENTED) else d for d in told]
    if inferred is None or told is None or len(inferred) != len(told):
        return inferred if inferred is not None else told
    return [
        b if not isinstance(a, int) and (isinstance(b, int) or (b and _invented(a))) else a
        for a, b in zip(inferred, told, strict=True)
    ]


def _invented(dim: Dim) -> bool:
    return dim is None or str(dim).startswith(INVENTED)


def variables(graph: gs.Graph) -> list[gs.Variable]:
    """What nodes give, and the outputs; not the graph's own inputs, whose types are the user's."""
    found = {id(o): o for current in bodies(graph) for node in current.nodes for o in node.outputs if o.name}
    return [tensor for tensor in found.values() if isinstance(tensor, gs.Variable)]


class Types:
    """Type and shape of values as far as they follow from the graph's inputs and weights alone. Two equal
    names in two shapes are the same size."""

    def __init__(self, graph: gs.Graph) -> None:
        self.names = {tensor.name for tensor in variables(graph)}
        self.found: dict[str, tuple[np.dtype | None, list[Dim] | None]] = {}
        model = graphs.skeleton(graph)
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        try:
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return  # nothing is known then
        for value in [*model.graph.input, *model.graph.value_info, *model.graph.output]:
            self._take(value)

    def _take(self, value: onnx.ValueInfoProto) -> None:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else None
        shape: list[Dim] | None = None
        if kind.HasField("shape"):
            dims = kind.shape.dim
            shape = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims]
        self.found[value.name] = (dtype, shape)

    def shape(self, tensor: gs.Tensor) -> list[Dim] | None:
        if isinstance(tensor, gs.Constant):
            return list(tensor.shape)
        return self.found.get(tensor.name, (None, None))[1]

    def dtype(self, tensor: gs.Tensor) -> np.dtype | None:
        if isinstance(tensor, gs.Constant):
            return dtype_of(tensor)
        return self.found.get(tensor.name, (None, None))[0]
