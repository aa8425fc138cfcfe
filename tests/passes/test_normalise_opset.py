"""Old opsets are rewritten as 18, newer ones stay, and compiled models of all of them run."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from exports.handmade import opset_11
from normalised import difference, feed, normalise, run, session
from onnx import helper, numpy_helper, parser

from spikec.cli import main
from spikec.ir.diagnostics import SpikecError
from spikec.runtime.session import Compiled
from spikec.runtime.session import run as run_compiled

NODES = {
    "softmax over the last axes together": (11, "float[2, 3, 4] x", "y = Softmax <axis = 1> (x)"),
    "softmax by default": (12, "float[2, 3, 4] x", "y = Softmax (x)"),
    "softmax of free sizes": (11, "float[a, b, 4] x", "y = Softmax <axis = 1> (x)"),
    "softmax of all": (11, "float[2, b, 4] x", "y = Softmax <axis = 0> (x)"),
    "softmax over the last axis": (11, "float[2, 3, 4] x", "y = Softmax <axis = 2> (x)"),
    "softmax over the last axis from behind": (11, "float[2, 3, 4] x", "y = Softmax <axis = -1> (x)"),
    "softmax from behind": (11, "float[2, 3, 4] x", "y = Softmax <axis = -2> (x)"),
    "logarithm of softmax": (11, "float[2, 3, 4] x", "y = LogSoftmax <axis = 1> (x)"),
    "hardmax": (11, "float[2, 3, 4] x", "y = Hardmax <axis = 1> (x)"),
    "softmax that was always modern": (13, "float[2, 3, 4] x", "y = Softmax <axis = 1> (x)"),
    "axes of squeeze": (
        11,
        "float[2, 1, 4] x",
        "a = Squeeze <axes = [1]> (x) y = Unsqueeze <axes = [0, 3]> (a)",
    ),
    "squeeze of every axis": (11, "float[2, 1, 4] x", "y = Squeeze (x)"),
    "axes of a sum": (11, "float[2, 3, 4] x", "y = ReduceSum <axes = [1], keepdims = 0> (x)"),
    "axes of a mean": (17, "float[2, 3, 4] x", "y = ReduceMean <axes = [-1]> (x)"),
    "reduction of all": (17, "float[2, 3, 4] x", "y = ReduceMax (x)"),
    "axes of a norm": (13, "float[2, 3, 4] x", "y = ReduceL2 <axes = [0, 2]> (x)"),
    "split by sizes": (11, "float[2, 3, 4] x", "a, b = Split <axis = 2, split = [1, 3]> (x) y = Sub (b, a)"),
    "split in equal parts": (13, "float[2, 3, 4] x", "a, b = Split <axis = 2> (x) y = Sub (a, b)"),
    "dropout": (11, "float[2, 3, 4] x", "y = Dropout <ratio = 0.5> (x)"),
    "clip": (11, "float[2, 3, 4] x", "y = Clip (x, low)"),
    "pad": (11, "float[2, 3, 4] x", "y = Pad (x, pads)"),
}
GIVEN = {"low": np.float32(0.1), "pads": np.array([0, 1, 0, 0, 0, 2])}


def text_model(opset: int, inputs: str, body: str) -> onnx.ModelProto:
    made = parser.parse_model(
        f'<ir_version: 6, opset_import: ["": {opset}]> g ({inputs}) => (float y) {{ {body} }}'
    )
    made.graph.output[0].type.tensor_type.ClearField("shape")
    used = {name for node in made.graph.node for name in node.input}
    made.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in GIVEN.items() if k in used)
    made = onnx.shape_inference.infer_shapes(made)
    if not made.graph.output[0].type.tensor_type.HasField("shape"):
        made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["p", "q", "r"]))
    return made


@pytest.mark.parametrize("name", NODES)
def test_old_forms_mean_the_same(tmp_path: Path, name: str) -> None:
    program, path = normalise(tmp_path, text_model(*NODES[name]))
    assert program.graph.opset == 18 and onnx.load(path).opset_import[0].version == 18
    onnx.checker.check_model(onnx.load(path), full_check=True)
    x = (
        np.random.default_rng(0)
        .standard_normal([2, 3 if "1, 4" not in NODES[name][1] else 1, 4])
        .astype(np.float32)
    )
    assert difference(run(tmp_path / "given.onnx", {"x": x}), run(path, {"x": x})) <= 1e-6


def test_a_softmax_nobody_can_read_is_refused(tmp_path: Path) -> None:
    made = text_model(
        11, "float[2, 3, 4] x, int64[n] s", "r = Reshape (x, s) t = Softmax <axis = -2> (r) y = Neg (t)"
    )
    with pytest.raises(SpikecError, match="flattens a tensor of unknown rank"):
        normalise(tmp_path, made)


def test_ranks_are_inferred_where_the_file_leaves_them_out(tmp_path: Path) -> None:
    """So that a softmax over the last axis needs no reshaping around it."""
    body = "a = Neg (x) b = Softmax <axis = 2> (a) y = Neg (b)"
    program, _ = normalise(tmp_path, text_model(11, "float[p, q, 4] x", body))
    assert [node.op for node in program.graph.nodes] == ["Neg", "Softmax", "Neg"]


def of_opset(opset: int) -> onnx.ModelProto:
    """The tiny llama as exporters wrote it in that opset."""
    if opset == 11:
        return opset_11()
    model = models.llama()
    model.opset_import[0].version = opset
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node if opset < 18 else ():
        if node.op_type == "ReduceMean":
            axes = values[node.input.pop()].tolist()
            node.attribute.append(helper.make_attribute("axes", axes))
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("opset", [11, 13, 14, 17, 18, 20, 23, 24])
def test_models_of_every_opset_compile_and_run(tmp_path: Path, opset: int) -> None:
    path = models.save(tmp_path / "model", of_opset(opset), 16)
    assert main(["compile", str(path), "-o", str(tmp_path / "out"), "-T", "10"]) == 0
    folder = Compiled(tmp_path / "out")
    for batch, length in ((1, 1), (2, 7)):
        inputs = feed(path, batch, length)
        (original,) = run(path, inputs)
        (ann,) = folder.session("ann").run(None, inputs)
        packed, unrolled = (run_compiled(folder.session(which), inputs) for which in ("packed", "unrolled"))
        stock = folder.session("packed", native=False).run(None, inputs)[0]
        assert difference([original], [ann]) <= 1e-5
        (name,) = packed
        assert np.corrcoef(original.ravel(), packed[name].ravel())[0, 1] > 0.999
        np.testing.assert_array_equal(packed[name], unrolled[name])
        np.testing.assert_allclose(packed[name], stock, atol=1e-5)
    emitted = {o.domain: o.version for o in onnx.load(tmp_path / "out" / "model.onnx").opset_import}
    assert emitted[""] == max(opset, 18)
    assert session(tmp_path / "out" / "model.onnx").get_inputs()[0].name == "input_ids"
