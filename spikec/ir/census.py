"""What a model file says of itself and what it holds, told before anything is changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import onnx

BITS = {
    "float64": 64, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128, "int32": 32, "uint32": 32,
    "float32": 32, "float16": 16, "bfloat16": 16, "int16": 16, "uint16": 16, "int4": 4, "uint4": 4,
    "float4e2m1": 4, "int2": 2, "uint2": 2,
}  # fmt: skip
"""Size of an element by ONNX's name of its type; all others take a byte."""


@dataclass
class Census:
    """`ops` counts nodes by `domain:operator` (the default domain unnamed), subgraphs included; `weights` is
    what the file stores by type; `styles` counts nodes by the habits of exporters."""

    producer: str = ""
    version: str = ""
    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    ops: Counter[str] = field(default_factory=Counter)
    functions: list[str] = field(default_factory=list)
    weights: dict[str, dict[str, int]] = field(default_factory=dict)
    parameters: int = 0
    styles: Counter[str] = field(default_factory=Counter)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def opset(self) -> int:
        return self.opsets.get("", 0)

    @property
    def bytes(self) -> int:
        return sum(kind["bytes"] for kind in self.weights.values())


def take(model: onnx.ModelProto) -> Census:
    """Reads names and sizes only: no weight is touched."""
    census = Census(
        producer=model.producer_name,
        version=model.producer_version,
        ir_version=model.ir_version,
        opsets={_plain(o.domain): o.version for o in model.opset_import},
        functions=sorted(f"{f.domain}:{f.name}" for f in model.functions),
        metadata={p.key: p.value[:200] for p in model.metadata_props},
    )
    for graph in graph_protos(model.graph):
        for tensor in graph.initializer:
            _weigh(census, tensor)
        for node in graph.node:
            census.ops[operator(node)] += 1
            census.styles.update(_styles(node))
            for attribute in node.attribute if node.op_type == "Constant" else ():
                if attribute.HasField("t"):
                    _weigh(census, attribute.t)
    return census


def operator(node: onnx.NodeProto) -> str:
    """`domain:operator`, the default domain unnamed."""
    domain = _plain(node.domain)
    return f"{domain}:{node.op_type}" if domain else str(node.op_type)


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def graph_protos(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and the bodies of its If, Loop and Scan nodes, however deep."""
    stack = [graph]
    while stack:
        current = stack.pop()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    stack.append(attribute.g)
                stack.extend(attribute.graphs)


def _weigh(census: Census, tensor: Any) -> None:
    name = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
    name = {"float": "float32", "double": "float64"}.get(name, name)
    count = math.prod(tensor.dims)
    kind = census.weights.setdefault(name, {"tensors": 0, "elements": 0, "bytes": 0})
    kind["tensors"] += 1
    kind["elements"] += count
    kind["bytes"] += count * BITS.get(name, 8) // 8
    if tensor.dims and "int64" not in name and name != "bool":
        census.parameters += count


def _styles(node: onnx.NodeProto) -> Iterator[str]:
    if any(p.key.startswith("pkg.torch.") for p in node.metadata_props) or node.domain.startswith("pkg."):
        yield "dynamo"
    elif node.name.startswith("node_"):
        yield "dynamo names"
    elif node.name.startswith("/"):
        yield "scopes"
    elif node.op_type in node.name and node.name.rpartition("_")[2].isdigit():
        yield "numbered"
    if any(":" in name and not name.startswith("onnx::") for name in node.output):
        yield "tensorflow"
