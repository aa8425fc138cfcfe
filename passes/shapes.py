"""Concrete shapes at one nominal input, for counting multiply-accumulates."""

from __future__ import annotations

import math

import onnx
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program

NOMINAL = {0: 1, 1: 128}
"""Size of a free dimension by its axis: one sequence of 128 tokens."""


@compiler_pass(after=["split_gemm"])
def count_macs(program: Program) -> None:
    """`program.statistics["macs"]`: multiply-accumulates of every MatMul (by the name of its result)."""
    shapes = nominal_shapes(program)
    macs = {}
    for node in program.graph.nodes:
        if node.op == "MatMul":
            rows, fan_in = shapes.get(node.outputs[0].name), _last(node.inputs[0], shapes)
            inner = node.inputs[1].shape[0] if isinstance(node.inputs[1], gs.Constant) else fan_in
            macs[node.outputs[0].name] = math.prod(rows) * inner if rows and inner else 0
    program.statistics["macs"] = macs


def nominal_shapes(program: Program) -> dict[str, tuple[int, ...]]:
    """Shape of every value at the nominal input, as far as shape inference can tell."""
    model = graphs.skeleton(program.graph)
    for value in model.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") or dim.dim_value < 1:
                dim.dim_value = NOMINAL.get(axis, 1)
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    shapes = {}
    for value in [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]:
        dims = value.type.tensor_type.shape.dim
        if all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes


def _last(tensor: gs.Tensor, shapes: dict[str, tuple[int, ...]]) -> int | None:
    if isinstance(tensor, gs.Constant):
        return int(tensor.shape[-1])
    shape = shapes.get(tensor.name)
    return shape[-1] if shape else None
