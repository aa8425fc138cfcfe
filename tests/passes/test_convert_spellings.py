"""What is recognised in an unusual spelling is converted right: the model stays close to the original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from spikec.compile import Settings, compile_model
from spikec.runtime.session import Compiled

N = 16
X = f"float[batch, length, {N}]"
NUMBERS: dict[str, float | np.ndarray] = {
    "one": 1.0, "two": 2.0, "half": 0.5, "six": 6.0, "zero": 0.0, "cap": 3.0, "epsilon": 1e-5,
    "root_n": N**0.5, "last": np.array([-1]), "gain": np.linspace(0.5, 2, N), "shift": np.linspace(-1, 1, N),
    "heads": np.array([0, 0, 4, 4]), "joined": np.array([0, 0, N]), "head_gain": np.linspace(0.5, 2, 4),
    "fewer": N - 1.0, "free": np.array([0, 0, -1]), "seventh": 7.0, "slope": 1.702,
}  # fmt: skip
ROOT = "m = ReduceMean (q, last) v = Add (m, epsilon) d = Sqrt (v)"
BODIES = {
    "rms norm with a shift": (
        "rmsnorm",
        f"q = Mul (x, x) {ROOT} u = Div (x, d) g = Mul (u, gain) y = Add (g, shift)",
    ),
    "rms norm per head": (
        "rmsnorm",
        f"""a = Reshape (x, heads) q = Mul (a, a) {ROOT} u = Div (a, d)
        b = Mul (u, head_gain) y = Reshape (b, joined)""",
    ),
    "rms norm by a length": (
        "rmsnorm",
        "d = ReduceL2 (x, last) u = Div (x, d) w = Mul (u, root_n) y = Mul (w, gain)",
    ),
    "l2 norm": ("l2norm", "d = ReduceL2 (x, last) y = Div (x, d)"),
    "norm of unknown width": (
        "rmsnorm",
        f"a = Reshape (x, free) q = Mul (a, a) {ROOT} b = Div (a, d) y = Reshape (b, joined)",
    ),
    "layer norm by squares": (
        "layernorm",
        """c = ReduceMean (x, last) z = Sub (x, c) p = Mul (x, x) a = ReduceMean (p, last)
        b = Mul (c, c) m = Sub (a, b) v = Add (m, epsilon) d = Sqrt (v) u = Div (z, d) y = Mul (u, gain)""",
    ),
    "layer norm of the unbiased variance": (
        "layernorm",
        """c = ReduceMean (x, last) z = Sub (x, c) q = Mul (z, z)
        s = ReduceSum (q, last) m = Div (s, fewer) v = Add (m, epsilon) d = Sqrt (v) y = Div (z, d)""",
    ),
    "softmax spelled out": (
        "softmax",
        """m = ReduceMax (x, last) o = Sub (x, m) e = Exp (o) s = ReduceSum (e, last)
        p = Div (e, s) y = Mul (p, root_n)""",
    ),
    "softmax without the maximum": (
        "softmax",
        "e = Exp (x) s = ReduceSum (e, last) p = Div (e, s) y = Mul (p, root_n)",
    ),
    "softmax over the sequence": ("softmax", "p = Softmax <axis = 1> (x) y = Mul (p, root_n)"),
    "silu by an exponential": ("silu", "n = Neg (x) e = Exp (n) d = Add (e, one) y = Div (x, d)"),
    "mish": ("mish", "s = Softplus (x) t = Tanh (s) y = Mul (x, t)"),
    "hard swish": ("hard_swish", "a = Div (x, six) b = Add (a, half) c = Clip (b, zero, one) y = Mul (x, c)"),
    "soft cap": ("softcap", "a = Div (x, cap) t = Tanh (a) y = Mul (t, cap)"),
    "leaky relu by Where": ("leaky_relu", "b = Greater (x, zero) a = Mul (x, epsilon) y = Where (b, x, a)"),
    "squared relu": ("relu_squared", "r = Relu (x) y = Mul (r, r)"),
    "clamped quick_gelu": (
        "quick_gelu",
        "c = Min (x, seventh) a = Mul (c, slope) g = Sigmoid (a) y = Mul (c, g)",
    ),
    "gated by half of the channels": (
        "sigmoid",
        """l, r = Split <axis = -1, num_outputs = 2> (x) g = Sigmoid (r) h = Mul (l, g)
        y = Concat <axis = -1> (h, h)""",
    ),
}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def model(body: str) -> onnx.ModelProto:
    """A block around the body: linear, body, linear, added to the input, and the norm that makes it one."""
    text = f"""<ir_version: 9, opset_import: ["": 18]> g ({X} given) => ({X} out)
        {{ x = MatMul (given, w_in) {body} back = MatMul (y, w_out) sum = Add (given, back)
        out = LayerNormalization (sum, gain, shift) }}"""
    made = parser.parse_model(text)
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    rng = np.random.default_rng(0)
    spread = 2 / np.sqrt(N)
    weights = NUMBERS | {name: spread * rng.standard_normal((N, N)) for name in ("w_in", "w_out")}
    for name, value in weights.items():
        if name in words:
            kind = np.float32 if np.asarray(value).dtype.kind == "f" else np.int64
            made.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, kind), name))
    onnx.checker.check_model(made)
    return onnx.shape_inference.infer_shapes(made, data_prop=True)


@pytest.mark.parametrize(("label", "body"), BODIES.values(), ids=BODIES)
def test_a_spelling_is_converted(label: str, body: str, tmp_path: Path) -> None:
    onnx.save(model(body), tmp_path / "model.onnx")
    rng = np.random.default_rng(1)
    feeds = [{"given": rng.standard_normal((2, 12, N)).astype(np.float32)} for _ in range(4)]
    program = compile_model(tmp_path / "model.onnx", tmp_path / "out", Settings(timesteps=16), feeds=feeds)
    assert all(c.holds for c in program.certificates)
    assert [
        d.text for d in program.diagnostics if d.code.startswith(("SPK101", "SPK102", "SPK112", "SPK201"))
    ] == []
    (finding,) = [f for f in program.findings if f.facts["label"] == label and f.name != "out"]
    assert {program.decisions[node.name].verdict for node in finding.nodes} == {"spiking"}
    folder = Compiled(tmp_path / "out")
    for shape in ((1, 5, N), (3, 9, N)):
        feed = {"given": rng.standard_normal(shape).astype(np.float32)}
        ann, packed, unrolled = (
            folder.session(which).run(None, feed)[0] for which in ("ann", "packed", "unrolled")
        )
        assert cosine(ann, packed) > 0.999
        np.testing.assert_array_equal(packed, unrolled)
