"""What only a model file can say: local functions, sparse weights, operators ahead of their opset."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner

from .census import graph_protos
from .diagnostics import SpikecError

STANDARD = ("", "ai.onnx")
RUNTIME_OWN = {"SimplifiedLayerNormalization"}
"""Operators that ONNX Runtime has in the standard domain, and onnx does not."""
LARGEST_DENSE = 1 << 26


def checkable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model for onnx's checker: operators that ONNX Runtime takes all the same (its own, a newer opset's,
    of a domain the file forgot to name) stand in a domain the checker asks nothing of."""
    imports = {o.domain: o.version for o in model.opset_import}
    opset = next((imports[domain] for domain in STANDARD if domain in imports), 0)
    ahead = [node for graph in graph_protos(model.graph) for node in graph.node if _ahead(node, opset)]
    domains = {node.domain for graph in graph_protos(model.graph) for node in graph.node}
    unnamed = sorted(domains - imports.keys() - set(STANDARD))
    if not ahead and not unnamed:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in [*unnamed, "ahead"])
    for graph in graph_protos(copy.graph):
        for node in graph.node:
            if _ahead(node, opset):
                node.domain = "ahead"
    return copy


def check(model: onnx.ModelProto) -> None:
    """Raises onnx's ValidationError. Nodes in any order pass, as they do with ONNX Runtime: its own half
    precision tool leaves them so."""
    model = checkable(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        if "topologically sorted" not in str(error):
            raise
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        _sort(copy.graph)
        onnx.checker.check_model(copy)


def _sort(graph: onnx.GraphProto) -> None:
    """Producers first, otherwise as they stand; what is in a cycle stays where it was."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    users: dict[int, list[int]] = {}
    missing: dict[int, int] = {}
    for index, node in enumerate(graph.node):
        needed = {maker[name] for name in _reads(node) if name in maker} - {index}
        missing[index] = len(needed)
        for other in needed:
            users.setdefault(other, []).append(index)
    ready = [index for index, count in missing.items() if not count]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for user in users.get(order[-1], ()):
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, user)
    placed = set(order)
    nodes = list(graph.node)
    order += [index for index in range(len(nodes)) if index not in placed]
    copies = [onnx.NodeProto.FromString(nodes[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(copies)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names a node reads, its bodies' included."""
    yield from node.input
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for body in graph_protos(attribute.g):
                yield from (output.name for output in body.output)
                for inner in body.node:
                    yield from inner.input


def _ahead(node: onnx.NodeProto, opset: int) -> bool:
    if node.domain not in STANDARD:
        return False
    if node.op_type in RUNTIME_OWN:
        return True
    return onnx.defs.has(node.op_type) and not onnx.defs.has(node.op_type, opset)


def plain(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Local functions inlined, those inside others too, and sparse tensors made dense."""
    if model.functions:
        model = _inlined(model, path)
    for graph in graph_protos(model.graph):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_dense(sparse, sparse.values.name, path))
        del graph.sparse_initializer[:]
        for node in graph.node:
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                    made = _dense(attribute.sparse_tensor, node.output[0], path)
                    attribute.CopyFrom(onnx.helper.make_attribute("value", made))
    return model


def _inlined(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """First as they are; those written for another opset converted to the model's."""
    local = {(f.domain, f.name) for f in model.functions}
    for convert in (False, True):
        try:
            made = onnx.inliner.inline_local_functions(model, convert)
        except Exception as error:  # the converter's own, of no common type
            raise _kept(path, next(iter(local)), str(error)) from error
        left = [
            (node.domain, node.op_type)
            for graph in graph_protos(made.graph)
            for node in graph.node
            if (node.domain, node.op_type) in local
        ]
        if not left:
            return made
        model = made
    raise _kept(path, left[0], "it is written for another opset, and cannot be converted")


def _kept(path: Path, function: tuple[str, str], why: str) -> SpikecError:
    return SpikecError(
        f"the local function {':'.join(function)} cannot be inlined",
        where=str(path),
        why=why,
        fix="export the model without functions, or all of it in one opset",
    )


def _dense(sparse: onnx.SparseTensorProto, name: str, path: Path) -> onnx.TensorProto:
    size = int(np.prod(sparse.dims, dtype=np.int64))
    values, places = (onnx.numpy_helper.to_array(t) for t in (sparse.values, sparse.indices))
    if size > LARGEST_DENSE:
        raise SpikecError(
            f"sparse tensor {name!r} would have {size} elements",
            where=str(path),
            why=f"spikec makes sparse tensors dense up to {LARGEST_DENSE}",
            fix="save the model with dense weights",
        )
    made = np.zeros(size, values.dtype)
    if places.ndim == 2:
        places = np.ravel_multi_index(tuple(places.T), tuple(sparse.dims))
    made[places] = values
    return onnx.numpy_helper.from_array(made.reshape(tuple(sparse.dims)), name)
