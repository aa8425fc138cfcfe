"""Type and shape of one node's outputs from those of its inputs, as ONNX's own inference tells them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.defs
import onnx_graphsurgeon as gs
from onnx.shape_inference import InferenceError, infer_node_outputs

from spikec.ir.weights import array

SMALL = 64
"""Constants of up to so many elements are shown to inference: shapes, axes, sizes."""


def infer(node: gs.Node, opset: int) -> None:
    """Fills in what is not known of the node's outputs; one that cannot be told stays as it is."""
    if node.domain not in (None, "", "ai.onnx") or not any(_open(o) for o in node.outputs):
        return
    if any(isinstance(value, gs.Graph) for value in node.attrs.values()):
        return
    types: dict[str, onnx.TypeProto] = {}
    for tensor in node.inputs:
        kind = _type(tensor) if tensor.name else None
        if kind is not None:
            types[tensor.name] = kind
        elif tensor.name:
            return
    data = {
        i.name: onnx.numpy_helper.from_array(np.asarray(array(i)), i.name)
        for i in node.inputs
        if isinstance(i, gs.Constant) and np.prod(i.shape) <= SMALL
    }
    try:
        schema = onnx.defs.get_schema(node.op, opset, "")
        attributes = {key: _plain(value) for key, value in node.attrs.items()}
        proto = onnx.helper.make_node(
            node.op, [i.name for i in node.inputs], [o.name for o in node.outputs], **attributes
        )
        told = infer_node_outputs(
            schema, proto, types, data, opset_imports=[onnx.helper.make_opsetid("", opset)]
        )
    except (InferenceError, onnx.defs.SchemaError, ValueError, TypeError, RuntimeError):
        return
    for output in node.outputs:
        if output.name in told:
            _take(output, told[output.name].tensor_type)
    if node.op == "Slice":
        _keep_unsliced(node)


def _keep_unsliced(node: gs.Node) -> None:
    """ONNX gives up every dimension when the bounds are not constant; those along no axis of it stay."""
    source, output = node.inputs[0], node.outputs[0]
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    if isinstance(axes, gs.Constant) and source.shape is not None and output.shape is not None:
        cut = {int(axis) % len(source.shape) for axis in array(axes).reshape(-1)}
        output.shape = [
            old if new is None and axis not in cut else new
            for axis, (old, new) in enumerate(zip(source.shape, output.shape, strict=True))
        ]


def _open(tensor: gs.Tensor) -> bool:
    return bool(tensor.name) and (
        tensor.dtype is None or tensor.shape is None or any(size is None for size in tensor.shape)
    )


def _type(tensor: gs.Tensor) -> onnx.TypeProto | None:
    if tensor.dtype is None:
        return None
    kind = (
        tensor.dtype
        if isinstance(tensor.dtype, int)
        else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    )
    shape = None if tensor.shape is None else [_dimension(size) for size in tensor.shape]
    return onnx.helper.make_tensor_type_proto(kind, shape)


def _dimension(size: Any) -> int | str | None:
    if isinstance(size, (int, np.integer)):
        return int(size) if size >= 0 else None
    return str(size) if size else None


def _plain(value: Any) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(array(value))) if isinstance(value, gs.Constant) else value


def _take(output: gs.Tensor, told: onnx.TypeProto.Tensor) -> None:
    if output.dtype is None and told.elem_type:
        output.dtype = onnx.helper.tensor_dtype_to_np_dtype(told.elem_type)
    if not told.HasField("shape"):
        return
    sizes = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in told.shape.dim]
    if output.shape is None:
        output.shape = sizes
    elif len(sizes) == len(output.shape):
        output.shape = [
            new if isinstance(new, int) or old is None else old
            for old, new in zip(output.shape, sizes, strict=True)
        ]
