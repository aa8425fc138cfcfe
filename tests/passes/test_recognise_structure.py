"""Products, softmax, attention, rotary embedding and embeddings are recognised; what only resembles them is
not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from spikec.ir.program import Program
from spikec.ir.weights import array
from spikec.report import found

Recognise = Callable[..., Program]

D, HEADS, SIZE = 8, 2, 4
X = f"float[batch, length, {D}]"
RNG = np.random.default_rng(0)
QKV = {f"w{a}": RNG.standard_normal((D, D)) for a in "qkv"}
SHAPES = {
    "split": np.array([0, 0, HEADS, SIZE]),
    "joined": np.array([0, 0, D]),
    "scale": SIZE**-0.5,
    "lowest": -1e9,
}
HEADED = "".join(
    f"{a} = MatMul (x, w{a}) {a}s = Reshape ({a}, split) {a}h = Transpose <perm = [0, 2, 1, 3]> ({a}s) "
    for a in "qkv"
)
SCORES = "kt = Transpose <perm = [0, 1, 3, 2]> (kh) raw = MatMul (qh, kt) scaled = Mul (raw, scale)"
CONTEXT = "m = MatMul (p, vh) mt = Transpose <perm = [0, 2, 1, 3]> (m) y = Reshape (mt, joined)"
ADDITIVE = "sc = Add (scaled, mask) p = Softmax <axis = -1> (sc)"
WHERE = "sc = Where (keep, scaled, lowest) p = Softmax <axis = 3> (sc)"
UNMASKED = "p = Softmax (scaled)"
ANY = "batch, 1, length, length"
MASKS = f"float[{ANY}] mask, bool[{ANY}] keep"


def attention_text(middle: str, outputs: str = f"{X} y") -> str:
    return f"({X} x, {MASKS}) => ({outputs}) {{ {HEADED} {SCORES} {middle} {CONTEXT} }}"


def kinds(program: Program) -> Counter[str]:
    return Counter(f.facts["label"] for f in program.findings)


WHOLE = Counter(other_linear=3, qk=1, softmax=1, av=1, attention=1)


@pytest.mark.parametrize(
    ("middle", "masked"), [(ADDITIVE, True), (WHERE, True), (UNMASKED, False)], ids=["add", "where", "none"]
)
def test_attention(recognise: Recognise, middle: str, masked: bool) -> None:
    program = recognise(attention_text(middle), **QKV, **SHAPES)
    assert kinds(program) == WHOLE and program.diagnostics == []
    (attention,) = program.of("attention")
    assert [s.name for s in attention.sources] == ["qh", "kt"] and attention.name == "m"
    assert attention.facts["masked"] is masked
    assert {f.block for f in program.of("matmul_dynamic", "softmax", "attention")} == {0}


def test_attention_whose_weights_are_an_output_too(recognise: Recognise) -> None:
    outputs = f"{X} y, float[batch, {HEADS}, length, length] p"
    program = recognise(attention_text(ADDITIVE, outputs), **QKV, **SHAPES)
    assert kinds(program) == WHOLE
    assert program.of("softmax")[0].result is next(o for o in program.graph.outputs if o.name == "p")


def test_softmax_over_the_wrong_axis_makes_no_attention(recognise: Recognise) -> None:
    program = recognise(attention_text("p = Softmax <axis = 2> (scaled)"), **QKV, **SHAPES)
    assert kinds(program) == Counter(other_linear=3, matmul_dynamic=2, softmax=1)
    assert ["added up over another axis" in d.text for d in program.diagnostics] == [True]
    assert program.decisions["Softmax_12"].verdict == "spiking"


def test_softmax_over_the_keys_wherever_they_are(recognise: Recognise) -> None:
    """Keys times queries, softmax down the columns, values times that."""
    middle = """kq = MatMul (kh, qt) scaled = Mul (kq, scale) p = Softmax <axis = 2> (scaled)
        vt = Transpose <perm = [0, 1, 3, 2]> (vh) n = MatMul (vt, p)
        m = Transpose <perm = [0, 1, 3, 2]> (n)"""
    body = f"""{HEADED} qt = Transpose <perm = [0, 1, 3, 2]> (qh) {middle}
        mt = Transpose <perm = [0, 2, 1, 3]> (m) y = Reshape (mt, joined)"""
    given = {k: v for k, v in SHAPES.items() if k != "lowest"}
    assert kinds(recognise(f"({X} x) => ({X} y) {{ {body} }}", **QKV, **given)) == WHOLE


SQUARE = f"float[batch, {D}, {D}]"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("r = MatMul (x, wq) p = Softmax (r) y = Mul (p, x)", Counter(other_linear=1)),
        (
            "r = MatMul (x, wq) p = Softmax (r) v = MatMul (x, wv) y = MatMul (p, v)",
            Counter(other_linear=2, matmul_dynamic=1),
        ),
        (
            "q = MatMul (x, wq) k = MatMul (x, wk) r = MatMul (q, k) p = Softmax (r) y = Neg (p)",
            Counter(other_linear=2, matmul_dynamic=1),
        ),
    ],
    ids=["router", "scores are no product", "weights go into no product"],
)
def test_softmax_between_fewer_than_two_products(
    recognise: Recognise, body: str, found: Counter[str]
) -> None:
    program = recognise(f"({SQUARE} x) => ({SQUARE} y) {{ {body} }}", **QKV)
    assert kinds(program) == found + Counter(softmax=1)
    assert ["not part of an attention" in d.text for d in program.diagnostics] == [True]


@pytest.mark.parametrize(
    ("shape", "axis", "last"),
    [
        ("2, 3, 4", -1, True),
        ("2, 3, 4", 2, True),
        ("n", 0, True),
        ("n", -1, True),
        ("2, 3, 4", 1, False),
        ("2, 3, 4", -2, False),
        ("2, 3", 0, False),
    ],
)
def test_softmax_axis(recognise: Recognise, shape: str, axis: int, last: bool) -> None:
    program = recognise(f"(float[{shape}] x) => (float[{shape}] y) {{ y = Softmax <axis = {axis}> (x) }}")
    assert kinds(program) == Counter(softmax=1)
    assert program.decisions["Softmax_0"].verdict == "spiking"
    moves = [] if last else ["Transpose"]
    assert [node.op for node in program.graph.nodes] == [*moves, "Softmax", *moves]


ROPE = """q = MatMul (x, wq)
    low = Slice (q, from, half, last) high = Slice (q, half, to, last) minus = Neg (high)
    turned = Concat <axis = -1> (minus, low)
    a = Mul (q, cos) b = Mul (turned, sin) y = Add (a, b)"""
ROPE_WEIGHTS = {
    "wq": QKV["wq"],
    "from": np.array([0]),
    "half": np.array([D // 2]),
    "to": np.array([D]),
    "last": np.array([-1]),
}
ROPE_HEAD = f"({X} x, {X} cos, {X} sin) => ({X} y)"


@pytest.mark.parametrize(
    "change",
    [
        (),
        ("Add (a, b)", "Add (b, a)"),
        ("Add (a, b)", "Sub (a, b)"),
        ("Mul (q, cos)", "Mul (cos, q)"),
        ("Mul (turned, sin)", "Mul (sin, turned)"),
    ],
)
def test_rope(recognise: Recognise, change: tuple[str, ...]) -> None:
    program = recognise(f"{ROPE_HEAD} {{ {ROPE.replace(*change) if change else ROPE} }}", **ROPE_WEIGHTS)
    assert kinds(program) == Counter(other_linear=1, rope=1)
    (rope,) = program.of("rope")
    assert rope.sources[0].name == "q" and {s.name for s in rope.sources[1:]} == {"cos", "sin"}
    assert len(rope.nodes) == 7 and rope.facts["pairs"] == "halves" and rope.facts["features"] == (0, D, D)
    verdicts = Counter(d.verdict for d in program.decisions.values())
    assert verdicts == Counter(spiking=1, linear=7)


@pytest.mark.parametrize(
    "change",
    [
        ("Neg (high)", "Abs (high)"),
        ("Concat <axis = -1> (minus, low)", "Concat <axis = -1> (low, minus)"),
        ("Slice (q, half, to, last)", "Slice (x, half, to, last)"),
        ("Mul (q, cos)", "Mul (x, cos)"),
    ],
)
def test_what_only_looks_like_rope(recognise: Recognise, change: tuple[str, str]) -> None:
    program = recognise(f"{ROPE_HEAD} {{ {ROPE.replace(*change)} }}", **ROPE_WEIGHTS)
    assert program.of("rope") == []


# Linear layers, whatever their weights come from

W, W2, BIAS = RNG.standard_normal((D, 6)), RNG.standard_normal((6, D)), RNG.standard_normal(6)


def test_gemm_becomes_matmul_and_add(recognise: Recognise) -> None:
    body = "h = Gemm <transB = 1> (x, w, b) r = Relu (h) y = MatMul (r, w2)"
    text = f"(float[n, {D}] x) => (float[n, {D}] y) {{ {body} }}"
    program = recognise(text, w=W.T, w2=W2, b=BIAS)
    assert kinds(program) == Counter(other_linear=2, relu=1)
    (linear,) = program.of("linear")
    np.testing.assert_array_equal(array(linear.facts["weight"]), W.astype(np.float32))
    assert [node.op for node in program.graph.nodes] == ["MatMul", "Add", "Relu", "MatMul"]
    np.testing.assert_array_equal(array(program.graph.nodes[1].inputs[1]), BIAS.astype(np.float32))


@pytest.mark.parametrize(
    ("attributes", "made"),
    [
        ("transA = 1", ["Transpose", "MatMul", "Add"]),
        ("alpha = 2.0", ["MatMul", "Mul", "Add"]),
        ("beta = 0.5", ["MatMul", "Add"]),
        ("transB = 1, beta = 0.0", ["MatMul"]),
    ],
)
def test_gemm_of_any_kind(recognise: Recognise, attributes: str, made: list[str]) -> None:
    shape = f"float[{D}, {D}]"
    program = recognise(
        f"({shape} x) => ({shape} y) {{ y = Gemm <{attributes}> (x, w, b) }}", w=QKV["wq"], b=BIAS[:1]
    )
    assert kinds(program) == Counter(other_linear=1)
    nodes = [node.op for node in program.graph.nodes]
    assert [op for op in nodes if op in made] == made
    (decision,) = (d for d in program.decisions.values() if d.op == "Gemm")
    assert decision.verdict == "host" and decision.macs == D**3


def test_gemm_of_two_activations(recognise: Recognise) -> None:
    shape = f"float[{D}, {D}]"
    program = recognise(
        f"({shape} x) => ({shape} y) {{ a = MatMul (x, w) b = Gemm <transB = 1> (a, x, c) y = Relu (b) }}",
        w=QKV["wq"], c=BIAS[:1],
    )  # fmt: skip
    assert kinds(program) == Counter(other_linear=1, matmul_dynamic=1, relu=1)


NUMBERS = "{1.0, 2.0, 3.0, 4.0, 5.0, 6.0}"


@pytest.mark.parametrize(
    "source",
    [
        f"w = Constant <value = float[2, 3] {NUMBERS}> ()",
        f"c = Constant <value = float[2, 3] {NUMBERS}> () w = Identity (c)",
        "w = Identity (kept)",
        "i = Identity (kept) w = Identity (i)",
        "w = Transpose <perm = [1, 0]> (turned)",
    ],
    ids=["node", "identity of node", "identity of initialiser", "two identities", "transposed"],
)
def test_weights_by_any_road(recognise: Recognise, source: str) -> None:
    kept = np.arange(1.0, 7.0).reshape(2, 3)
    text = f"(float[n, 2] x) => (float[n, 3] y) {{ {source} h = MatMul (x, w) y = Relu (h) }}"
    given = {name: value for name, value in (("kept", kept), ("turned", kept.T)) if f"({name})" in source}
    program = recognise(text, **given)
    assert kinds(program) == Counter(other_linear=1, relu=1)
    np.testing.assert_array_equal(array(program.of("linear")[0].facts["weight"]), kept)
    assert [node.op for node in program.graph.nodes] == ["MatMul", "Relu"]


def test_head_tied_to_the_embedding(recognise: Recognise) -> None:
    table = RNG.standard_normal((11, D))
    text = """(int64[batch, length] ids) => (float[batch, length, 11] y) {
        x = Gather (table, ids) h = MatMul (x, wq) r = Relu (h)
        t = Transpose <perm = [1, 0]> (table) y = MatMul (r, t) }"""
    program = recognise(text, table=table, wq=QKV["wq"])
    assert kinds(program) == Counter(embedding=1, other_linear=2, relu=1)
    np.testing.assert_array_equal(array(program.of("head")[0].facts["weight"]), table.T.astype(np.float32))
    assert program.of("embedding")[0].facts["weight"].name == "table"
    verdicts = {d.op: d.verdict for d in program.decisions.values()}
    assert verdicts["Gather"] == "host" and verdicts["Relu"] == "spiking"


@pytest.mark.parametrize("lead", ["2, ", "1, ", "5, 2, ", "5, 1, "])
def test_a_stack_of_matrices_becomes_one_product_each(recognise: Recognise, lead: str) -> None:
    out = lead.replace("1, ", "2, ")
    program = recognise(
        f"(float[{lead}{D}, {D}] x) => (float[{out}{D}, 6] y) {{ h = MatMul (x, stack) y = Relu (h) }}",
        stack=RNG.standard_normal((2, D, 6)),
    )
    assert found(program)["other_linear"] == 2 and len(program.of("linear")) == 2
    assert {d.verdict for d in program.decisions.values() if d.op == "MatMul"} == {"spiking"}
    macs = sum(d.macs or 0 for d in program.decisions.values())
    assert macs == (5 if "5" in lead else 1) * 2 * D * D * 6


def test_a_stack_that_does_not_fit_counts_each_and_stays(recognise: Recognise) -> None:
    program = recognise(
        f"(float[3, {D}] x) => (float[2, 3, {D}] y) {{ y = MatMul (x, stack) }}", stack=np.ones((2, D, D))
    )
    assert found(program)["other_linear"] == 2
    assert [d.verdict for d in program.decisions.values()] == ["host"]
    assert ["3 dimensions" in d.text for d in program.diagnostics] == [True]


def test_a_stack_of_one_is_a_matrix(recognise: Recognise) -> None:
    shape = f"float[2, {D}, {D}]"
    program = recognise(
        f"({shape} x) => ({shape} y) {{ h = MatMul (x, stack) y = Relu (h) }}", stack=np.ones((1, D, D))
    )
    assert found(program)["other_linear"] == 1 and tuple(program.of("linear")[0].facts["weight"].shape) == (
        D,
        D,
    )


def test_weights_on_the_left(recognise: Recognise) -> None:
    shape = f"float[2, {D}, {D}]"
    program = recognise(f"({shape} x) => ({shape} y) {{ h = MatMul (w, x) y = Relu (h) }}", w=QKV["wq"])
    (linear,) = program.of("linear")
    np.testing.assert_array_equal(array(linear.facts["weight"]), QKV["wq"].T.astype(np.float32))
    assert [node.op for node in program.graph.nodes] == ["Transpose", "MatMul", "Transpose", "Relu"]


def test_positions_times_frequencies_are_no_product_of_activations(recognise: Recognise) -> None:
    text = """(float[n, 1] time, float[1, 4] frequency) => (float[n, 4] y)
        { a = MatMul (time, frequency) y = Cos (a) }"""
    program = recognise(text)
    assert program.findings == []
    assert {d.verdict for d in program.decisions.values()} == {"host"}
