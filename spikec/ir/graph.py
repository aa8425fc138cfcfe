"""The only place that knows onnx-graphsurgeon's import and export: load a model, order it, write it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
from google.protobuf.message import DecodeError
from onnx_graphsurgeon.ir.tensor import LazyValues
from onnx_graphsurgeon.logger import G_LOGGER

from spikec.custom_ops.spec import DOMAIN

from .census import graph_protos, take
from .diagnostics import SpikecError, reason
from .loops import share_weights
from .order import bodies, canonicalise, name_nodes, producer, prune, sort, subgraph_inputs
from .plain import check, plain
from .storage import DataFile
from .weights import INLINE_BYTES, MappedValues, array, dtype_of, overlapping
from .wire import skim

G_LOGGER.severity = G_LOGGER.CRITICAL  # it would print to stdout, where our own output goes

OLDEST_OPSET = 11

__all__ = [
    "constants", "load", "name_nodes", "producer", "prune", "read", "save", "skeleton", "sort",
    "subgraph_inputs",
]  # fmt: skip


def read(path: Path, *, skimmed: bool = False) -> onnx.ModelProto:
    """The model without its external data, and if `skimmed` without large inline weights (which then are
    external data in the file itself); every way in which it can be no model is named."""
    if not path.exists():
        raise SpikecError("no such file", where=str(path), fix="give the path of an .onnx file")
    if path.is_dir():
        raise SpikecError(
            "is a folder, not a model file", where=str(path), fix="give the .onnx file inside it"
        )
    if path.stat().st_size == 0:
        raise SpikecError("is an empty file", where=str(path), fix="export the model again")
    try:
        model = _skimmed(path) if skimmed else onnx.load(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise SpikecError(
            "is not an ONNX model, or is truncated",
            where=str(path),
            why=reason(error),
            fix="export or download it again",
        ) from error
    if not model.graph.node or not model.opset_import:
        raise SpikecError(
            "holds no graph", where=str(path), why="no nodes or no opset", fix="export the model again"
        )
    return model


def _skimmed(path: Path) -> onnx.ModelProto:
    try:
        return onnx.ModelProto.FromString(skim(path))
    except ValueError:  # the parser itself says best what is wrong
        return onnx.load(path, format="protobuf", load_external_data=False)


def load(path: Path) -> gs.Graph:
    """Graph with memory-mapped weights and local functions inlined."""
    model = read(path, skimmed=True)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if 0 < opset < OLDEST_OPSET:
        raise SpikecError(
            f"uses opset {opset}",
            where=str(path),
            why=f"spikec reads opset {OLDEST_OPSET} and later",
            fix="export it with a newer opset",
        )
    if any(node.domain == DOMAIN for node in model.graph.node):
        raise SpikecError(
            "is already compiled", where=str(path), fix="give the model that it was compiled from"
        )
    census = take(model)
    for graph in graph_protos(model.graph):
        for node in graph.node:
            if any(a.t.data_location == onnx.TensorProto.EXTERNAL for a in node.attribute):
                raise SpikecError(
                    f"node {node.name!r} keeps its value in an external file",
                    where=str(path),
                    why="only initialisers may",
                    fix="export it again",
                )
    _check_data([_mapped(tensor, path) for tensor in _external(model.graph)])
    try:
        check(_weightless(model))
    except onnx.checker.ValidationError as error:
        raise SpikecError(
            "is not a valid ONNX model",
            where=str(path),
            why=reason(error),
            fix="check the export; spikec reads standard operators",
        ) from error
    model = plain(model, path)
    graph = gs.import_onnx(model)
    graph.__dict__["spikec_census"] = census
    for body in bodies(graph):
        for tensor in (*body.inputs, *body.outputs, *(o for node in body.nodes for o in node.outputs)):
            if isinstance(tensor.dtype, onnx.TypeProto):  # an optional, which cannot be exported again
                tensor.dtype = None
    for tensor in (*graph.inputs, *graph.outputs):
        if isinstance(tensor.dtype, int):  # a type that numpy itself does not have
            tensor.dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.dtype)
    canonicalise(graph)
    for tensor in [*constants(graph), *graph.tensors().values()]:
        if isinstance(tensor, gs.Constant) and type(tensor._values) is LazyValues:
            proto = tensor._values.tensor
            if proto.data_location == onnx.TensorProto.EXTERNAL:
                tensor._values = _mapped(proto, path)
    return graph


def _external(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for body in graph_protos(graph):
        yield from (t for t in body.initializer if t.data_location == onnx.TensorProto.EXTERNAL)


def _mapped(tensor: onnx.TensorProto, path: Path) -> MappedValues:
    values = MappedValues(tensor, path.parent)
    values.inside_model = values.path.name == path.name
    return values


def _check_data(values: list[MappedValues]) -> None:
    """Raises SpikecError when two tensors share some of their bytes; to share all of them is to be tied."""
    pair = overlapping(values)
    if pair is not None:
        left, right = pair
        raise SpikecError(
            f"external data of tensors {left.tensor.name!r} and {right.tensor.name!r} overlap",
            where=str(left.path),
            why=f"{left.nbytes} bytes from {left.offset}, and {right.nbytes} from {right.offset}",
            fix="export the model again",
        )


def _weightless(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose external weights are empty: onnx's checker refuses the symlinks of model hubs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in _external(copy.graph):
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
        tensor.dims[:] = [0]
    return copy


def save(graph: gs.Graph, path: Path, data: DataFile, functions: Iterable[onnx.FunctionProto] = ()) -> None:
    """Writes the graph; tensors over a kilobyte go to `data` (shared between models), the rest inside."""
    model = _export(graph, data.reference)
    data.flush()
    functions = list(functions)
    for domain in sorted({f.domain for f in functions} - {o.domain for o in model.opset_import}):
        model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    model.functions.extend(functions)
    path.write_bytes(model.SerializeToString(deterministic=True))


def skeleton(graph: gs.Graph) -> onnx.ModelProto:
    """The graph with its large tensors as empty references: for shape inference and inspection only."""

    def reference(constant: gs.Constant) -> onnx.TensorProto:
        proto = onnx.TensorProto(name=constant.name, data_location=onnx.TensorProto.EXTERNAL)
        proto.data_type = onnx.helper.np_dtype_to_tensor_dtype(dtype_of(constant))
        proto.dims.extend(constant.shape)
        proto.external_data.add(key="location", value="absent")
        return proto

    return _export(graph, reference)


def whole(graph: gs.Graph) -> onnx.ModelProto:
    """The graph with all its weights inside: for small pieces that are run by themselves."""
    return _export(graph, lambda constant: onnx.numpy_helper.from_array(array(constant), constant.name))


def _export(graph: gs.Graph, reference: Callable[[gs.Constant], onnx.TensorProto]) -> onnx.ModelProto:
    kept = []
    try:
        for tensor in constants(graph):
            values = tensor._values
            if values.nbytes > INLINE_BYTES:
                kept.append((tensor, values))
                tensor._values = LazyValues(reference(tensor))
            elif isinstance(values, MappedValues):
                kept.append((tensor, values))
                tensor._values = LazyValues(onnx.numpy_helper.from_array(values.array, tensor.name))
        model = gs.export_onnx(graph, do_type_check=False)
    finally:
        for tensor, values in kept:
            tensor._values = values
    share_weights(model.graph)
    model.ir_version = max(8, min(graph.ir_version or 10, 10))
    model.producer_name, model.producer_version, model.doc_string = "spikec", "", ""
    model.graph.name, model.graph.doc_string = "spikec", ""
    opsets = sorted((o.domain, o.version) for o in model.opset_import)
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*opset) for opset in opsets)
    return model


def constants(graph: gs.Graph) -> Iterator[gs.Constant]:
    """The constants in use, by name, each once."""
    seen = {}
    for node in graph.nodes:
        for tensor in (*node.inputs, *subgraph_inputs(node)):
            if isinstance(tensor, gs.Constant):
                seen[tensor.name] = tensor
    for name in sorted(seen):
        yield seen[name]
