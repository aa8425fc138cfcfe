"""Every spelling of a scalar function is found under its name, whole, in every precision of its constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from spikec.ir import region
from spikec.ir.program import Finding, Program

Recognise = Callable[..., Program]

X = "float[batch, length, 8]"
PLAIN = f"({X} x) => ({X} y)"
NUMBERS: dict[str, float] = {
    "zero": 0.0, "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "slope": 0.2, "cap": 30.0,
    "third": 1 / 3, "sixth": 1 / 6, "root": 2**0.5, "inverse": 2**-0.5, "cubic": 0.044715, "quick": 1.702,
    "outer": (2 / np.pi) ** 0.5, "twice_outer": 2 * (2 / np.pi) ** 0.5, "minus": -1.0, "log2e": np.log2(np.e),
    "lowest": -3.4028235e38, "alpha": 1.6732632423543772, "scale": 1.0507009873554805, "minus_one": -1.0,
    "infinite": np.inf,
}  # fmt: skip
U = "q = Mul (x, x) c = Mul (q, x) k = Mul (c, cubic) u = Add (x, k)"
SPELLINGS = {
    "gelu: Erf of a Reciprocal": ("gelu_erf", """i = Reciprocal (root) r = Mul (x, i) e = Erf (r)
        s = Add (e, one) h = Mul (s, x) y = Mul (half, h)"""),
    "gelu: half first": ("gelu_erf", """r = Div (x, root) e = Erf (r) h = Mul (e, half) s = Add (h, half)
        y = Mul (s, x)"""),
    "gelu: added halves": ("gelu_erf", """h = Mul (x, half) r = Div (x, root) e = Erf (r) p = Mul (h, e)
        y = Add (h, p)"""),
    "gelu: Sub of a negative": ("gelu_erf", """n = Neg (x) r = Mul (n, inverse) e = Erf (r) s = Sub (one, e)
        h = Mul (x, s) y = Mul (h, half)"""),
    "gelu_tanh: by a sigmoid": ("gelu_tanh", f"{U} w = Mul (u, twice_outer) g = Sigmoid (w) y = Mul (x, g)"),
    "gelu_tanh: by an exponential": ("gelu_tanh", f"""{U} w = Mul (u, twice_outer) n = Neg (w) e = Exp (n)
        d = Add (e, one) y = Div (x, d)"""),
    "gelu_tanh: Sum": ("gelu_tanh", """c = Pow (x, three) k = Mul (c, cubic) u = Sum (x, k)
        i = Mul (u, outer) t = Tanh (i) s = Sum (one, t) h = Mul (x, half) y = Mul (h, s)"""),
    "quick_gelu: by a tanh": ("quick_gelu", """a = Mul (x, quick) b = Mul (a, half) t = Tanh (b)
        s = Add (t, one) h = Mul (s, half) y = Mul (h, x)"""),
    "quick_gelu: by an exponential": ("quick_gelu", """a = Mul (x, quick) n = Neg (a) e = Exp (n)
        d = Add (one, e) r = Reciprocal (d) y = Mul (r, x)"""),
    "silu: x / (1 + exp(-x))": ("silu", "n = Neg (x) e = Exp (n) d = Add (e, one) y = Div (x, d)"),
    "silu: Mul by -1": ("silu", """n = Mul (x, minus) e = Exp (n) d = Add (e, one) r = Div (one, d)
        y = Mul (x, r)"""),
    "silu: by a tanh": ("silu", "a = Mul (x, half) t = Tanh (a) s = Add (t, one) y = Mul (a, s)"),
    "sigmoid: by a tanh": ("sigmoid", "a = Mul (x, half) t = Tanh (a) h = Mul (t, half) y = Add (h, half)"),
    "sigmoid: by an exponential": ("sigmoid", "n = Neg (x) e = Exp (n) d = Add (e, one) y = Reciprocal (d)"),
    "tanh: by a sigmoid": ("tanh", "a = Mul (x, two) g = Sigmoid (a) b = Mul (g, two) y = Sub (b, one)"),
    "relu: Max": ("relu", "y = Max (x, zero)"),
    "relu: Max the other way": ("relu", "y = Max (zero, x)"),
    "relu: Clip": ("relu", "y = Clip (x, zero)"),
    "relu: Clip to infinity": ("relu", "y = Clip (x, zero, infinite)"),
    "relu: Where": ("relu", "b = Greater (x, zero) y = Where (b, x, zero)"),
    "relu: Where the other way": ("relu", "b = Less (x, zero) y = Where (b, zero, x)"),
    "relu: mask": ("relu", "b = Greater (x, zero) m = Cast <to = 1> (b) y = Mul (x, m)"),
    "relu: magnitude": ("relu", "a = Abs (x) s = Add (a, x) m = Max (s, zero) y = Mul (m, half)"),
    "relu: twice": ("relu", "a = Relu (x) y = Relu (a)"),
    "relu squared": ("relu_squared", "a = Relu (x) y = Pow (a, two)"),
    "relu6": ("relu6", "y = Clip (x, zero, six)"),
    "relu6: Min": ("relu6", "a = Relu (x) y = Min (a, six)"),
    "leaky relu: Where": ("leaky_relu", "b = Greater (x, zero) a = Mul (x, slope) y = Where (b, x, a)"),
    "leaky relu: Max": ("leaky_relu", "a = Mul (x, slope) y = Max (x, a)"),
    "leaky relu: PRelu of one slope": ("leaky_relu", "y = PRelu (x, slope)"),
    "elu": ("elu", "e = Exp (x) a = Sub (e, one) b = Greater (x, zero) y = Where (b, x, a)"),
    "selu": ("selu", "a = Elu <alpha = 1.6732632423543772> (x) y = Mul (a, scale)"),
    "softplus": ("softplus", "y = Softplus (x)"),
    "softplus: guarded": ("softplus", """e = Exp (x) a = Add (e, one) l = Log (a) b = Greater (x, cap)
        y = Where (b, x, l)"""),
    "mish": ("mish", "s = Softplus (x) t = Tanh (s) y = Mul (x, t)"),
    "softsign": ("softsign", "a = Abs (x) d = Add (a, one) s = Softsign (x) b = Mul (s, d) y = Div (b, d)"),
    "hard sigmoid": ("hard_sigmoid", "a = Add (x, three) c = Clip (a, zero, six) y = Div (c, six)"),
    "hard swish": ("hard_swish", """a = Add (x, three) c = Clip (a, zero, six) m = Mul (x, c)
        y = Mul (m, sixth)"""),
    "soft cap": ("softcap", "a = Div (x, cap) t = Tanh (a) y = Mul (t, cap)"),
    "clip": ("clip", "y = Clip (x, minus, six)"),
}  # fmt: skip


def only(program: Program) -> Finding:
    assert len(program.findings) == 1, [f.facts["label"] for f in program.findings]
    return program.findings[0]


def constants(body: str, round_to: Callable[[float], float] = float) -> dict[str, float]:
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return {name: round_to(value) for name, value in NUMBERS.items() if name in words}


@pytest.mark.parametrize(("label", "body"), SPELLINGS.values(), ids=SPELLINGS)
def test_a_spelling_has_its_name(recognise: Recognise, label: str, body: str) -> None:
    program = recognise(f"{PLAIN} {{ {body} }}", **constants(body))
    finding = only(program)
    assert finding.facts["label"] == label and finding.error < 1e-6
    assert [s.name for s in finding.sources] == ["x"] and program.diagnostics == []
    x = np.linspace(-9, 9, 301).astype(np.float32)
    want = region.execute(finding.sources[0], finding.facts["value"], x, program.graph.opset)
    np.testing.assert_allclose(finding.facts["function"](x), want, rtol=2e-6, atol=2e-6)


def bfloat16(value: float) -> float:
    bits = np.float32(value).view(np.uint32)
    return float(((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32))


@pytest.mark.parametrize("round_to", [lambda v: float(np.float16(v)), bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("name", [name for name in SPELLINGS if "gelu" in name])
def test_constants_of_half_precision_keep_the_name(
    recognise: Recognise, name: str, round_to: Callable[[float], float]
) -> None:
    label, body = SPELLINGS[name]
    finding = only(recognise(f"{PLAIN} {{ {body} }}", **constants(body, round_to)))
    assert finding.facts["label"] == label


@pytest.mark.parametrize(
    ("op", "label"),
    [("HardSwish", "hard_swish"), ("Mish", "mish"), ("Softplus", "softplus"), ("Softsign", "softsign"),
     ("Elu", "elu"), ("Selu", "selu"), ("Celu", "elu"), ("LeakyRelu", "leaky_relu"), ("Relu", "relu"),
     ("Sigmoid", "sigmoid"), ("Tanh", "tanh"), ("Sinh", "function"), ("ThresholdedRelu", "function")],
)  # fmt: skip
def test_an_operator_has_its_name(recognise: Recognise, op: str, label: str) -> None:
    assert only(recognise(f"{PLAIN} {{ y = {op} (x) }}")).facts["label"] == label


@pytest.mark.parametrize(
    ("body", "labels", "nodes"),
    [
        ("a = Mul (x, two) g = Sigmoid (a) s = Mul (a, g) y = Mul (s, third)", {"silu": 1}, 2),
        ("""c = Min (x, six) a = Mul (c, quick) g = Sigmoid (a)
         y = Mul (c, g)""", {"clip": 1, "quick_gelu": 1}, 4),
        ("a = Relu (x) y = Mul (a, third)", {"relu": 1}, 1),
        ("a = Mul (x, third) t = Tanh (a) y = Mul (t, two)", {"tanh": 1}, 1),
        ("g = Sigmoid (x) s = Mul (x, g) y = Relu (s)", {"silu": 1, "relu": 1}, 3),
        ("a = Relu (x) t = Tanh (a) y = Mul (t, t)", {"function": 1}, 3),
    ],
    ids=["silu scaled", "clamped quick_gelu", "relu scaled", "tanh scaled", "relu of silu", "no name"],
)  # fmt: skip
def test_a_named_part_of_a_larger_region_is_found(
    recognise: Recognise, body: str, labels: dict[str, int], nodes: int
) -> None:
    program = recognise(f"{PLAIN} {{ {body} }}", **constants(body))
    assert Counter(f.facts["label"] for f in program.findings) == Counter(labels)
    assert sum(len(f.nodes) for f in program.findings) == nodes


def test_a_bias_and_reshapes_around_a_function_are_no_part_of_it(recognise: Recognise) -> None:
    text = f"""{PLAIN} {{ f = Reshape (x, flat) a = Add (f, bias) g = Sigmoid (a) s = Mul (a, g)
        y = Reshape (s, whole) }}"""
    finding = only(
        recognise(text, flat=np.array([-1, 8]), whole=np.array([1, -1, 8]), bias=np.linspace(-1, 1, 8))
    )
    assert finding.facts["label"] == "silu" and [s.name for s in finding.sources] == ["a"]


def test_a_half_of_the_channels_gates_the_other(recognise: Recognise) -> None:
    text = f"""({X} x) => (float[batch, length, 4] y)
        {{ a, b = Split <axis = -1, num_outputs = 2> (x) g = Sigmoid (b) s = Mul (b, g) y = Mul (a, s) }}"""
    finding = only(recognise(text))
    assert finding.facts["label"] == "silu" and [s.name for s in finding.sources] == ["b", "a"]


def test_the_clamp_of_scores_is_no_function(recognise: Recognise) -> None:
    finding = only(recognise(f"{PLAIN} {{ y = Max (x, lowest) }}", **constants("lowest")))
    assert finding.kind == "affine"


@pytest.mark.parametrize(("far", "kind"), [(64504.0, "affine"), (6.0, "SPK102")])
def test_a_bound_chosen_by_whether_anything_overflowed(recognise: Recognise, far: float, kind: str) -> None:
    """T5 in half precision clamps its hidden values so."""
    body = """i = IsInf (x) c = Cast <to = 1> (i) m = ReduceMax <keepdims = 0> (c) b = Cast <to = 9> (m)
        w = Where (b, far, top) n = Neg (w) l = Max (x, n) y = Min (l, w)"""
    program = recognise(f"{PLAIN} {{ {body} }}", far=far, top=65504.0)
    told = [d.code for d in program.diagnostics if d.code == "SPK102"]
    assert [f.kind for f in program.findings] + told == [kind] * 2


def test_a_where_steered_by_a_mask_is_no_function(recognise: Recognise) -> None:
    text = f"({X} x, bool[batch, length, 8] m) => ({X} y) {{ y = Where (m, x, lowest) }}"
    program = recognise(text, **constants("lowest"))
    assert program.findings == [] and program.diagnostics == []
