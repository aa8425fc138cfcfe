"""Quantised models, as ONNX Runtime's own tools make them, compute with the dequantised weights."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from normalised import difference, feed, normalise, run
from onnx import helper, numpy_helper, parser
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from spikec.cli import main
from spikec.compile import FRONT
from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.inputs import feed_tokens
from spikec.ir.program import Program
from spikec.ir.weights import DerivedValues, array
from spikec.passes.methods import METHODS
from spikec.report import found
from spikec.runtime.session import Compiled

QUANTISED = {"MatMulInteger", "DynamicQuantizeLinear", "QuantizeLinear", "DequantizeLinear", "MatMulNBits"}
RNG = np.random.default_rng(5)


class Feeds(CalibrationDataReader):
    def __init__(self, path: Path) -> None:
        self.feeds = iter([feed(path, 2, length) for length in (5, 9, 12)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def dynamic(source: Path, target: Path) -> None:
    quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)


def qdq(source: Path, target: Path) -> None:
    quantize_static(source, target, Feeds(source), quant_format=QuantFormat.QDQ, per_channel=True)


def qoperator(source: Path, target: Path) -> None:
    kind = QuantType.QUInt8
    quantize_static(
        source,
        target,
        Feeds(source),
        quant_format=QuantFormat.QOperator,
        activation_type=kind,
        weight_type=kind,
    )


def blocks(bits: int, symmetric: bool) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        ops = ("MatMul", "Gather") if bits == 4 else ("MatMul",)
        made = MatMulNBitsQuantizer(
            onnx.load(source),
            bits=bits,
            block_size=16,
            is_symmetric=symmetric,
            op_types_to_quantize=ops,
            quant_axes=(("MatMul", 0), ("Gather", 1)),
        )
        made.process()
        made.model.save_model_to_file(str(target))

    return make


MADE: dict[str, Callable[[Path, Path], None]] = {
    "dynamic": dynamic, "qdq": qdq, "qoperator": qoperator, "blocks4": blocks(4, False),
    "blocks4 symmetric": blocks(4, True), "blocks8": blocks(8, False),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[Path, Path]]:
    """`made(kind, how)`: the float model and the quantised one."""
    root = tmp_path_factory.mktemp("quantised")

    def make(kind: str, how: str) -> tuple[Path, Path]:
        source, target = root / f"{kind}.onnx", root / f"{kind}-{how}.onnx"
        if not source.exists():
            onnx.save(models.MAKERS[kind](), source)
        if not target.exists():
            logging.disable(logging.WARNING)
            MADE[how](source, target)
            logging.disable(logging.NOTSET)
        return source, target

    return make


def counts(path: Path) -> dict[str, int]:
    program = Program.load(path)
    program.settings["method"] = METHODS["las"]
    pipeline.run(program, FRONT, {})
    return found(program)


@pytest.mark.parametrize("how", MADE)
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_quantised_models_are_recognised_like_the_float_model(
    made: Callable[[str, str], tuple[Path, Path]], kind: str, how: str
) -> None:
    source, target = made(kind, how)
    assert counts(target) == counts(source)


@pytest.mark.parametrize("how", ["dynamic", "qdq", "qoperator"])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_numbers_are_those_of_the_dequantised_weights(
    tmp_path: Path, made: Callable[[str, str], tuple[Path, Path]], kind: str, how: str
) -> None:
    source, target = made(kind, how)
    program, path = normalise(tmp_path, onnx.load(target))
    assert {d.code for d in program.diagnostics} == {"SPK421", "SPK422"}
    assert not QUANTISED & {node.op for node in program.graph.nodes}
    real = {c.name.removesuffix("_quantized/real"): array(c) for c in graphs.constants(program.graph)}
    model = onnx.load(source)
    replaced = 0
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and f"{tensor.name}" in real:
            rounded = real[tensor.name].reshape(values.shape)
            step = np.abs(values).max() / 127
            assert np.abs(rounded - values).max() <= 0.51 * step or not np.isfinite(step)
            replaced += not np.array_equal(rounded, values)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rounded), tensor.name))
    assert replaced >= 12, "every linear layer's weights are quantised"
    onnx.save(model, tmp_path / "float.onnx")
    for shape in ((1, 5), (2, 9)):
        inputs = feed(source, *shape)
        assert difference(run(tmp_path / "float.onnx", inputs), run(path, inputs)) <= 1e-5


@pytest.mark.parametrize("how", ["blocks4", "blocks4 symmetric", "blocks8"])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_blocks_of_few_bits_give_the_same_numbers(
    tmp_path: Path, made: Callable[[str, str], tuple[Path, Path]], kind: str, how: str
) -> None:
    _, target = made(kind, how)
    program, path = normalise(tmp_path, onnx.load(target))
    assert [d.code for d in program.diagnostics] == ["SPK421"]
    derived = [c for c in graphs.constants(program.graph) if isinstance(c._values, DerivedValues)]
    assert len(derived) >= 12, "weights must not be dequantised before they are written"
    for shape in ((1, 5), (2, 9)):
        inputs = feed(target, *shape)
        assert difference(run(target, inputs), run(path, inputs)) <= 1e-5


@pytest.mark.parametrize("how", ["dynamic", "blocks4"])
def test_a_quantised_model_compiles(
    tmp_path: Path, made: Callable[[str, str], tuple[Path, Path]], how: str
) -> None:
    _, target = made("llama", how)
    assert main(["compile", str(target), "-o", str(tmp_path / "out"), "-T", "10"]) == 0
    folder = Compiled(tmp_path / "out")
    inputs = feed_tokens(folder.inputs, np.arange(14).reshape(2, 7))
    ann, snn = (folder.session(which).run(None, inputs)[0].astype(np.float64) for which in ("ann", "packed"))
    assert np.sum(ann * snn) / np.sqrt(np.sum(ann**2) * np.sum(snn**2)) > 0.999


# Single operators, on numbers that quantisation keeps


def model(inputs: str, output: str, body: str, opset: int = 18, **weights: np.ndarray) -> onnx.ModelProto:
    header = f'<ir_version: 9, opset_import: ["": {opset}, "com.microsoft": 1]>'
    made = parser.parse_model(f"{header} g ({inputs}) => ({output}) {{ {body} }}")
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in weights.items())
    for index, node in enumerate(made.graph.node):
        node.name = f"{node.op_type}_{index}"
    return made


def compare(tmp_path: Path, given: onnx.ModelProto, inputs: dict[str, np.ndarray], allowed: float) -> Program:
    """Both sides in ONNX Runtime; the quantised one may round its result by half a step."""
    program, path = normalise(tmp_path, given)
    for a, b in zip(run(tmp_path / "given.onnx", inputs), run(path, inputs), strict=True):
        assert a.shape == b.shape and np.abs(a).max() > 5 * allowed
        np.testing.assert_allclose(a, b, atol=allowed, rtol=1e-5)
    return program


X = np.arange(256, dtype=np.float32).reshape(8, 32)[:, RNG.permutation(32)] / 64
"""Every step of an unsigned byte once: quantisation as it comes keeps these numbers."""
W8 = RNG.integers(-100, 100, (32, 6)).astype(np.int8)
SCALES = RNG.uniform(0.01, 0.02, 6).astype(np.float32)


def f32(value: float) -> np.ndarray:
    return np.float32(value)


@pytest.mark.parametrize("order", ["s = Mul (xs, ws) y = Mul (c, s)", "t = Mul (c, xs) y = Mul (t, ws)"])
@pytest.mark.parametrize("scale", [f32(0.01), SCALES])
def test_integer_product(tmp_path: Path, order: str, scale: np.ndarray) -> None:
    body = f"""xq, xs, xz = DynamicQuantizeLinear (x) i = MatMulInteger (xq, w, xz, wz)
        c = Cast <to = 1> (i) {order}"""
    given = model("float[8, 32] x", "float[8, 6] y", body, w=W8, wz=np.int8(3), ws=scale)
    program = compare(tmp_path, given, {"x": X}, 1e-4)
    assert [node.op for node in program.graph.nodes if node.op != "Identity"] == ["MatMul"]


def test_integer_convolution(tmp_path: Path) -> None:
    body = """xq, xs, xz = DynamicQuantizeLinear (x) i = ConvInteger <pads = [1, 1]> (xq, w, xz)
        c = Cast <to = 1> (i) s = Mul (xs, ws) y = Mul (c, s)"""
    weight = RNG.integers(-100, 100, (5, 8, 3)).astype(np.int8)
    given = model("float[1, 8, 32] x", "float[1, 5, 32] y", body, w=weight, ws=f32(0.01))
    program = compare(tmp_path, given, {"x": X[None]}, 1e-4)
    assert [node.op for node in program.graph.nodes if node.op != "Identity"] == ["Conv"]


def test_dynamic_quantize_matmul(tmp_path: Path) -> None:
    body = "y = com.microsoft.DynamicQuantizeMatMul (x, w, ws, wz, b)"
    weights = {"w": W8, "ws": SCALES, "wz": np.full(6, 3, np.int8), "b": np.ones(6, np.float32)}
    program = compare(tmp_path, model("float[8, 32] x", "float[8, 6] y", body, **weights), {"x": X}, 1e-4)
    assert {node.op for node in program.graph.nodes} <= {"MatMul", "Add", "Identity"}


def test_matmul_integer_to_float(tmp_path: Path) -> None:
    body = """xq, xs, xz = DynamicQuantizeLinear (x)
        y = com.microsoft.MatMulIntegerToFloat (xq, w, xs, ws, xz, wz)"""
    given = model("float[8, 32] x", "float[8, 6] y", body, w=W8, ws=f32(0.01), wz=np.int8(-2))
    compare(tmp_path, given, {"x": X}, 1e-4)


STEP = 0.05
Q = {"xs": f32(1 / 64), "xz": np.uint8(0), "ys": f32(STEP), "yz": np.uint8(128)}
SINGLE = {
    "QLinearMatMul": ("QLinearMatMul (xq, xs, xz, w, ws, wz, ys, yz)",
                      {"ys": f32(2), "w": W8.view(np.uint8)}),
    "QGemm": ("com.microsoft.QGemm <transB = 1> (xq, xs, xz, w, ws, wz, b, ys, yz)",
              {"ys": f32(2), "w": W8.view(np.uint8).T.copy(), "b": np.arange(6, dtype=np.int32) * 1000}),
    "QLinearAdd": ("com.microsoft.QLinearAdd (xq, xs, xz, xq, xs, xz, ys, yz)", {"ys": f32(0.1)}),
    "QLinearMul": ("com.microsoft.QLinearMul (xq, xs, xz, k, ws, wz, ys, yz)", {"k": np.uint8(77)}),
    "QLinearSigmoid": ("com.microsoft.QLinearSigmoid (xq, xs, xz, ys, yz)",
                       {"ys": f32(0.01), "yz": np.uint8(0)}),
    "QLinearLeakyRelu": ("com.microsoft.QLinearLeakyRelu <alpha = 0.2> (xq, xs, xz, ys, yz)", {}),
    "QLinearSoftmax": ("com.microsoft.QLinearSoftmax <axis = -1, opset = 13> (xq, xs, xz, ys, yz)",
                       {"ys": f32(1 / 256), "yz": np.uint8(0)}),
    "QLinearConcat": ("com.microsoft.QLinearConcat <axis = 0> (ys, yz, xq, xs, xz, xq, xs, xz)", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_operators_between_quantised_tensors(tmp_path: Path, name: str) -> None:
    call, changed = SINGLE[name]
    body = f"xq = QuantizeLinear (x, xs, xz) yq = {call} y = DequantizeLinear (yq, ys, yz)"
    weights = Q | {"ws": f32(0.01), "wz": np.uint8(130)} | changed
    used = {
        key: value
        for key, value in weights.items()
        if key in body.replace("(", " ").replace(",", " ").replace(")", " ").split()
    }
    program = compare(
        tmp_path,
        model("float[8, 32] x", "float[a, b] y", body, **used),
        {"x": X},
        0.51 * float(weights["ys"]),
    )
    assert not QUANTISED & {node.op for node in program.graph.nodes}


@pytest.mark.parametrize(("quant_type", "block"), [(0, 16), (1, 16), (1, 32)])
def test_bits_and_bytes(tmp_path: Path, quant_type: int, block: int) -> None:
    attributes = f"K = 32, N = 6, block_size = {block}, quant_type = {quant_type}"
    body = f"y = com.microsoft.MatMulBnb4 <{attributes}> (x, w, m)"
    packed = RNG.integers(0, 256, 32 * 6 // 2).astype(np.uint8)
    largest = RNG.uniform(0.5, 2, 32 * 6 // block).astype(np.float32)
    compare(tmp_path, model("float[8, 32] x", "float[8, 6] y", body, w=packed, m=largest), {"x": X}, 1e-4)


@pytest.mark.parametrize("order", [None, RNG.permutation(32).astype(np.int32) % 2])
def test_blocks_with_groups_and_bias(tmp_path: Path, order: np.ndarray | None) -> None:
    rest = "z, , b" if order is None else ", g, b"
    body = f"y = com.microsoft.MatMulNBits <K = 32, N = 6, bits = 4, block_size = 16> (x, w, s, {rest})"
    weights: dict[str, np.ndarray] = {
        "w": RNG.integers(0, 256, (6, 2, 8)).astype(np.uint8),
        "s": RNG.uniform(0.5, 2, 12).astype(np.float32),
        "b": RNG.standard_normal(6).astype(np.float32),
    }
    if order is None:
        weights["z"] = RNG.integers(0, 256, 6).astype(np.uint8)
    else:
        weights["g"] = order
    given = model("float[8, 32] x", "float[8, 6] y", body, **weights)
    program = compare(tmp_path, given, {"x": X}, 1e-3)
    assert {node.op for node in program.graph.nodes} <= {"MatMul", "Add", "Identity"}


def test_a_range_that_begins_at_zero_is_a_relu(tmp_path: Path) -> None:
    """Quantisation tools drop the ReLU in front of such a range."""
    body = "a = Sub (x, k) q = QuantizeLinear (a, s, z) b = DequantizeLinear (q, s, z) y = Neg (b)"
    given = model("float[8, 32] x", "float[8, 32] y", body, k=f32(2), s=f32(1 / 64), z=np.uint8(0))
    program = compare(tmp_path, given, {"x": X}, 1e-5)
    assert [node.op for node in program.graph.nodes] == ["Sub", "Relu", "Neg"]
    body = "a = Softmax (x) q = QuantizeLinear (a, s, z) b = DequantizeLinear (q, s, z) y = Neg (b)"
    given = model("float[8, 32] x", "float[8, 32] y", body, s=f32(1 / 256), z=np.uint8(0))
    program, _ = normalise(tmp_path, given)
    assert [node.op for node in program.graph.nodes] == ["Softmax", "Neg"]


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT8E4M3FN"])
def test_weights_of_other_types(tmp_path: Path, kind: str) -> None:
    number = getattr(onnx.TensorProto, kind)
    values = np.arange(192) % (8 if kind == "INT4" else 15)
    tensor = helper.make_tensor("w", number, (32, 6), values.astype(np.float32))
    given = model(
        "float[8, 32] x",
        "float[8, 6] y",
        "d = DequantizeLinear <axis = 1> (w, s) y = MatMul (x, d)",
        21,
        s=SCALES,
    )
    given.graph.initializer.append(tensor)
    compare(tmp_path, given, {"x": X}, 1e-4)


def test_fake_quantised_weights_are_rounded(tmp_path: Path) -> None:
    """Quantisation-aware training keeps real weights and rounds them in the graph."""
    body = (
        "q = QuantizeLinear <axis = 1> (w, s, z) d = DequantizeLinear <axis = 1> (q, s, z) y = MatMul (x, d)"
    )
    weight = RNG.standard_normal((32, 6)).astype(np.float32)
    given = model("float[8, 32] x", "float[8, 6] y", body, w=weight, s=SCALES, z=np.zeros(6, np.int8))
    program = compare(tmp_path, given, {"x": X}, 1e-4)
    assert [node.op for node in program.graph.nodes if node.op != "Identity"] == ["MatMul"]


def test_blocks_along_an_axis(tmp_path: Path) -> None:
    body = "d = DequantizeLinear <axis = 0, block_size = 16> (w, s) y = MatMul (x, d)"
    scale = RNG.uniform(0.01, 0.02, (2, 6)).astype(np.float32)
    compare(tmp_path, model("float[8, 32] x", "float[8, 6] y", body, 21, w=W8, s=scale), {"x": X}, 1e-4)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (
            "xq, xs, xz = DynamicQuantizeLinear (x) i = MatMulInteger (xq, w, xz) y = Cast <to = 1> (i)",
            "scaled back",
        ),
        (
            "y = com.microsoft.MatMulNBits <K = 32, N = 6, bits = 4, block_size = 16> (x, p, t, z, g)",
            "runtimes differ",
        ),
        ("q = QuantizeLinear (x, s) i = Cast <to = 6> (q) y = Cast <to = 1> (i)", None),
    ],
)
def test_what_stays_says_why(tmp_path: Path, body: str, complaint: str | None) -> None:
    every = {
        "w": W8, "s": f32(1 / 64), "p": np.arange(96, dtype=np.uint8).reshape(6, 2, 8),
        "t": np.ones(12, np.float32), "z": np.full(6, 0x88, np.uint8),
        "g": np.arange(32, dtype=np.int32) // 16,
    }  # fmt: skip
    weights = {name: value for name, value in every.items() if f" {name}," in body or f" {name})" in body}
    program = compare(tmp_path, model("float[8, 32] x", "float[a, b] y", body, **weights), {"x": X}, 1e-4)
    told = [d.text for d in program.diagnostics if d.code == "SPK423"]
    assert (complaint is None and not told) or (complaint or "") in told[0]


def test_attention_on_integers(tmp_path: Path) -> None:
    body = """xq = QuantizeLinear (x, xs, xz)
        y = com.microsoft.QAttention <num_heads = 2> (xq, w, b, xs, ws, , xz, wz)"""
    weights = {
        "xs": f32(1 / 64), "xz": np.uint8(128), "w": RNG.integers(0, 255, (32, 24)).astype(np.uint8),
        "b": np.zeros(24, np.float32), "ws": f32(0.002), "wz": np.uint8(128),
    }  # fmt: skip
    x = (X - 2)[None]
    program = compare(
        tmp_path, model("float[1, 8, 32] x", "float[1, 8, 8] y", body, **weights), {"x": x}, 1e-4
    )
    assert {"MatMul", "Softmax"} <= {node.op for node in program.graph.nodes}
    assert ort.InferenceSession(tmp_path / "normalised.onnx") is not None
