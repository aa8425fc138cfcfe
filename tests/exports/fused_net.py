"""Writes a model node by node, fused operators too, with seeded random weights and inputs to run it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper

VOCABULARY, DIM, HEADS, HIDDEN, LAYERS, LONGEST = 61, 64, 4, 96, 2, 40
HEAD = DIM // HEADS
MICROSOFT = "com.microsoft"

Sizes = dict[str, int]
Fill = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def ids(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(0, VOCABULARY, shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def ones(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, np.int64)


def padded(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A mask that hides the last two keys of the first sequence."""
    mask = np.ones(shape, np.int64)
    mask[0, -2:] = 0
    return mask


class Net:
    """`net(op, inputs...)` adds a node and gives its output's name."""

    def __init__(self, opset: int = 18, seed: int = 0) -> None:
        self.opset, self.rng = opset, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.values: dict[str, np.ndarray] = {}
        self.inputs: dict[str, tuple[int, list[int | str], Fill]] = {}
        self.outputs: dict[str, tuple[int, list[int | str]]] = {}

    def __call__(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attrs: Any) -> Any:
        name = f"{op}_{len(self.nodes)}"
        made = [f"{name}.{i}" for i in range(outputs)]
        attrs = {key: value for key, value in attrs.items() if value is not None}
        self.nodes.append(helper.make_node(op, inputs, made, name=name, domain=domain, **attrs))
        return made if outputs > 1 else made[0]

    def ms(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        return self(op, *inputs, outputs=outputs, domain=MICROSOFT, **attrs)

    def matrix(self, fan_in: int, fan_out: int) -> str:
        return self.constant((fan_in**-0.5 * self.rng.standard_normal((fan_in, fan_out))).astype(np.float32))

    def vector(self, size: int, mean: float = 0.0) -> str:
        return self.constant((mean + 0.1 * self.rng.standard_normal(size)).astype(np.float32))

    def constant(self, values: Any, dtype: Any = None) -> str:
        name = f"w{len(self.values)}"
        self.values[name] = np.asarray(values, dtype)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(list(values), np.int64)

    def input(self, name: str, kind: type, shape: list[int | str], fill: Fill) -> str:
        self.inputs[name] = (helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape, fill)
        return name

    def output(self, name: str, value: str, shape: list[int | str], kind: type = np.float32) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self.outputs[name] = (helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)

    def linear(self, x: str, fan_in: int, fan_out: int, bias: bool = True) -> str:
        product = self("MatMul", x, self.matrix(fan_in, fan_out))
        return self("Add", product, self.vector(fan_out)) if bias else product

    def layer_norm(self, x: str, size: int = DIM) -> str:
        return self("LayerNormalization", x, self.vector(size, 1), self.vector(size), axis=-1, epsilon=1e-5)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape, _) in self.inputs.items()],
            [helper.make_tensor_value_info(n, kind, shape) for n, (kind, shape) in self.outputs.items()],
            [onnx.numpy_helper.from_array(v, n) for n, v in self.values.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def feed(self, sizes: Sizes, seed: int = 0) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {
            name: fill(rng, tuple(sizes.get(str(d), d) for d in shape)).astype(  # type: ignore[arg-type]
                helper.tensor_dtype_to_np_dtype(kind)
            )
            for name, (kind, shape, fill) in self.inputs.items()
        }
