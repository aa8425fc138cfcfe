"""Region evaluation computes what ONNX Runtime does, gives None for what it cannot know, and sees every
leak."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import parser

from spikec.ir import region

HEADER = '<ir_version: 9, opset_import: ["": 18]>'


def graph_of(text: str, **weights: np.ndarray) -> gs.Graph:
    model = parser.parse_model(f"{HEADER} g {text}")
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return gs.import_onnx(onnx.shape_inference.infer_shapes(model))


def tensor(graph: gs.Graph, name: str) -> gs.Tensor:
    return graph.tensors()[name]


def value(text: str, result: str, x: np.ndarray, largest: int = 1, **weights: np.ndarray) -> Any:
    graph = graph_of(text, **weights)
    used: set[int] = set()
    y = region.evaluate(tensor(graph, result), {id(tensor(graph, "x")): x}, used, largest)
    names = sorted(node.outputs[0].name for node in graph.nodes if id(node) in used)
    return y, names


X = np.linspace(-3, 3, 7)
PLAIN = "(float[n] x, float[n] z) => (float[n] y)"


def test_a_value_used_many_times_is_evaluated_once_and_right() -> None:
    y, used = value(f"{PLAIN} {{ a = Exp (x) b = Mul (a, a) c = Sub (b, a) y = Add (c, x) }}", "y", X)
    np.testing.assert_allclose(y, np.exp(2 * X) - np.exp(X) + X, rtol=1e-14)
    assert used == ["a", "b", "c", "y"] and y.dtype == np.float64


def test_a_deep_region_needs_no_recursion() -> None:
    tensors = [gs.Variable(f"t{i}", np.float32, (7,)) for i in range(3002)]
    for i, (before, after) in enumerate(pairwise(tensors)):
        gs.Node("Neg", f"n{i}", inputs=[before], outputs=[after])
    y = region.evaluate(tensors[-1], {id(tensors[0]): X})
    np.testing.assert_array_equal(y, -X)


@pytest.mark.parametrize("body", ["y = Add (x, z)", "a = MatMul (x, x) y = Neg (a)", "y = CumSum (x, x)"])
def test_what_is_not_known_gives_none(body: str) -> None:
    y, used = value(f"{PLAIN} {{ {body} }}", "y", X)
    assert y is None and used == []


def test_constants_are_known_up_to_a_size() -> None:
    text, weights = f"{PLAIN} {{ y = Mul (x, w) }}", {"w": np.arange(7, dtype=np.float32)}
    assert value(text, "y", X, **weights)[0] is None
    np.testing.assert_array_equal(value(text, "y", X, largest=7, **weights)[0], X * np.arange(7))


def test_operands_that_do_not_fit_give_none() -> None:
    y, _ = value(f"{PLAIN} {{ y = Add (x, w) }}", "y", X, largest=5, w=np.ones(5, np.float32))
    assert y is None


@pytest.mark.parametrize(("op", "exact"), [("Max", np.maximum), ("Min", np.minimum)])
def test_max_and_min_with_a_constant(op: str, exact: Any) -> None:
    y, _ = value(f"{PLAIN} {{ y = {op} (x, w) }}", "y", X, w=np.ones(1, np.float32))
    np.testing.assert_array_equal(y, exact(X, 1))


ELEMENTWISE = [
    op for op in region.ELEMENTWISE if op not in ("Max", "Min", "Where", "Clip", "Not", "And", "Or", "Xor")
]
POSITIVE = {"Sqrt", "Log", "Reciprocal", "Pow", "Div"}


PARAMETRIC = [op for op in region.PARAMETRIC if op not in ("Cast", "Gelu", "Swish")]


@pytest.mark.parametrize("op", [*ELEMENTWISE, *PARAMETRIC])
def test_an_operator_means_what_onnx_runtime_computes(op: str) -> None:
    x = np.abs(X) + 0.5 if op in POSITIVE else X
    schema = onnx.defs.get_schema(op, 18)
    operands = ["x", "w"][: schema.min_input]
    kind = "bool" if "Or" in op or op in ("Greater", "Less", "Equal", "IsNaN", "IsInf") else "float"
    text = f"(float[n] x) => ({kind}[n] y) {{ y = {op} ({', '.join(operands)}) }}"
    model = parser.parse_model(f"{HEADER} g {text}")
    w = np.array([1.5], np.float32)
    if "w" in operands:
        model.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    (want,) = ort.InferenceSession(model.SerializeToString()).run(None, {"x": x.astype(np.float32)})
    got, _ = value(
        text, "y", x.astype(np.float32).astype(np.float64), **({"w": w} if "w" in operands else {})
    )
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)


def test_leak_names_the_value_that_is_read_outside() -> None:
    graph = graph_of(f"{PLAIN} {{ a = Exp (x) b = Neg (a) c = Mul (a, b) d = Abs (b) y = Add (c, d) }}")
    c = tensor(graph, "c")
    nodes = region.region_nodes(c, (tensor(graph, "x"),))
    assert [node.outputs[0].name for node in nodes] == ["a", "b", "c"]
    assert region.leak(nodes, c, graph) == "b"
    y = tensor(graph, "y")
    assert region.leak(region.region_nodes(y, (tensor(graph, "x"),)), y, graph) == ""
    graph.outputs.append(tensor(graph, "a"))
    assert region.leak(region.region_nodes(y, (tensor(graph, "x"),)), y, graph) == "a"
