"""A net of nodes and weights, by name: what hand-made models are written in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

VOCABULARY, DIM, HEADS, SIZE, HIDDEN, LAYERS, LONGEST = 16, 24, 3, 8, 40, 2, 32
LOWEST = float(np.finfo(np.float32).min)
INT, REAL, BOOL = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL
Value = onnx.ValueInfoProto


class Net:
    """Nodes and weights of a graph, by name; every method gives the name of what it adds."""

    def __init__(self, seed: int = 0, prefix: str = "") -> None:
        self.rng, self.prefix = np.random.default_rng(seed), prefix
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.count = 0

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{self.prefix}{stem}_{self.count}"

    def op(self, kind: str, *inputs: str, domain: str = "", name: str = "", **attributes: Any) -> str:
        return self.ops(kind, 1, *inputs, domain=domain, name=name, **attributes)[0]

    def ops(
        self, kind: str, outputs: int, *inputs: str, domain: str = "", name: str = "", **attributes: Any
    ) -> list[str]:
        name = name or self.fresh(kind.lower())
        made = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, made, name=f"n_{name}", domain=domain, **attributes))
        return made

    def const(self, value: Any, dtype: Any = None) -> str:
        if dtype is None and not isinstance(value, np.ndarray):
            dtype = np.float32 if isinstance(value, float) else np.int64
        return self.weight("c", np.asarray(value, dtype))

    def weight(self, stem: str, values: np.ndarray) -> str:
        name = self.fresh(stem)
        self.weights[name] = values
        return name

    def matrix(self, *shape: int, gain: float = 1.0, stem: str = "w") -> str:
        spread = gain / np.sqrt(shape[-2])
        return self.weight(stem, (spread * self.rng.standard_normal(shape)).astype(np.float32))

    def vector(self, size: int, mean: float = 0.0) -> str:
        return self.weight("v", (mean + 0.1 * self.rng.standard_normal(size)).astype(np.float32))

    def graph(self, inputs: Sequence[Value], outputs: Sequence[Value], name: str = "g") -> onnx.GraphProto:
        made = [numpy_helper.from_array(values, key) for key, values in self.weights.items()]
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), made)

    def model(
        self, inputs: Sequence[Value], outputs: Sequence[Value], opset: int = 18, **others: int
    ) -> onnx.ModelProto:
        imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(k, v) for k, v in others.items()]
        made = helper.make_model(self.graph(inputs, outputs), opset_imports=imports, ir_version=9)
        return made


IDS = helper.make_tensor_value_info("input_ids", INT, ["batch", "length"])
LOGITS = helper.make_tensor_value_info("logits", REAL, ["batch", "length", VOCABULARY])
MASK = helper.make_tensor_value_info("attention_mask", INT, ["batch", "length"])
