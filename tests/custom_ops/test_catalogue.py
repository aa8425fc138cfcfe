"""Every op: numpy definition == ONNX body (optimisation off and on) == kernel, generated from the
catalogue."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.native import library_path
from spikec.custom_ops.spec import BODY_OPSET, DOMAIN, VERSION, SpikingOp


def one_node_model(
    op: SpikingOp,
    inputs: list[np.ndarray],
    attributes: dict,
    outputs: tuple[np.ndarray, ...],
    opset: int = BODY_OPSET,
    body: bool = True,
) -> onnx.ModelProto:
    """Without its body the model runs only where the library has a kernel for it."""
    node = onnx.helper.make_node(op.name, op.inputs, op.outputs, domain=DOMAIN, **attributes)

    def info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        shape = [f"{name}{axis}" for axis in range(array.ndim)]
        return onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), shape
        )

    graph = onnx.helper.make_graph(
        [node],
        "case",
        [info(n, a) for n, a in zip(op.inputs, inputs, strict=True)],
        [info(n, a) for n, a in zip(op.outputs, outputs, strict=True)],
    )
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(DOMAIN, VERSION)]
    functions = [op.function_proto()] if body else []
    return onnx.helper.make_model(graph, opset_imports=imports, functions=functions, ir_version=9)


def session(
    model: onnx.ModelProto, level: ort.GraphOptimizationLevel, library: str | None = None
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 3
    if library:
        options.register_custom_ops_library(library)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def defined(op: SpikingOp, inputs: list[np.ndarray], attributes: dict) -> tuple[np.ndarray, ...]:
    """All outputs, by the definition."""
    made = op.numpy(*inputs, **attributes)
    return made if isinstance(made, tuple) else (made,)


def assert_equal(got: list[np.ndarray], want: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


CASES = [(op, index) for op in OPS.values() for index, _ in enumerate(op.cases(np.random.default_rng(0)))]


@pytest.mark.parametrize(("op", "index"), CASES, ids=lambda value: getattr(value, "name", value))
@pytest.mark.parametrize(
    "level", [ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL]
)
def test_body_equals_numpy(op: SpikingOp, index: int, level: ort.GraphOptimizationLevel) -> None:
    inputs, attributes = list(op.cases(np.random.default_rng(0)))[index]
    inputs = [np.asarray(array) for array in inputs]
    op.check_attributes(attributes)
    want = defined(op, inputs, attributes)
    model = one_node_model(op, inputs, attributes, want)
    onnx.checker.check_model(model, full_check=True)
    got = session(model, level).run(None, dict(zip(op.inputs, inputs, strict=True)))
    assert_equal(got, want)


@pytest.mark.parametrize("opset", [14, 17, 21])
@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_body_runs_in_the_models_opset(op: SpikingOp, opset: int) -> None:
    inputs, attributes = next(op.cases(np.random.default_rng(0)))
    want = defined(op, inputs, attributes)
    model = one_node_model(op, inputs, attributes, want, opset)
    stock = session(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    assert_equal(stock.run(None, dict(zip(op.inputs, inputs, strict=True))), want)


@pytest.mark.skipif(library_path() is None, reason="the native library was not built: pip install .")
@pytest.mark.parametrize(
    ("op", "index"),
    [case for case in CASES if case[0].kernel],
    ids=lambda value: getattr(value, "name", value),
)
def test_kernel_equals_numpy(op: SpikingOp, index: int) -> None:
    inputs, attributes = list(op.cases(np.random.default_rng(0)))[index]
    inputs = [np.asarray(array) for array in inputs]
    want = defined(op, inputs, attributes)
    model = one_node_model(op, inputs, attributes, want, body=False)
    native = session(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, str(library_path()))
    assert_equal(native.run(None, dict(zip(op.inputs, inputs, strict=True))), want)
