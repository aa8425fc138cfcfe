"""Models nobody can compile: one line saying what is wrong and how to mend it, exit 1, nothing written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from spikec.compile import compile_model

Refused = Callable[..., str]

HEADER = '<ir_version: 9, opset_import: ["": 18]> '


def llama_file(folder: Path) -> Path:
    return models.save(folder / "llama", models.llama)


def external(folder: Path, **changes: str | None) -> Path:
    """A model whose weights lie in a second file, with some fields of every reference changed."""
    folder.mkdir()
    model = models.llama()
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=64)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = changes.get(entry.key) or entry.value
    path.write_bytes(model.SerializeToString())
    return path


def edited(folder: Path, edit: Callable[[onnx.ModelProto], None]) -> Path:
    model = models.llama()
    edit(model)
    return models.save(folder / "edited", model)


def of_text(folder: Path, graph: str) -> None:
    (folder / "text.onnx").write_bytes(parser.parse_model(HEADER + graph).SerializeToString())


def poison(value: float) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        weight = next(t for t in model.graph.initializer if t.name == "l1_wup")
        values = numpy_helper.to_array(weight).copy()
        values[3, 5] = value
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))

    return edit


# The file


@pytest.mark.parametrize("command", ["compile", "inspect"])
def test_no_such_file(refused: Refused, command: str) -> None:
    assert "absent.onnx: no such file" in refused(command, "absent.onnx")


def test_folder(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "folder.onnx").mkdir()
    assert "is a folder" in refused("compile", "folder.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_file(refused: Refused, tmp_path: Path, share: float) -> None:
    whole = llama_file(tmp_path).read_bytes()
    (tmp_path / "short.onnx").write_bytes(whole[: int(share * len(whole))])
    assert "short.onnx: is not an ONNX model, or is truncated" in refused("compile", "short.onnx")


@pytest.mark.parametrize("name", ["text.onnx", "text.json", "text.txt", "text.textproto"])
def test_text_file(refused: Refused, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"this": "is no model"}\n' * 40)
    assert "is not an ONNX model" in refused("compile", name)


def test_empty_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    assert "is an empty file" in refused("compile", "empty.onnx")


def test_no_nodes(refused: Refused, tmp_path: Path) -> None:
    of_text(tmp_path, "g (float[N] x) => (float[N] x) {}")
    assert "holds no graph" in refused("compile", "text.onnx")


def test_old_opset(refused: Refused, tmp_path: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 6, opset_import: ["": 10]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
    )
    onnx.save(model, tmp_path / "old.onnx")
    assert "uses opset 10" in refused("compile", "old.onnx")


# External data


def test_missing_external_data(refused: Refused, tmp_path: Path) -> None:
    path = external(tmp_path / "model")
    (tmp_path / "model" / "model.data").unlink()
    assert "is missing" in refused("compile", path)


@pytest.mark.parametrize("location", ["../secret.data", "/etc/passwd", "sub/../../secret.data"])
def test_external_data_outside_the_folder(refused: Refused, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.data").write_bytes(bytes(1 << 20))
    path = external(tmp_path / "model", location=location)
    assert "points outside the model's folder" in refused("compile", path)


def test_truncated_external_data(refused: Refused, tmp_path: Path) -> None:
    path = external(tmp_path / "model")
    data = tmp_path / "model" / "model.data"
    data.write_bytes(data.read_bytes()[:-100])
    assert "is truncated" in refused("compile", path)


@pytest.mark.parametrize("offset", ["-4096", "1e9", "99999999"])
def test_nonsense_offset(refused: Refused, tmp_path: Path, offset: str) -> None:
    line = refused("compile", external(tmp_path / "model", offset=offset))
    assert "truncated" in line or "does not say where its data is" in line


@pytest.mark.parametrize("length", ["4", "16384000"])
def test_length_that_is_not_the_shapes(refused: Refused, tmp_path: Path, length: str) -> None:
    assert "has the wrong length" in refused("compile", external(tmp_path / "model", length=length))


@pytest.mark.parametrize("command", ["compile", "inspect"])
def test_overlapping_tensors(refused: Refused, tmp_path: Path, command: str) -> None:
    path = external(tmp_path / "model")
    model = onnx.load(path, load_external_data=False)
    first, second = (t for t in model.graph.initializer if t.name in ("l0_wup", "l0_wdown"))
    place = {entry.key: entry for entry in first.external_data}["offset"]
    for entry in second.external_data:
        if entry.key == "offset":
            entry.value = str(int(place.value) + 64)
    path.write_bytes(model.SerializeToString())
    assert "'l0_wup' and 'l0_wdown' overlap" in refused(command, path)


def test_external_data_of_a_constant_node(refused: Refused, tmp_path: Path) -> None:
    model = parser.parse_model(
        HEADER + "g (float[2] x) => (float[2] y) { c = Constant <value = float[2] {1, 2}> () y = Add (x, c) }"
    )
    value = model.graph.node[0].attribute[0].t
    value.ClearField("float_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="../secret.data")
    (tmp_path / "constant.onnx").write_bytes(model.SerializeToString())
    assert "external" in refused("compile", "constant.onnx").lower()


# The graph


def test_no_transformer(refused: Refused, tmp_path: Path) -> None:
    model = parser.parse_model(
        HEADER + "g (float[N, 3, 8, 8] x) => (float[N, 4, 6, 6] y) { c = Conv (x, w) y = Relu (c) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"))
    onnx.save(model, tmp_path / "conv.onnx")
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3, 8, 8), np.float32))
    for words in ((), ("--npz", "x.npz")):
        line = refused("compile", "conv.onnx", *words)
        assert "nothing to convert" in line
        assert "attention" in line and "Conv, Relu" in line


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "Inf"), (-np.inf, "Inf")])
def test_weights_that_are_no_numbers(refused: Refused, tmp_path: Path, value: float, kind: str) -> None:
    assert f"weight 'l1_wup' holds {kind}" in refused("compile", edited(tmp_path, poison(value)))


def test_no_number_in_a_constant_node(refused: Refused, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        poison(np.nan)(model)
        weight = next(t for t in model.graph.initializer if t.name == "l1_wup")
        model.graph.node.insert(0, helper.make_node("Constant", [], ["l1_wup"], value=weight))
        model.graph.initializer.remove(weight)

    assert "weight 'l1_wup' holds NaN" in refused("compile", edited(tmp_path, edit))


def test_mismatched_product(refused: Refused, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        weight = next(t for t in model.graph.initializer if t.name == "l0_wo")
        weight.CopyFrom(numpy_helper.from_array(np.ones((31, 32), np.float32), weight.name))

    assert "ONNX Runtime cannot load this model" in refused("compile", edited(tmp_path, edit))


def test_unknown_operator(refused: Refused, tmp_path: Path) -> None:
    of_text(tmp_path, "g (float[N] x) => (float[N] y) { y = Frobnicate (x) }")
    assert "Frobnicate" in refused("compile", "text.onnx")


def test_unknown_domain(refused: Refused, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        model.opset_import.append(helper.make_opsetid("com.example", 1))
        next(n for n in model.graph.node if n.op_type == "Sigmoid").domain = "com.example"

    line = refused("compile", edited(tmp_path, edit))
    assert "com.example" in line and "no runtime knows operator Sigmoid" in line and "Sigmoid_" in line


def test_failure_only_at_run_time(refused: Refused, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        split = next(t for t in model.graph.initializer if t.name == "split")
        split.CopyFrom(numpy_helper.from_array(np.array([0, 0, 5, 7]), "split"))
        del model.graph.value_info[:]

    line = refused("compile", edited(tmp_path, edit))
    assert "ONNX Runtime cannot" in line and "edited/model.onnx" in line


def test_cycle_and_dangling_input(refused: Refused, tmp_path: Path) -> None:
    of_text(tmp_path, "g (float[N] x) => (float[N] y) { a = Add (x, b) b = Relu (a) y = Relu (b) }")
    assert "is not a valid ONNX model" in refused("compile", "text.onnx")


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N, 8] x) => (float[N, 8] y) { h = MatMul (x, w) r = Relu (h) y = MatMul (r, w) }",
        "g (float[1, 8, 9, 9] x) => (float[1, 8, 9, 4] y) "
        "{ h = Conv <kernel_shape = [1, 1]> (x, k) r = Relu (h) y = MaxPool <kernel_shape = [1, 6]> (r) }",
    ],
)
def test_layers_without_a_transformer(refused: Refused, tmp_path: Path, text: str) -> None:
    model = parser.parse_model(HEADER + text)
    model.graph.initializer.append(numpy_helper.from_array(np.eye(8, dtype=np.float32), "w"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8, 1, 1), np.float32), "k"))
    onnx.save(model, tmp_path / "plain.onnx")
    line = refused("compile", "plain.onnx")
    assert "nothing to convert" in line and "attention" in line and "Relu" in line


def test_no_inputs_found(refused: Refused, tmp_path: Path) -> None:
    model = parser.parse_model(
        HEADER + "g (float[N, 8] x) => (float[N, M, 8] y) "
        "<float[8] gain = {1, 1, 1, 1, 1, 1, 1, 1}, int64[3] of_eleven = {-1, 11, 8}> "
        "{ n = LayerNormalization (x, gain) h = MatMul (n, w) r = Relu (h) y = Reshape (r, of_eleven) }"
    )
    model.graph.initializer.append(numpy_helper.from_array(np.eye(8, dtype=np.float32), "w"))
    onnx.save(model, tmp_path / "mlp.onnx")
    line = refused("compile", "mlp.onnx")
    assert "found no inputs" in line and "x float32['N', 8]" in line and "--npz" in line


def test_a_compiled_model_is_named_as_such(tmp_path: Path, refused: Refused) -> None:
    compile_model(llama_file(tmp_path), tmp_path / "out")
    assert "is already compiled" in refused(
        "compile", tmp_path / "out" / "model.onnx", "-o", tmp_path / "again"
    )
