"""Every spelling of a norm or a softmax is found with its gain, shift and epsilon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spikec.ir.program import Finding, Program

Recognise = Callable[..., Program]

N = 8
X = f"float[batch, length, {N}]"
GAIN, SHIFT, NONE, ONES = np.linspace(0.5, 2, N), np.linspace(-1, 1, N), np.zeros(N), np.ones(N)
NUMBERS: dict[str, float | np.ndarray] = {
    "one": 1.0, "two": 2.0, "minus_half": -0.5, "n": float(N), "root_n": N**0.5, "inverse_n": 1 / N,
    "epsilon": 1e-5, "n_epsilon": N * 1e-5, "last": np.array([-1]), "third": np.array([2]), "gain": GAIN,
    "shift": SHIFT, "less_one": GAIN - 1, "row_gain": GAIN[None, None], "column": np.full((N, 1), 1 / N),
    "square": np.full((N, N), 1 / N),
}  # fmt: skip
SQUARE, MEAN = "q = Mul (x, x)", "m = ReduceMean (q, last)"
ROOT = "v = Add (m, epsilon) d = Sqrt (v)"
APPLY = "u = Div (x, d) y = Mul (u, gain)"
RMS = {
    "Pow": f"q = Pow (x, two) {MEAN} {ROOT} {APPLY}",
    "ReduceSum and Div": f"{SQUARE} s = ReduceSum (q, last) m = Div (s, n) {ROOT} {APPLY}",
    "ReduceSum and Mul": f"{SQUARE} s = ReduceSum (q, last) m = Mul (s, inverse_n) {ROOT} {APPLY}",
    "ReduceSumSquare": f"s = ReduceSumSquare (x, last) m = Div (s, n) {ROOT} {APPLY}",
    "sum, epsilon scaled": """s = ReduceSumSquare (x, last) v = Add (s, n_epsilon) d = Sqrt (v)
        u = Div (x, d) w = Mul (u, root_n) y = Mul (w, gain)""",
    "MatMul with a column": f"{SQUARE} m = MatMul (q, column) {ROOT} {APPLY}",
    "MatMul with a square": f"{SQUARE} m = MatMul (q, square) {ROOT} {APPLY}",
    "pooling": f"{SQUARE} m = GlobalAveragePool (q) {ROOT} {APPLY}",
    "no keepdims": f"{SQUARE} f = ReduceMean <keepdims = 0> (q, last) m = Unsqueeze (f, last) {ROOT} {APPLY}",
    "root before Unsqueeze": f"""{SQUARE} m = ReduceMean <keepdims = 0> (q, last)
        v = Add (m, epsilon) r = Sqrt (v) d = Unsqueeze (r, third) {APPLY}""",
    "axis from the front": f"{SQUARE} m = ReduceMean (q, third) {ROOT} {APPLY}",
    "Reciprocal": f"{SQUARE} {MEAN} {ROOT} i = Reciprocal (d) u = Mul (x, i) y = Mul (gain, u)",
    "Div(1, .)": f"{SQUARE} {MEAN} {ROOT} i = Div (one, d) u = Mul (i, x) y = Mul (u, gain)",
    "Pow(., -1/2)": f"""{SQUARE} {MEAN} v = Add (epsilon, m)
        i = Pow (v, minus_half) u = Mul (x, i) y = Mul (u, gain)""",
    "exponential of a logarithm": f"""{SQUARE} {MEAN} v = Add (epsilon, m) l = Log (v)
        h = Mul (l, minus_half) i = Exp (h) u = Mul (x, i) y = Mul (u, gain)""",
    "gain first": f"{SQUARE} {MEAN} {ROOT} g = Mul (x, gain) y = Div (g, d)",
    "gain on the root": f"{SQUARE} {MEAN} {ROOT} i = Div (gain, d) y = Mul (x, i)",
    "gain 1 + w": f"g = Add (less_one, one) {SQUARE} {MEAN} {ROOT} u = Div (x, d) y = Mul (u, g)",
    "gain of rank 3": f"{SQUARE} {MEAN} {ROOT} u = Div (x, d) y = Mul (u, row_gain)",
    "casts inside": f"""x64 = Cast <to = 11> (x) q = Mul (x64, x64) {MEAN}
        f = Cast <to = 1> (m) v = Add (f, epsilon) d = Sqrt (v) {APPLY}""",
}  # fmt: skip
CENTRE = "c = ReduceMean (x, last) z = Sub (x, c)"
SPREAD = f"q = Mul (z, z) {MEAN} {ROOT}"
AFFINE = "u = Div (z, d) g = Mul (u, gain) y = Add (g, shift)"
LAYER = {
    "plain": f"{CENTRE} {SPREAD} {AFFINE}",
    "Sub twice": f"""c = ReduceMean (x, last) z = Sub (x, c) z2 = Sub (x, c)
        q = Pow (z2, two) {MEAN} {ROOT} {AFFINE}""",
    "mean square less squared mean": f"""{CENTRE} p = Mul (x, x) a = ReduceMean (p, last)
        b = Mul (c, c) m = Sub (a, b) {ROOT} {AFFINE}""",
    "MatMul": f"c = MatMul (x, column) z = Sub (x, c) q = Mul (z, z) m = MatMul (q, column) {ROOT} {AFFINE}",
    "the negative mean added": f"a = ReduceMean (x, last) c = Neg (a) z = Add (x, c) {SPREAD} {AFFINE}",
    "Reciprocal, gain first": f"""{CENTRE} {SPREAD} r = Reciprocal (d)
        i = Mul (r, gain) g = Mul (z, i) y = Add (shift, g)""",
    "keras": f"""{CENTRE} {SPREAD} r = Reciprocal (d) i = Mul (r, gain)
        a = Mul (x, i) b = Mul (c, i) e = Sub (shift, b) y = Add (a, e)""",
}  # fmt: skip
PLAIN_ROOT = f"{SQUARE} {MEAN} {ROOT}"


def only(program: Program) -> Finding:
    assert len(program.findings) == 1, [f.facts["label"] for f in program.findings]
    return program.findings[0]


def constants(body: str, **others: float | np.ndarray) -> dict[str, float | np.ndarray]:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return {name: value for name, value in (NUMBERS | others).items() if name in words}


def check(
    finding: Finding, kind: str, body: str, gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5
) -> None:
    assert finding.facts["label"] == kind
    if epsilon:  # adding nothing is folded away before, and so are casts
        spelled = body.count(" = ") - body.count("<keepdims = ") - body.count("<to = ")
        kept = [node for node in finding.nodes if node.op != "Cast"]
        assert len(kept) == spelled - body.count("Cast (") - body.count("Cast <") - ("(less_one" in body)
    assert [s.name for s in finding.sources] == ["x"] and finding.name == "y"
    assert finding.facts["epsilon"] == pytest.approx(epsilon, rel=1e-5, abs=0)
    np.testing.assert_allclose(finding.facts["gamma"], gamma, rtol=1e-5)
    np.testing.assert_allclose(finding.facts["beta"], beta, atol=1e-5)
    assert finding.error < 1e-6


@pytest.mark.parametrize("body", RMS.values(), ids=RMS)
def test_rms_norm(recognise: Recognise, body: str) -> None:
    program = recognise(f"({X} x) => ({X} y) {{ {body} }}", **constants(body))
    check(only(program), "rmsnorm", body, GAIN, NONE)
    assert [d.code for d in program.diagnostics if d.code.startswith("SPK1")] == []


@pytest.mark.parametrize("body", LAYER.values(), ids=LAYER)
def test_layer_norm(recognise: Recognise, body: str) -> None:
    program = recognise(f"({X} x) => ({X} y) {{ {body} }}", **constants(body))
    check(only(program), "layernorm", body, GAIN, SHIFT)


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-8, 1e-6, 1e-3, 0.5])
@pytest.mark.parametrize(("kind", "body"), [("rmsnorm", RMS["Pow"]), ("layernorm", LAYER["plain"])])
def test_epsilon_is_read_off_the_numbers(recognise: Recognise, kind: str, body: str, epsilon: float) -> None:
    program = recognise(f"({X} x) => ({X} y) {{ {body} }}", **constants(body, epsilon=epsilon))
    check(only(program), kind, body, GAIN, SHIFT if kind == "layernorm" else NONE, epsilon)


@pytest.mark.parametrize(
    ("kind", "end", "gamma", "beta"),
    [
        ("rmsnorm", "y = Div (x, d)", ONES, NONE),
        ("rmsnorm", "u = Div (x, d) y = Add (u, shift)", ONES, SHIFT),
        ("rmsnorm", "u = Div (x, d) g = Mul (u, gain) y = Sub (g, shift)", GAIN, -SHIFT),
        ("layernorm", "y = Div (z, d)", ONES, NONE),
        ("layernorm", "u = Div (z, d) y = Add (u, shift)", ONES, SHIFT),
        ("layernorm", "u = Div (z, d) y = Mul (u, gain)", GAIN, NONE),
        ("layernorm", "u = Div (z, d) y = Mul (u, two)", 2 * ONES, NONE),
    ],
)
def test_gain_and_shift_may_be_missing(
    recognise: Recognise, kind: str, end: str, gamma: np.ndarray, beta: np.ndarray
) -> None:
    body = f"{PLAIN_ROOT if kind == 'rmsnorm' else f'{CENTRE} {SPREAD}'} {end}"
    program = recognise(f"({X} x) => ({X} y) {{ {body} }}", **constants(body))
    check(only(program), kind, body, gamma, beta)


def test_rms_norm_by_a_length(recognise: Recognise) -> None:
    body = "d = ReduceL2 (x, last) u = Div (x, d) w = Mul (u, root_n) y = Mul (w, gain)"
    program = recognise(f"({X} x) => ({X} y) {{ {body} }}", **constants(body))
    check(only(program), "rmsnorm", body, GAIN, NONE, 0)


def test_a_length_with_a_floor_is_an_l2_norm(recognise: Recognise) -> None:
    body = "d = ReduceL2 (x, last) f = Max (d, floor) y = Div (x, f)"
    program = recognise(f"({X} x) => ({X} y) {{ {body} }}", **constants(body, floor=1e-12))
    check(only(program), "l2norm", body, np.full(N, N**-0.5), NONE, 0)


def test_a_length_spread_over_its_row_is_an_l2_norm(recognise: Recognise) -> None:
    body = "d = ReduceL2 (x, last) f = Clip (d, floor) s = Shape (x) e = Expand (f, s) y = Div (x, e)"
    finding = only(recognise(f"({X} x) => ({X} y) {{ {body} }}", **constants(body, floor=1e-12)))
    assert finding.facts["label"] == "l2norm" and len(finding.nodes) == 4


@pytest.mark.parametrize("shape", [f"float[rows, {N}]", f"float[batch, length, 4, {N}]", f"float[{N}]"])
def test_any_rank(recognise: Recognise, shape: str) -> None:
    for body in (RMS["Pow"], LAYER["plain"]):
        program = recognise(f"({shape} x) => ({shape} y) {{ {body} }}", **constants(body))
        assert only(program).facts["gamma"] == pytest.approx(GAIN)


@pytest.mark.parametrize("axis", [-1, 2])
def test_an_rms_operator_of_a_centred_value_is_a_layer_norm(recognise: Recognise, axis: int) -> None:
    body = f"{CENTRE} y = RMSNormalization <axis = {axis}, epsilon = 1e-3> (z, gain)"
    program = recognise(f"({X} x) => ({X} y) {{ {body} }}", opset=23, **constants(body))
    nodes = body.replace(", epsilon = 1e-3", "").replace("axis = ", "")
    check(only(program), "layernorm", nodes, GAIN, NONE, 1e-3)


def test_means_by_an_attribute_before_opset_18(recognise: Recognise) -> None:
    body = LAYER["plain"].replace("ReduceMean (x, last)", "ReduceMean <axes = [-1]> (x)")
    body = body.replace("ReduceMean (q, last)", "ReduceMean <axes = [2]> (q)")
    finding = only(recognise(f"({X} x) => ({X} y) {{ {body} }}", opset=17, **constants(body)))
    assert finding.facts["label"] == "layernorm" and len(finding.nodes) == 9


def test_a_mean_without_axes_that_does_nothing_is_no_norm(recognise: Recognise) -> None:
    body = RMS["Pow"].replace("ReduceMean (q, last)", "ReduceMean <noop_with_empty_axes = 1> (q)")
    program = recognise(f"({X} x) => ({X} y) {{ {body} }}", **constants(body))
    assert not program.of("rmsnorm", "layernorm")


@pytest.mark.parametrize("body", [RMS["Pow"], LAYER["plain"]], ids=["rms", "layer"])
def test_the_number_of_channels_comes_from_the_gain(recognise: Recognise, body: str) -> None:
    shape = "float[batch, length, channels]"
    finding = only(recognise(f"({shape} x) => ({shape} y) {{ {body} }}", **constants(body)))
    assert finding.facts["channels"] == N and finding.facts["gamma"] == pytest.approx(GAIN)


def test_an_unknown_number_of_channels_is_fine_without_a_gain(recognise: Recognise) -> None:
    shape, body = "float[batch, length, channels]", f"{PLAIN_ROOT} y = Div (x, d)"
    finding = only(recognise(f"({shape} x) => ({shape} y) {{ {body} }}", **constants(body)))
    assert finding.facts["channels"] is None and finding.facts["gamma"] == pytest.approx([1])


def test_what_depends_on_the_unknown_number_of_channels_is_told(recognise: Recognise) -> None:
    shape, body = "float[batch, length, channels]", "d = ReduceL2 (x, last) y = Div (x, d)"
    program = recognise(f"({shape} x) => ({shape} y) {{ {body} }}", **constants(body))
    assert program.findings == []
    assert ["the number of channels is unknown" in d.text for d in program.diagnostics] == [True]


SHIFTED = "m = ReduceMax (x, last) o = Sub (x, m) e = Exp (o)"
SUM = "s = ReduceSum (e, last)"
SOFTMAX = {
    "plain": f"{SHIFTED} {SUM} y = Div (e, s)",
    "without the maximum": f"e = Exp (x) {SUM} y = Div (e, s)",
    "Reciprocal": f"{SHIFTED} {SUM} r = Reciprocal (s) y = Mul (e, r)",
    "ReduceLogSumExp": "l = ReduceLogSumExp (x, last) o = Sub (x, l) y = Exp (o)",
    "exponential of the logarithm": f"{SHIFTED} {SUM} l = Log (s) p = Sub (o, l) y = Exp (p)",
}  # fmt: skip


@pytest.mark.parametrize("shape", [X, f"float[rows, {N}]", f"float[batch, 2, length, {N}]"])
@pytest.mark.parametrize("body", SOFTMAX.values(), ids=SOFTMAX)
def test_softmax(recognise: Recognise, body: str, shape: str) -> None:
    finding = only(recognise(f"({shape} x) => ({shape} y) {{ {body} }}", **constants(body)))
    assert finding.facts["label"] == finding.kind == "softmax" and finding.error < 1e-12
    assert [s.name for s in finding.sources] == ["x"] and finding.name == "y"
    assert len(finding.nodes) == body.count("=")
