"""Scalar functions and normalisations are recognised by their numbers, however spelled, and near misses are
not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import erf

import numpy as np
import pytest

from spikec.ir.program import Finding, Program

Recognise = Callable[..., Program]

N = 8
IN, OUT = f"float[batch, length, {N}]", f"float[batch, length, {N}]"
PLAIN = f"({IN} x) => ({OUT} y)"
NUMBERS = {"half": 0.5, "one": 1.0, "root": 2**0.5, "inverse": 2**-0.5, "cubic": 0.044715, "three": 3.0}
NUMBERS |= {"outer": (2 / np.pi) ** 0.5, "quick": 1.702, "two": 2.0}

ERF = "r = Div (x, root) e = Erf (r) s = Add (e, one)"
CUBE_POW = "c = Pow (x, three) k = Mul (c, cubic) a = Add (x, k) i = Mul (a, outer)"
CUBE_MUL = "q = Mul (x, x) c = Mul (q, x) k = Mul (cubic, c) a = Add (x, k) i = Mul (outer, a)"
CUBE_FACTORED = "q = Mul (x, x) k = Mul (cubic, q) f = Add (k, one) g = Mul (x, f) i = Mul (g, outer)"
TANH = "t = Tanh (i) s = Add (one, t)"
ACTIVATIONS = {
    "erf: (x/2)(1+erf)": ("gelu_erf", f"h = Mul (x, half) {ERF} y = Mul (h, s)", 5),
    "erf: x((1+erf)/2)": ("gelu_erf", f"{ERF} h = Mul (s, half) y = Mul (x, h)", 5),
    "erf: (x(1+erf))/2": ("gelu_erf", f"{ERF} w = Mul (x, s) y = Mul (w, half)", 5),
    "erf of a product": (
        "gelu_erf",
        "r = Mul (inverse, x) e = Erf (r) s = Add (one, e) w = Mul (s, x) y = Div (w, two)",
        5,
    ),
    "tanh: Pow": ("gelu_tanh", f"{CUBE_POW} {TANH} h = Mul (half, x) y = Mul (h, s)", 8),
    "tanh: cube by two Muls": ("gelu_tanh", f"{CUBE_MUL} {TANH} w = Mul (x, s) y = Mul (half, w)", 9),
    "tanh: factored": ("gelu_tanh", f"{CUBE_FACTORED} {TANH} h = Mul (s, half) y = Mul (h, x)", 9),
    "quick": ("quick_gelu", "a = Mul (quick, x) g = Sigmoid (a) y = Mul (x, g)", 3),
    "silu": ("silu", "g = Sigmoid (x) y = Mul (g, x)", 2),
    "relu": ("relu", "y = Relu (x)", 1),
    "tanh": ("tanh", "y = Tanh (x)", 1),
    "unknown": ("function", "g = Softplus (x) t = Tanh (g) s = Add (t, half) y = Mul (x, s)", 4),
}


def the_one(program: Program, kind: str) -> Finding:
    """The program's only finding, of this kind."""
    assert [f.kind for f in program.findings] == [kind]
    return program.findings[0]


