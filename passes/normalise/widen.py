"""Half and double precision become float32: one arithmetic inside, the user's types at inputs and outputs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs

from spikec.ir import graph as graphs
from spikec.ir.order import bodies
from spikec.ir.pipeline import compiler_pass
from spikec.ir.program import Program
from spikec.ir.weights import derived, dtype_of

from .rewiring import redirect

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
OTHER = {np.dtype(np.float16), BFLOAT16, np.dtype(np.float64)}
NUMBERS = {onnx.helper.np_dtype_to_tensor_dtype(dtype) for dtype in OTHER}
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "stash_type", "softmax_precision")
FLOAT = np.dtype(np.float32)


@compiler_pass(after=["take_constants"])
def widen(program: Program) -> None:
    graph = program.graph
    border = Counter(_enter(graph)) + Counter(_leave(graph))
    weights: Counter[str] = Counter()
    for constant in graphs.constants(graph):
        if (kind := dtype_of(constant)) in OTHER:
            weights[kind.name] += len(constant.shape) > 0
            _widen_constant(constant)
    casts: Counter[str] = Counter()
    for body in bodies(graph):
        for node in body.nodes:
            casts.update(_widen_attributes(node))
        for tensor in (*body.inputs, *body.outputs, *(o for node in body.nodes for o in node.outputs)):
            inside = body is not graph or not any(tensor is t for t in (*graph.inputs, *graph.outputs))
            if inside and isinstance(tensor, gs.Variable) and _kind(tensor.dtype) in OTHER:
                tensor.dtype = FLOAT
    if kinds := sorted({*border, *weights, *casts}):
        program.settings["widened"] = kinds
        counts = f"{sum(weights.values())} constants, {sum(border.values())} inputs and outputs"
        program.tell(
            "SPK420", program.source.name, f"computes in float32 instead of {', '.join(kinds)} ({counts})"
        )


def _kind(dtype: Any) -> np.dtype | None:
    if dtype is None:
        return None
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(dtype) if isinstance(dtype, int) else dtype)


def _enter(graph: gs.Graph) -> list[str]:
    """A Cast behind every input that is not float32. ONNX Runtime's Python side knows no bfloat16, so that
    such an input can only be float32 itself."""
    found = []
    for tensor in graph.inputs:
        kind = _kind(tensor.dtype)
        if kind is None or kind not in OTHER:
            continue
        found.append(kind.name)
        tensor.dtype = FLOAT if kind == BFLOAT16 else kind
        if kind != BFLOAT16 and tensor.outputs:
            wide = gs.Variable(f"{tensor.name}/float32", FLOAT, tensor.shape)
            redirect(tensor, wide)
            cast = gs.Node("Cast", wide.name, {"to": onnx.TensorProto.FLOAT}, [tensor], [wide])
            graph.nodes.insert(0, cast)
    return found


def _leave(graph: gs.Graph) -> list[str]:
    found = []
    for tensor in graph.outputs:
        kind, maker = _kind(tensor.dtype), graphs.producer(tensor)
        if kind is None or kind not in OTHER or maker is None:
            continue
        found.append(kind.name)
        tensor.dtype = FLOAT if kind == BFLOAT16 else kind
        if kind == BFLOAT16:
            continue
        wide = gs.Variable(f"{tensor.name}/float32", FLOAT, tensor.shape)
        redirect(tensor, wide)
        maker.outputs[[o is tensor for o in maker.outputs].index(True)] = wide
        to = {"to": onnx.helper.np_dtype_to_tensor_dtype(kind)}
        graph.nodes.append(gs.Node("Cast", f"{tensor.name}/{kind.name}", to, [wide], [tensor]))
    return found


def _widen_constant(constant: gs.Constant) -> None:
    made = derived(constant.name, [constant], as_float32, constant.shape, FLOAT)
    constant._values, constant.data_location, constant._export_dtype = made._values, None, None


def as_float32(values: np.ndarray) -> np.ndarray:
    """The nearest float32; what float32 cannot reach (a mask's lowest double) is its lowest or highest."""
    with np.errstate(over="ignore"):
        wide = values.astype(np.float32)
    if values.dtype == np.float64:
        lost = np.isinf(wide) & np.isfinite(values)
        wide[lost] = np.copysign(np.finfo(np.float32).max, wide[lost])
    return wide


def _widen_attributes(node: gs.Node) -> list[str]:
    """The attributes that name a type or hold a value; the types given up, but for a Cast to where the graph
    ends."""
    found = []
    border = node.op == "Cast" and node.name == f"{node.outputs[0].name}/{_kind(node.attrs['to'])}"
    for key, value in node.attrs.items():
        if key in TYPE_ATTRIBUTES and not border and _is_number(value) and int(value) in NUMBERS:
            found.append(onnx.helper.tensor_dtype_to_np_dtype(int(value)).name)
            node.attrs[key] = int(onnx.TensorProto.FLOAT)
        elif isinstance(value, gs.Constant) and dtype_of(value) in OTHER:
            _widen_constant(value)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
