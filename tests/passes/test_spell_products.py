"""Einsum, Gemm, one-point convolutions and weights on the left are spelled as MatMul, softmax along the last
axis, and they compute what they did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.ir.storage import DataFile
from spikec.passes.normalise import NORMALISE

RNG = np.random.default_rng(0)


def outputs(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds)


def spelled(
    tmp_path: Path, node: str, shapes: dict[str, tuple[int, ...]], constant: set[str], output: str
) -> tuple[Program, list[str]]:
    """The normalised program of one node, checked to give the same numbers; and its operators."""
    values = {name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    inputs = ", ".join(f"float[{', '.join(map(str, shapes[n]))}] {n}" for n in shapes if n not in constant)
    text = f"({inputs}) => (float[{output}] y) {{ y = {node} }}"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> g {text}')
    model.graph.initializer.extend(onnx.numpy_helper.from_array(values[n], n) for n in sorted(constant))
    onnx.checker.check_model(model)
    onnx.save(model, tmp_path / "model.onnx")
    program = Program.load(tmp_path / "model.onnx")
    pipeline.run(program, NORMALISE, {})
    data = DataFile(tmp_path / "weights.bin")
    graphs.save(program.graph, tmp_path / "spelled.onnx", data)
    data.close()
    feeds = {n: v for n, v in values.items() if n not in constant}
    for before, after in zip(
        outputs(tmp_path / "model.onnx", feeds), outputs(tmp_path / "spelled.onnx", feeds), strict=True
    ):
        assert before.shape == after.shape
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    return program, [n.op for n in program.graph.nodes]


@pytest.mark.parametrize(
    ("equation", "a", "b", "out"),
    [
        ("bqhd,bkhd->bhqk", (2, 3, 4, 5), (2, 6, 4, 5), "2, 4, 3, 6"),
        ("bhqk,bkhd->bqhd", (2, 4, 3, 6), (2, 6, 4, 5), "2, 3, 4, 5"),
        ("bqhgd,bkhd->bhgqk", (2, 3, 4, 2, 5), (2, 6, 4, 5), "2, 4, 2, 3, 6"),
        ("id,jd->ij", (3, 5), (4, 5), "3, 4"),
        ("id,jd->ji", (3, 5), (4, 5), "4, 3"),
        ("...qd,...kd->...qk", (2, 4, 3, 5), (2, 4, 6, 5), "2, 4, 3, 6"),
        ("...d,...d->...", (2, 3, 5), (2, 3, 5), "2, 3"),
        ("bd,bd->b", (3, 5), (3, 5), "3"),
        ("bqd,kd", (2, 3, 5), (6, 5), "2, 6, 3"),
    ],
)
def test_einsum_of_two_activations(
    tmp_path: Path, equation: str, a: tuple[int, ...], b: tuple[int, ...], out: str
) -> None:
    node = f'Einsum <equation = "{equation}"> (a, b)'
    _, ops = spelled(tmp_path, node, {"a": a, "b": b}, set(), out)
    assert ops.count("MatMul") == 1 and "Einsum" not in ops


@pytest.mark.parametrize(
    ("equation", "x", "w", "out", "matrix"),
    [
        ("bsd,dhk->bshk", (2, 3, 4), (4, 5, 6), "2, 3, 5, 6", (4, 30)),
        ("bshk,hkd->bsd", (2, 3, 5, 6), (5, 6, 4), "2, 3, 4", (30, 4)),
        ("bsd,dhk->bhsk", (2, 3, 4), (4, 5, 6), "2, 5, 3, 6", (4, 30)),
        ("bsd,ed->bse", (2, 3, 4), (7, 4), "2, 3, 7", (4, 7)),
        ("dbs,de->bse", (4, 2, 3), (4, 7), "2, 3, 7", (4, 7)),
        ("...d,de->...e", (2, 3, 4), (4, 7), "2, 3, 7", (4, 7)),
        ("bsd,d->bs", (2, 3, 4), (4,), "2, 3", (4, 1)),
    ],
)
@pytest.mark.parametrize("first", [False, True], ids=["weights second", "weights first"])
def test_einsum_with_weights(
    tmp_path: Path, equation: str, x: tuple[int, ...], w: tuple[int, ...], out: str,
    matrix: tuple[int, int], first: bool,
) -> None:  # fmt: skip
    operands = "x, w"
    if first:
        left, right = equation.partition("->")[0].split(",")
        equation, operands = f"{right},{left}->{equation.partition('->')[2]}", "w, x"
    node = f'Einsum <equation = "{equation}"> ({operands})'
    program, ops = spelled(tmp_path, node, {"x": x, "w": w}, {"w"}, out)
    (product,) = (n for n in program.graph.nodes if n.op == "MatMul")
    assert tuple(product.inputs[1].shape) == matrix and "Einsum" not in ops


def test_einsum_of_experts_is_a_product_each(tmp_path: Path) -> None:
    node = 'Einsum <equation = "etd,edf->etf"> (x, w)'
    program, ops = spelled(tmp_path, node, {"x": (4, 3, 5), "w": (4, 5, 6)}, {"w"}, "4, 3, 6")
    weights = [n.inputs[1] for n in program.graph.nodes if n.op == "MatMul"]
    assert [tuple(w.shape) for w in weights] == [(5, 6)] * 4 and ops[-1] == "Concat"


@pytest.mark.parametrize(
    ("equation", "shapes", "out"),
    [
        ("ij,jk,kl->il", {"a": (2, 3), "b": (3, 4), "c": (4, 5)}, "2, 5"),
        ("ii->i", {"a": (3, 3)}, "3"),
        ("ij,kl->ijkl", {"a": (2, 3), "b": (4, 5)}, "2, 3, 4, 5"),
        ("ij,ik->k", {"a": (2, 3), "b": (2, 4)}, "4"),
    ],
    ids=["three operands", "diagonal", "outer", "summed on one side"],
)
def test_einsum_that_is_no_matrix_product_stays(
    tmp_path: Path, equation: str, shapes: dict[str, tuple[int, ...]], out: str
) -> None:
    node = f'Einsum <equation = "{equation}"> ({", ".join(shapes)})'
    _, ops = spelled(tmp_path, node, shapes, set(), out)
    assert ops == ["Einsum"]


@pytest.mark.parametrize("constant", [set(), {"b"}, {"c"}, {"b", "c"}], ids=str)
@pytest.mark.parametrize("attributes", ["alpha = 0.5", "beta = 2.0", "transA = 1", "transB = 1, beta = 0.0"])
def test_gemm(tmp_path: Path, attributes: str, constant: set[str]) -> None:
    a, b = (5, 3) if "transA" in attributes else (3, 5), (4, 5) if "transB" in attributes else (5, 4)
    node = f"Gemm <{attributes}> (a, b, c)"
    _, ops = spelled(tmp_path, node, {"a": a, "b": b, "c": (4,)}, constant, "3, 4")
    assert ops.count("MatMul") == 1 and "Gemm" not in ops


@pytest.mark.parametrize("shape", [(5, 6), (2, 5, 6), (2, 3, 5, 6)])
def test_weights_on_the_left(tmp_path: Path, shape: tuple[int, ...]) -> None:
    out = ", ".join(map(str, (*shape[:-2], 4, 6)))
    program, ops = spelled(tmp_path, "MatMul (w, x)", {"w": (4, 5), "x": shape}, {"w"}, out)
    assert ops == ["Transpose", "MatMul", "Transpose"]
    assert tuple(program.graph.nodes[1].inputs[1].shape) == (5, 4)


@pytest.mark.parametrize(
    ("kernel", "shape", "out"),
    [((7, 4, 1), (2, 4, 5), "2, 7, 5"), ((7, 4, 1, 1), (2, 4, 5, 6), "2, 7, 5, 6")],
)
@pytest.mark.parametrize("biased", [False, True])
def test_a_convolution_of_one_point(
    tmp_path: Path, kernel: tuple[int, ...], shape: tuple[int, ...], out: str, biased: bool
) -> None:
    shapes = {"x": shape, "w": kernel} | ({"c": (7,)} if biased else {})
    node = f"Conv ({', '.join(shapes)})"
    _, ops = spelled(tmp_path, node, shapes, {"w", "c"} & shapes.keys(), out)
    assert ops == ["Transpose", "MatMul", *["Add"] * biased, "Transpose"]


@pytest.mark.parametrize(
    ("attributes", "out"),
    [("group = 2", "2, 6, 5"), ("strides = [2]", "2, 6, 3"), ("pads = [1, 1]", "2, 6, 7")],
)
def test_a_convolution_that_does_more_stays(tmp_path: Path, attributes: str, out: str) -> None:
    kernel = (6, 2, 1) if "group" in attributes else (6, 4, 1)
    _, ops = spelled(tmp_path, f"Conv <{attributes}> (x, w)", {"x": (2, 4, 5), "w": kernel}, {"w"}, out)
    assert ops == ["Conv"]


@pytest.mark.parametrize("axis", [0, 1, -2, 2])
def test_softmax_along_another_axis(tmp_path: Path, axis: int) -> None:
    _, ops = spelled(tmp_path, f"Softmax <axis = {axis}> (x)", {"x": (2, 3, 4)}, set(), "2, 3, 4")
    assert ops == (["Softmax"] if axis == 2 else ["Transpose", "Softmax", "Transpose"])


@pytest.mark.parametrize("experts", [2, 3])
def test_a_stack_meets_a_batch_of_any_size(tmp_path: Path, experts: int) -> None:
    """One matrix for each sequence of a batch, or one sequence for all: known only when the model is run."""
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> g (float[b, 5, 4] x) => (float[c, 5, 6] y)'
        " { y = MatMul (x, w) }"
    )
    stack = RNG.standard_normal((experts, 4, 6)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(stack, "w"))
    onnx.save(model, tmp_path / "model.onnx")
    program = Program.load(tmp_path / "model.onnx")
    pipeline.run(program, NORMALISE, {})
    data = DataFile(tmp_path / "weights.bin")
    graphs.save(program.graph, tmp_path / "spelled.onnx", data)
    data.close()
    for batch in (1, experts):
        feed = {"x": RNG.standard_normal((batch, 5, 4)).astype(np.float32)}
        (before,), (after,) = (outputs(tmp_path / name, feed) for name in ("model.onnx", "spelled.onnx"))
        assert before.shape == after.shape
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
