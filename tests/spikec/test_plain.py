"""What only a model file can say: local functions, sparse weights, operators ahead of their opset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from spikec.ir.diagnostics import SpikecError
from spikec.ir.plain import check, checkable, plain

SQUARE = """<domain: "local", opset_import: ["": {opset}]> twice (x) => (y) {{ y = Add (x, x) }}"""


def model(opset: int, node: str, *functions: str) -> onnx.ModelProto:
    header = f'<ir_version: 9, opset_import: ["": {opset}, "local": 1]>'
    made = parser.parse_model(f"{header} g (float[n, 4] x) => (float[n, 4] y) {{ {node} }}")
    made.functions.extend(parser.parse_function(text) for text in functions)
    return made


def test_functions_in_functions_are_inlined(tmp_path: Path) -> None:
    outer = """<domain: "local", opset_import: ["": 18, "local": 1]> four (x) => (y) {
        a = local.twice (x) y = local.twice (a) }"""
    made = plain(model(18, "y = local.four (x)", outer, SQUARE.format(opset=18)), tmp_path)
    assert [node.op_type for node in made.graph.node] == ["Add", "Add"]


def test_a_function_of_another_opset_is_converted(tmp_path: Path) -> None:
    made = plain(model(18, "y = local.twice (x)", SQUARE.format(opset=17)), tmp_path)
    assert [node.op_type for node in made.graph.node] == ["Add"]


def test_a_function_that_cannot_be_converted_is_named(tmp_path: Path) -> None:
    text = """<domain: "local", opset_import: ["": 17, "other": 1]> odd (x) => (y) { y = other.Odd (x) }"""
    text = text.replace('"": 17', '"": 99')
    with pytest.raises(SpikecError, match="local function local:odd cannot be inlined"):
        plain(model(18, "y = local.odd (x)", text), tmp_path)


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_weights_become_dense(tmp_path: Path, flat: bool) -> None:
    dense = np.zeros((3, 4), np.float32)
    dense[0, 1], dense[2, 3] = 5, 7
    places = np.array([1, 11]) if flat else np.array([[0, 1], [2, 3]])
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places, "i"), [3, 4])
    given = model(18, "y = Identity (x)")
    given.graph.sparse_initializer.append(sparse)
    given.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse))
    made = plain(given, tmp_path)
    np.testing.assert_array_equal(numpy_helper.to_array(made.graph.initializer[0]), dense)
    assert not made.graph.sparse_initializer
    np.testing.assert_array_equal(numpy_helper.to_array(made.graph.node[1].attribute[0].t), dense)


@pytest.mark.parametrize(
    "node",
    [
        "y = LayerNormalization (x, w)",
        "y = SimplifiedLayerNormalization (x, w)",
        "y = com.microsoft.FastGelu (x)",
    ],
)
def test_what_onnx_runtime_takes_is_no_error(node: str) -> None:
    given = model(14, node)
    given.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "w"))
    before = given.SerializeToString()
    onnx.checker.check_model(checkable(given))
    assert given.SerializeToString() == before


def test_an_operator_that_nobody_has_is_an_error() -> None:
    with pytest.raises(onnx.checker.ValidationError, match="Nonsense"):
        onnx.checker.check_model(checkable(model(18, "y = Nonsense (x)")))


def test_nodes_in_any_order_are_no_error() -> None:
    given = model(18, "b = Neg (a) y = Exp (b) a = Abs (x)")
    before = given.SerializeToString()
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(given)
    check(given)
    assert given.SerializeToString() == before


def test_a_cycle_is_an_error() -> None:
    with pytest.raises(onnx.checker.ValidationError, match="sorted"):
        check(model(18, "b = Add (a, x) a = Neg (b) y = Exp (b)"))
