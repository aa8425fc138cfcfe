"""Half and double precision: arithmetic becomes float32, the user's types stay at inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from normalised import difference, feed, normalise, run
from onnx import numpy_helper, parser

from spikec.cli import main
from spikec.ir import graph as graphs
from spikec.ir.inputs import feed_tokens
from spikec.ir.weights import DerivedValues, array, dtype_of
from spikec.passes.normalise.widen import as_float32
from spikec.runtime.session import Compiled

KINDS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float64": np.float64}


def stored(tensor: onnx.TensorProto, kind: str) -> np.ndarray:
    """As exporters write it: a mask's lowest float32 becomes the other type's lowest number."""
    limits = ml_dtypes.finfo(KINDS[kind])
    values = numpy_helper.to_array(tensor).astype(np.float64)
    return np.clip(values, float(limits.min), float(limits.max)).astype(KINDS[kind])


def in_type(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """The model as if exported in another type: weights, casts and the output."""
    dtype = np.dtype(KINDS[kind])
    number = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(stored(tensor, kind), tensor.name))
    for node in model.graph.node:
        if node.op_type == "Cast":
            node.attribute[0].i = number
    for output in model.graph.output:
        output.type.tensor_type.elem_type = number
    del model.graph.value_info[:]
    return model


def rounded(model: onnx.ModelProto, kind: str) -> onnx.ModelProto:
    """The float32 model with the weights that the other type has."""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(stored(tensor, kind).astype(np.float32), tensor.name))
    return model


@pytest.mark.parametrize("make", ["llama", "bert"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_types_compute_in_float32(tmp_path: Path, kind: str, make: str) -> None:
    program, path = normalise(tmp_path / "a", in_type(models.MAKERS[make](), kind))
    assert [d.code for d in program.diagnostics] == ["SPK420"]
    assert all(dtype_of(c) not in map(np.dtype, KINDS.values()) for c in graphs.constants(program.graph))
    onnx.save(rounded(models.MAKERS[make](), kind), tmp_path / "float32.onnx")
    for shape in ((1, 5), (2, 9)):
        inputs = feed(tmp_path / "float32.onnx", *shape)
        expected, got = run(tmp_path / "float32.onnx", inputs), run(path, inputs)
        border = np.float32 if kind == "bfloat16" else KINDS[kind]
        assert [value.dtype for value in got] == [border]
        # the border's own rounding is all that may differ
        assert difference(expected, got) <= max(1e-5, np.finfo(border).eps)


@pytest.mark.parametrize("kind", KINDS)
def test_other_types_compile_and_run(tmp_path: Path, kind: str) -> None:
    path = models.save(tmp_path / "model", in_type(models.llama(), kind))
    assert main(["compile", str(path), "-o", str(tmp_path / "out"), "-T", "10"]) == 0
    folder = Compiled(tmp_path / "out")
    inputs = feed_tokens(folder.inputs, np.arange(14).reshape(2, 7))
    ann, snn = (folder.session(which).run(None, inputs)[0].astype(np.float64) for which in ("ann", "packed"))
    assert np.sum(ann * snn) / np.sqrt(np.sum(ann**2) * np.sum(snn**2)) > 0.999


def test_weights_are_widened_only_when_looked_at(tmp_path: Path) -> None:
    program, _ = normalise(tmp_path, in_type(models.llama(), "float16"))
    weight = next(c for c in graphs.constants(program.graph) if c.name == "l0_wo")
    assert isinstance(weight._values, DerivedValues) and array(weight).dtype == np.float32


def test_the_lowest_double_stays_a_number() -> None:
    lowest = np.finfo(np.float64).min
    wide = as_float32(np.array([lowest, -np.inf, np.nan, 1.5]))
    np.testing.assert_array_equal(
        wide, np.array([np.finfo(np.float32).min, -np.inf, np.nan, 1.5], np.float32)
    )


def test_half_inputs_are_cast_at_the_border(tmp_path: Path) -> None:
    text = """<ir_version: 9, opset_import: ["": 18]> g
        (float16[n, 4] x) => (float16[n, 4] y, float[n, 4] z) {
        c = ConstantOfShape <value = float16[1] {16384}> (s) a = Add (x, c)
        z = Cast <to = 1> (a) y = CastLike (z, x) }"""
    model = parser.parse_model(text)  # where halves are given by their bits: 2.0
    model.graph.initializer.append(numpy_helper.from_array(np.array([4]), "s"))
    path = normalise(tmp_path, model)[1]
    x = np.linspace(-3, 3, 12, dtype=np.float16).reshape(3, 4)
    y, z = ort.InferenceSession(path).run(None, {"x": x})
    np.testing.assert_array_equal(z, x.astype(np.float32) + 2)
    assert y.dtype == np.float16