@pytest.mark.parametrize(("label", "body", "nodes"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activation(recognise: Recognise, label: str, body: str, nodes: int) -> None:
    finding = the_one(recognise(f"{PLAIN} {{ {body} }}", **NUMBERS), "activation")
    assert finding.facts["label"] == label
    assert [s.name for s in finding.sources] == ["x"] and finding.name == "y"
    assert len({id(node) for node in finding.nodes}) == len(finding.nodes) == nodes
    assert finding.error < 1e-6


@pytest.mark.parametrize(("form", "label"), [("none", "gelu_erf"), ("tanh", "gelu_tanh")])
def test_native_gelu(recognise: Recognise, form: str, label: str) -> None:
    program = recognise(f'{PLAIN} {{ y = Gelu <approximate = "{form}"> (x) }}', opset=20)
    assert the_one(program, "activation").facts["label"] == label


def test_the_gate_of_swiglu_is_taken_in(recognise: Recognise) -> None:
    program = recognise(
        f"({IN} x, {IN} up) => ({OUT} y) {{ g = Sigmoid (x) a = Mul (x, g) y = Mul (a, up) }}"
    )
    finding = the_one(program, "activation")
    assert finding.facts["label"] == "silu"
    assert [s.name for s in finding.sources] == ["x", "up"] and finding.name == "y"
    assert len(finding.nodes) == 3


def test_a_gate_whose_activation_is_read_elsewhere_stays_out(recognise: Recognise) -> None:
    text = f"({IN} x, {IN} up) => ({OUT} y, {OUT} a) {{ g = Sigmoid (x) a = Mul (x, g) y = Mul (a, up) }}"
    finding = the_one(recognise(text), "activation")
    assert [s.name for s in finding.sources] == ["x"] and finding.name == "a"


@pytest.mark.parametrize("wrong", [{"root": 1.5}, {"half": 0.51}, {"one": 1.01}])
def test_gelu_with_a_wrong_constant_is_a_plain_function(
    recognise: Recognise, wrong: dict[str, float]
) -> None:
    text = f"{PLAIN} {{ h = Mul (x, half) {ERF} y = Mul (h, s) }}"
    finding = the_one(recognise(text, **(NUMBERS | wrong)), "activation")
    assert finding.facts["label"] == "function" and finding.name == "y" and len(finding.nodes) == 5
    c = NUMBERS | wrong
    x = np.array([-2.0, 0.7, 3.0])
    expected = [v * c["half"] * (erf(v / c["root"]) + c["one"]) for v in x]
    np.testing.assert_allclose(finding.facts["function"](x), expected, rtol=1e-6)


WRONG_CUBIC = f"{CUBE_POW} {TANH} h = Mul (half, x) y = Mul (h, s)"


def test_tanh_gelu_with_a_wrong_cubic_is_no_gelu(recognise: Recognise) -> None:
    finding = the_one(recognise(f"{PLAIN} {{ {WRONG_CUBIC} }}", **(NUMBERS | {"cubic": 0.04})), "activation")
    assert finding.facts["label"] in ("tanh", "function")


@pytest.mark.parametrize(
    ("body", "label"), [(WRONG_CUBIC, "function"), ("r = Relu (x) y = Mul (r, r)", "relu_squared")]
)
def test_a_function_is_taken_whole(recognise: Recognise, body: str, label: str) -> None:
    finding = the_one(recognise(f"{PLAIN} {{ {body} }}", **(NUMBERS | {"cubic": 0.04})), "activation")
    assert finding.facts["label"] == label and finding.name == "y"


def test_gelu_whose_interior_is_read_elsewhere_is_not_claimed(recognise: Recognise) -> None:
    text = f"({IN} x) => ({OUT} y, {OUT} e) {{ h = Mul (x, half) {ERF} y = Mul (h, s) }}"
    finding = the_one(recognise(text, **NUMBERS), "activation")
    assert finding.name == "e" and finding.facts["label"] == "function"
    assert [node.op for node in finding.nodes] == ["Div", "Erf"]


def test_gelu_of_two_different_inputs_is_a_gated_function(recognise: Recognise) -> None:
    text = f"({IN} x, {IN} z) => ({OUT} y) {{ h = Mul (z, half) {ERF} y = Mul (h, s) }}"
    finding = the_one(recognise(text, **NUMBERS), "activation")
    assert finding.facts["label"] == "function"
    assert [s.name for s in finding.sources] == ["x", "h"]


def test_a_function_of_two_inputs_is_claimed_only_as_far_as_it_has_one(recognise: Recognise) -> None:
    text = f"({IN} x, {IN} z) => ({OUT} y) {{ r = Mul (x, z) t = Tanh (r) s = Add (t, z) y = Mul (s, x) }}"
    finding = the_one(recognise(text), "activation")
    assert [s.name for s in finding.sources] == ["r"] and finding.name == "t"


# Normalisation

ROOT = "m = ReduceMean <keepdims = 1> (q, axis) v = Add (m, epsilon) d = Sqrt (v)"
RMS = {
    "Pow, Reciprocal": f"q = Pow (x, two) {ROOT} i = Reciprocal (d) u = Mul (x, i) y = Mul (gain, u)",
    "Div(1, Sqrt)": f"q = Mul (x, x) {ROOT} i = Div (one, d) u = Mul (i, x) y = Mul (u, gain)",
    "Div(x, Sqrt)": f"q = Pow (x, two) {ROOT} u = Div (x, d) y = Mul (u, gain)",
}
LAYER = """c = ReduceMean <keepdims = 1> (x, axis) z = Sub (x, c) q = Pow (z, two)
    m = ReduceMean <keepdims = 1> (q, axis) v = Add (m, epsilon) d = Sqrt (v)
    u = Div (z, d) g = Mul (u, gain) y = Add (g, shift)"""
GAIN, SHIFT = np.linspace(0.5, 2, N), np.linspace(-1, 1, N)
NORM = {"two": 2.0, "one": 1.0, "axis": np.array([-1]), "epsilon": 1e-5, "gain": GAIN}


def assert_norm(finding: Finding, kind: str, nodes: int, shift: np.ndarray, epsilon: float) -> None:
    assert finding.facts["label"] == kind and len(finding.nodes) == nodes
    assert [s.name for s in finding.sources] == ["x"] and finding.name == "y"
    assert finding.facts["epsilon"] == pytest.approx(epsilon, rel=1e-6)
    np.testing.assert_allclose(finding.facts["gamma"], GAIN, rtol=1e-5)
    np.testing.assert_allclose(finding.facts["beta"], shift, atol=1e-5)


@pytest.mark.parametrize("body", RMS.values(), ids=RMS)
def test_rms_norm(recognise: Recognise, body: str) -> None:
    finding = the_one(recognise(f"{PLAIN} {{ {body} }}", **NORM), "rmsnorm")
    assert_norm(finding, "rmsnorm", body.count("=") - 1, np.zeros(N), 1e-5)


def test_layer_norm_decomposed(recognise: Recognise) -> None:
    program = recognise(f"{PLAIN} {{ {LAYER} }}", **(NORM | {"shift": SHIFT, "epsilon": 1e-3}))
    assert_norm(the_one(program, "layernorm"), "layernorm", 9, SHIFT, 1e-3)


@pytest.mark.parametrize("axis", [-1, 2])
def test_layer_norm_native(recognise: Recognise, axis: int) -> None:
    node = f"y = LayerNormalization <axis = {axis}, epsilon = 1e-6> (x, gain, shift)"
    program = recognise(f"{PLAIN} {{ {node} }}", gain=GAIN, shift=SHIFT)
    assert_norm(the_one(program, "layernorm"), "layernorm", 1, SHIFT, 1e-6)


def test_rms_norm_native(recognise: Recognise) -> None:
    node = "y = RMSNormalization <axis = -1, epsilon = 1e-6> (x, gain)"
    program = recognise(f"{PLAIN} {{ {node} }}", opset=23, gain=GAIN)
    assert_norm(the_one(program, "rmsnorm"), "rmsnorm", 1, np.zeros(N), 1e-6)


def refused(program: Program, *words: str) -> None:
    """No finding, and one diagnostic for each word, which holds it."""
    assert program.findings == []
    assert [word in d.text for word, d in zip(words, program.diagnostics, strict=True)] == [True] * len(words)


@pytest.mark.parametrize("axis", [0, 1, -2])
def test_layer_norm_over_other_axes_is_refused(recognise: Recognise, axis: int) -> None:
    shape = "float[2, 8, 8]"
    node = f"y = LayerNormalization <axis = {axis}> (x, gain)"
    program = recognise(f"({shape} x) => ({shape} y) {{ {node} }}", gain=np.ones([2, 8, 8][axis:]))
    refused(program, f"over axis {axis}")
    assert [d.verdict for d in program.decisions.values()] == ["host"]


def test_layer_norm_whose_mean_is_read_is_refused(recognise: Recognise) -> None:
    text = f"({IN} x) => ({OUT} y, float[batch, length, 1] z)"
    program = recognise(f"{text} {{ y, m = LayerNormalization (x, gain) z = Neg (m) }}", gain=GAIN)
    refused(program, "used elsewhere")


def test_layer_norm_whose_variance_is_of_another_axis_is_refused(recognise: Recognise) -> None:
    body = LAYER.replace("(q, axis)", "(q, other)")
    weights = NORM | {"shift": SHIFT, "other": np.array([-2])}
    program = recognise(f"{PLAIN} {{ {body} }}", **weights)
    assert Counter(f.kind for f in program.findings) == {}
    assert len(program.diagnostics) == 2


@pytest.mark.parametrize("axis", [-2, 1])
def test_rms_norm_with_the_mean_over_axis_1_is_refused(recognise: Recognise, axis: int) -> None:
    program = recognise(f"{PLAIN} {{ {RMS['Pow, Reciprocal']} }}", **(NORM | {"axis": np.array([axis])}))
    refused(program, "ReduceMean kept on host")


def test_rms_norm_with_the_last_axis_counted_from_the_front(recognise: Recognise) -> None:
    program = recognise(f"{PLAIN} {{ {RMS['Pow, Reciprocal']} }}", **(NORM | {"axis": np.array([2])}))
    assert_norm(the_one(program, "rmsnorm"), "rmsnorm", 7, np.zeros(N), 1e-5)


def test_rms_norm_whose_root_is_read_elsewhere_is_refused(recognise: Recognise) -> None:
    text = f"({IN} x) => ({OUT} y, float[batch, length, 1] d) {{ {RMS['Div(x, Sqrt)']} }}"
    refused(recognise(text, **NORM), "ReduceMean kept on host")


def test_rms_norm_of_another_tensor_is_refused(recognise: Recognise) -> None:
    text = f"({IN} x, {IN} z) => ({OUT} y) {{ {RMS['Div(x, Sqrt)'].replace('Pow (x', 'Pow (z')} }}"
    refused(recognise(text, **NORM), "ReduceMean kept on host")
