"""What is proved of an attention: scale, cap, mask kinds and polarity, heads, closedness, in any spelling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spikec.ir.program import Finding, Program
from spikec.report import found

Recognise = Callable[..., Program]

D, HEADS, SIZE = 8, 2, 4
SCALE = SIZE**-0.5
X = f"float[batch, length, {D}]"
RNG = np.random.default_rng(0)
SHAPES = {
    "split": np.array([0, 0, HEADS, SIZE]), "joined": np.array([0, 0, D]), "scale": SCALE,
    "root": SCALE**0.5, "inverse": SIZE**0.5, "lowest": -1e9, "none": 0.0, "last": np.array([-1]),
    "zero": np.array(0), "one": np.array(1), "first": np.array([0]), "second": np.array([1]),
    "outer": np.array([1, 2]), "end": np.array([2**62]), "cap": 30.0, "unit": 1.0,
    "power": np.array(0.5), "slopes": np.array([0.5, 0.25]).reshape(1, HEADS, 1, 1), "window": np.array(3),
}  # fmt: skip
"""Every initialiser that some text below may name."""
Q, K, V = (
    f"{a} = MatMul (x, w{a}) {a}s = Reshape ({a}, split) {a}h = Transpose <perm = [0, 2, 1, 3]> ({a}s) "
    for a in "qkv"
)
TURN = "kt = Transpose <perm = [0, 1, 3, 2]> (kh)"
RAW = f"{TURN} raw = MatMul (qh, kt)"
PLAIN = f"{RAW} s = Mul (raw, scale)"
WEIGH = "p = Softmax <axis = -1> (s)"
CONTEXT = "m = MatMul (p, vh)"
OUT = "mt = Transpose <perm = [0, 2, 1, 3]> (m) c = Reshape (mt, joined) o = MatMul (c, wo) y = Add (x, o)"
POSITIONS = """size = Shape (x) n = Gather (size, one) all = Range (zero, n, one)
    row = Unsqueeze (all, second) column = Unsqueeze (all, first)"""
CAUSAL = f"{POSITIONS} seen = LessOrEqual (column, row) bias = Where (seen, none, lowest)"


def program(
    recognise: Recognise, body: str, inputs: str = "", outputs: str = "", shapes: dict[str, Any] | None = None
) -> Program:
    text = f"({X} x{inputs}) => ({X} y{outputs}) {{ {body} }}"
    given = {k: v for k, v in (SHAPES | (shapes or {})).items() if any(f"{mark}{k}{end}" in text
        for mark in " (" for end in " ,)")}  # fmt: skip
    weights = {f"w{a}": RNG.standard_normal((D, D)) for a in "qkvo" if f"w{a}" in text}
    return recognise(text, **{**weights, **given})


def attention(recognise: Recognise, middle: str, **more: Any) -> Finding:
    (finding,) = program(recognise, f"{Q} {K} {V} {middle} {OUT}", **more).of("attention")
    return finding


@pytest.mark.parametrize(
    ("middle", "scale"),
    [
        (f"{RAW} s = Mul (raw, scale)", SCALE),
        (f"{RAW} s = Div (raw, inverse)", SCALE),
        (f"{RAW} s = Identity (raw)", 1),
        (f"{TURN} qz = Mul (qh, scale) s = MatMul (qz, kt)", SCALE),
        (f"{TURN} kz = Mul (scale, kt) s = MatMul (qh, kz)", SCALE),
        (f"{TURN} qz = Mul (qh, root) kz = Mul (kt, root) s = MatMul (qz, kz)", SCALE),
        (
            f"""{TURN} sizes = Shape (qh) d = Gather (sizes, last) f = Cast <to = 1> (d) r = Sqrt (f)
            i = Div (unit, r) h = Sqrt (i) qz = Mul (qh, h) kz = Mul (kt, h) s = MatMul (qz, kz)""",
            SCALE,
        ),
    ],
    ids=["after", "divided", "absent", "on q", "on k", "split", "computed at run time"],
)
def test_scale_wherever_it_is(recognise: Recognise, middle: str, scale: float) -> None:
    facts = attention(recognise, f"{middle} {WEIGH} {CONTEXT}").facts
    assert facts["scale"] == pytest.approx(scale, rel=1e-5)
    assert facts["unproved"] == () and facts["softcap"] is None


def test_a_scale_of_one_element_of_any_rank(recognise: Recognise) -> None:
    facts = attention(
        recognise, f"{RAW} s = Mul (raw, deep) {WEIGH} {CONTEXT}", shapes={"deep": np.full((1, 1, 1), 0.25)}
    ).facts
    assert facts["scale"] == pytest.approx(0.25)


def test_a_scale_before_the_rotation(recognise: Recognise) -> None:
    angles = np.arange(6)[:, None] * np.ones(SIZE)
    half = {
        "mid": np.array([SIZE // 2]), "axis": np.array([-1]), "start": np.array([0]),
        "stop": np.array([SIZE]), "cosines": np.cos(angles), "sines": np.sin(angles),
    }  # fmt: skip
    turn = """low = Slice (qz, start, mid, axis) high = Slice (qz, mid, stop, axis) minus = Neg (high)
        t = Concat <axis = -1> (minus, low) a = Mul (qz, cosines) b = Mul (t, sines) qr = Add (a, b)"""
    body = f"{Q} {K} {V} qz = Mul (qh, scale) {turn} {TURN} s = MatMul (qr, kt) {WEIGH} {CONTEXT} {OUT}"
    text = f"(float[batch, 6, {D}] x) => (float[batch, 6, {D}] y) {{ {body} }}"
    given = {k: v for k, v in (SHAPES | half).items() if any(f"{m}{k}{e}" in text
        for m in " (" for e in " ,)")}  # fmt: skip
    result = recognise(text, **{f"w{a}": RNG.standard_normal((D, D)) for a in "qkvo"}, **given)
    (finding,) = result.of("attention")
    assert len(result.of("rope")) == 1 and finding.facts["scale"] == pytest.approx(SCALE)


def test_soft_cap(recognise: Recognise) -> None:
    cap = "a = Div (z, cap) t = Tanh (a) s = Mul (t, cap)"
    facts = attention(recognise, f"{RAW} z = Mul (raw, scale) {cap} {WEIGH} {CONTEXT}").facts
    assert facts["softcap"] == pytest.approx(30, rel=1e-4)
    assert facts["scale"] == pytest.approx(SCALE, rel=1e-4)


KEEPS = "wide = Unsqueeze (attention_mask, outer) b = Cast <to = 9> (wide) bias = Where (b, none, lowest)"
HIDES = "wide = Unsqueeze (attention_mask, outer) b = Cast <to = 9> (wide) bias = Where (b, lowest, none)"
ADDED = f"{RAW} z = Mul (raw, scale) s = Add (z, bias)"
PADDED = ", int64[batch, length] attention_mask"


@pytest.mark.parametrize(
    ("mask", "inputs", "kinds", "polarity"),
    [
        (f"{PLAIN}", "", {"none"}, ""),
        (f"{CAUSAL} {RAW} z = Mul (raw, scale) s = Add (z, bias)", "", {"causal", "additive"}, ""),
        (f"{CAUSAL} {RAW} z = Mul (raw, scale) s = Where (seen, z, lowest)", "", {"causal", "bool"}, ""),
        (f"{CAUSAL} {RAW} z = Where (seen, raw, lowest) s = Mul (z, scale)", "", {"causal", "bool"}, ""),
        (
            f"""{POSITIONS} gap = Sub (row, column) past = GreaterOrEqual (gap, zero)
            near = Less (gap, window)
            seen = And (past, near) {RAW} z = Mul (raw, scale) s = Where (seen, z, lowest)""",
            "",
            {"causal", "sliding", "bool"},
            "",
        ),
        (f"{KEEPS} {ADDED}", PADDED, {"padding", "additive"}, "one keeps"),
        (f"{HIDES} {ADDED}", PADDED, {"padding", "additive"}, "one hides"),
        (
            f"""{CAUSAL} wide = Unsqueeze (attention_mask, outer) b = Cast <to = 9> (wide)
            both = And (seen, b)
            {RAW} z = Mul (raw, scale) s = Where (both, z, lowest)""",
            PADDED,
            {"causal", "padding", "bool"},
            "one keeps",
        ),
        (
            f"""{POSITIONS} gap = Sub (column, row) f = Cast <to = 1> (gap) bias = Mul (f, slopes)
            {RAW} z = Mul (raw, scale) s = Add (z, bias)""",
            "",
            {"bias"},
            "",
        ),
    ],
    ids=["none", "causal", "causal where", "where before the scale", "sliding", "padding", "inverted padding",
         "causal and padding", "slopes"],
)  # fmt: skip
def test_mask(recognise: Recognise, mask: str, inputs: str, kinds: set[str], polarity: str) -> None:
    facts = attention(recognise, f"{mask} {WEIGH} {CONTEXT}", inputs=inputs).facts
    assert facts["mask"] - {"additive"} == kinds - {"additive"}
    assert ("additive" in facts["mask"]) == ("additive" in kinds) or "bias" in kinds
    assert facts["polarity"] == polarity and facts["masked"] == (kinds != {"none"})
    assert facts["scale"] == pytest.approx(SCALE, rel=1e-3)


def test_heads_and_guards_in_between(recognise: Recognise) -> None:
    guards = """half = Cast <to = 1> (raw) z = Mul (half, scale) s = Max (z, lowest)
        q0 = Softmax <axis = -1> (s) bad = IsNaN (q0) p = Where (bad, none, q0)"""
    facts = attention(recognise, f"{RAW} {guards} {CONTEXT}").facts
    assert (facts["heads"], facts["kv_heads"], facts["head_size"]) == (HEADS, HEADS, SIZE)
    assert facts["grouping"] == "each its own"


FEW = {
    "kvw": RNG.standard_normal((D, 2 * SIZE)), "qw": RNG.standard_normal((D, 4 * SIZE)),
    "qsplit": np.array([0, 0, 4, SIZE]), "kvsplit": np.array([0, 0, 2, SIZE]), "axis": np.array([2]),
    "often": np.array([1, 1, 2, 1, 1]), "joined4": np.array([0, 4, -1, SIZE]),
    "times": np.array([1, 2, 1, 1]), "ow": RNG.standard_normal((4 * SIZE, D)), "joined": np.array([0, 0, 16]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("repeat", "grouping"),
    [
        ("u = Unsqueeze ({0}, axis) e = Expand (u, often) {1} = Reshape (e, joined4)", "grouped"),
        ("{1} = Tile ({0}, times)", "interleaved"),
        ("{1} = Concat <axis = 1> ({0}, {0})", "interleaved"),
    ],
    ids=["expand", "tile", "concat"],
)
def test_grouped_queries(recognise: Recognise, repeat: str, grouping: str) -> None:
    def heads(a: str, weight: str, split: str) -> str:
        return f"""{a} = MatMul (x, {weight}) {a}s = Reshape ({a}, {split})
            {a}g = Transpose <perm = [0, 2, 1, 3]> ({a}s)"""

    again = {a: repeat.format(f"{a}g", f"{a}h").replace("u =", f"u{a} =").replace("(u,", f"(u{a},")
             .replace("e =", f"e{a} =").replace("(e,", f"(e{a},") for a in "kv"}  # fmt: skip
    body = f"""{heads("q", "qw", "qsplit")} {heads("k", "kvw", "kvsplit")} {heads("v", "kvw", "kvsplit")}
        {again["k"]} {again["v"]} kt = Transpose <perm = [0, 1, 3, 2]> (kh) raw = MatMul (qg, kt)
        s = Mul (raw, scale) {WEIGH} {CONTEXT} {OUT.replace("wo", "ow")}"""
    (finding,) = program(recognise, body, shapes=FEW).of("attention")
    facts = finding.facts
    assert (facts["heads"], facts["kv_heads"], facts["grouping"]) == (4, 2, grouping)


def test_heads_merged_into_the_batch(recognise: Recognise) -> None:
    flat = {"flat": np.array([-1, 5, SIZE]), "deep": np.array([-1, HEADS, 5, SIZE])}
    body = f"""{Q} {K} {V} qf = Reshape (qh, flat) kf = Reshape (kh, flat) vf = Reshape (vh, flat)
        kt = Transpose <perm = [0, 2, 1]> (kf) raw = MatMul (qf, kt) s = Mul (raw, scale) {WEIGH}
        mf = MatMul (p, vf) m = Reshape (mf, deep) {OUT}"""
    result = program(recognise, body.replace("batch, length", "batch, 5"), shapes=flat)
    (finding,) = result.of("attention")
    assert finding.facts["heads"] == HEADS and finding.facts["scale"] == pytest.approx(SCALE)


def test_context_spelled_the_other_way_round(recognise: Recognise) -> None:
    turned = """vt = Transpose <perm = [0, 1, 3, 2]> (vh) pt = Transpose <perm = [0, 1, 3, 2]> (p)
        mm = MatMul (vt, pt) m = Transpose <perm = [0, 1, 3, 2]> (mm)"""
    assert attention(recognise, f"{PLAIN} {WEIGH} {turned}").facts["scale"] == pytest.approx(SCALE)


def test_einsum(recognise: Recognise) -> None:
    body = f"""q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv) qs = Reshape (q, split)
        ks = Reshape (k, split) vs = Reshape (v, split)
        raw = Einsum <equation = "bqhd,bkhd->bhqk"> (qs, ks) s = Mul (raw, scale) {WEIGH}
        m = Einsum <equation = "bhqk,bkhd->bqhd"> (p, vs) c = Reshape (m, joined) o = MatMul (c, wo)
        y = Add (x, o)"""
    result = program(recognise, body)
    (finding,) = result.of("attention")
    assert finding.facts["scale"] == pytest.approx(SCALE) and finding.facts["heads"] == HEADS
    counts = found(result)
    assert (counts["linear"], counts["matmul_dynamic"], counts["other_linear"]) == (4, 2, 0)


def test_a_cache_is_an_input_and_an_output(recognise: Recognise) -> None:
    shape = f"float[batch, {HEADS}, past, {SIZE}]"
    body = f"""{Q} {K} {V} ka = Concat <axis = 2> (past_k, kh) va = Concat <axis = 2> (past_v, vh)
        {PLAIN.replace("(kh)", "(ka)")} {WEIGH} m = MatMul (p, va) {OUT}"""
    full = f"float[batch, {HEADS}, total, {SIZE}]"
    result = program(
        recognise, body, inputs=f", {shape} past_k, {shape} past_v", outputs=f", {full} ka, {full} va"
    )
    (finding,) = result.of("attention")
    assert finding.facts["past"] == ("past_k",) and finding.facts["heads"] == HEADS
    assert {o.name for o in result.graph.outputs} == {"y", "ka", "va"}


def test_hidden_extra_uses_are_named(recognise: Recognise) -> None:
    """Scores and weights may be read elsewhere: every rewrite leaves their values in the graph."""
    scores = f"float[batch, {HEADS}, length, length]"
    body = f"{Q} {K} {V} {PLAIN} {WEIGH} {CONTEXT} twice = Exp (s) {OUT}"
    result = program(recognise, body, outputs=f", {scores} twice, {scores} p")
    (finding,) = result.of("attention")
    exp, output = finding.facts["extra_uses"]
    assert exp.startswith("Exp_") and output == "output p"
    assert found(result)["attention"] == 1 and found(result)["matmul_dynamic"] == 2


def test_scores_of_three_products(recognise: Recognise) -> None:
    """Content to content, content to position, position to content, added up before one softmax."""
    relative = RNG.standard_normal((1, HEADS, SIZE, 16))
    body = f"""{Q} {K} {V} {RAW} pk = MatMul (table, wk) pks = Reshape (pk, split)
        pkh = Transpose <perm = [0, 2, 3, 1]> (pks) c2p = MatMul (qh, pkh) both = Add (raw, c2p)
        s = Mul (both, scale) {WEIGH} {CONTEXT} {OUT}"""
    result = program(
        recognise, body.replace("length", "16"), shapes={"table": RNG.standard_normal((1, 16, D))}
    )
    assert relative.size and found(result)["matmul_dynamic"] == 3 and found(result)["linear"] == 5
    (finding,) = result.of("attention")
    assert [f.name for f in finding.facts["more_scores"]] == ["c2p"]


def test_attention_sinks(recognise: Recognise) -> None:
    """A column beside the keys takes up weight, and the row's maximum is taken away first."""
    sinks = {"sink": np.zeros((1, HEADS, 1, 1)), "kept": np.array([-1])}
    body = f"""{PLAIN.replace("s = Mul", "z = Mul")} size = Shape (z) lead = Slice (size, first, end3, first)
        shape = Concat <axis = 0> (lead, second) column = Expand (sink, shape)
        all = Concat <axis = -1> (z, column) top = ReduceMax <keepdims = 1> (all, last) s = Sub (all, top)
        wide = Softmax <axis = -1> (s) p = Slice (wide, first, kept, last)"""
    sinks["end3"] = np.array([3])
    facts = attention(recognise, f"{body} {CONTEXT}", shapes=sinks).facts
    assert facts["scale"] == pytest.approx(SCALE, rel=1e-4) and facts["extra_uses"] == ()


def test_what_changes_the_scores_beyond_a_scale_is_not_proved(recognise: Recognise) -> None:
    result = program(recognise, f"{Q} {K} {V} {RAW} s = Mul (raw, raw) {WEIGH} {CONTEXT} {OUT}")
    (finding,) = result.of("attention")
    assert finding.facts["scale"] is None and finding.facts["unproved"][0].startswith("scale:")
    assert ["part by part: scale" in d.text for d in result.diagnostics if d.code == "SPK121"] == [True]
    assert found(result)["matmul_dynamic"] == 2 and found(result)["softmax"] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("p = Mul (p0, p0)", "changed by more than a scale"),
        ("p = Sub (unit, p0)", "changed by more than a scale"),
        ("p = Mul (p0, scale)", ""),
        ("p = Dropout (p0)", ""),
    ],
)
def test_what_changes_the_weights_beyond_a_scale_is_told(
    recognise: Recognise, change: str, reason: str
) -> None:
    weigh = f"p0 = Softmax <axis = -1> (s) {change}"
    result = program(recognise, f"{Q} {K} {V} {PLAIN} {weigh} {CONTEXT} {OUT}")
    told = [d.text for d in result.diagnostics if d.code == "SPK121"]
    assert len(told) == bool(reason) and all(reason in text for text in told)


def test_weights_times_scores_are_told(recognise: Recognise) -> None:
    heads = " ".join((Q, K, V)).replace("(x, w", "(h, w")
    body = (
        f"h = LayerNormalization (x, gain) {heads} {PLAIN} p0 = Softmax (s) p = Mul (p0, s) {CONTEXT} {OUT}"
    )
    result = program(recognise, body, shapes={"gain": np.ones(D)})
    told = [d.text for d in result.diagnostics if d.code in ("SPK105", "SPK121")]
    assert len(told) == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_weights_that_sum_to_one_elsewhere_are_no_attention(recognise: Recognise, axis: int) -> None:
    weigh = f"p = Softmax <axis = {axis}> (s)"
    result = program(recognise, f"{Q} {K} {V} {PLAIN} {weigh} {CONTEXT} {OUT}")
    assert result.of("attention") == [] and len(result.of("softmax")) == 1
    assert ["over another axis" in d.text for d in result.diagnostics if d.code == "SPK105"] == [True]


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        ("t = TopK <axis = -1> (p, one1) u = Identity (t)", "router"),
        ("u = Mul (p, raw)", "weights go into no product"),
    ],
)
def test_every_softmax_says_what_it_is(recognise: Recognise, tail: str, reason: str) -> None:
    square = f"float[batch, {D}, {D}]"
    body = f"""q = MatMul (x, wq) k = MatMul (x, wk) raw = MatMul (q, k) {"p = Softmax (raw)"}
        {tail.replace("t = TopK", "t, i = TopK")} y = Reshape (u, joined)"""
    text = f"({square} x) => (float[batch, n, m] y) {{ {body} }}"
    if "TopK" in tail:
        text = text.replace("raw = MatMul (q, k)", "raw = Add (q, k)")
    result = recognise(
        text, wq=RNG.standard_normal((D, D)), wk=RNG.standard_normal((D, D)), joined=np.array([0, 0, -1]),
        **({"one1": np.array([1])} if "TopK" in tail else {}),
    )  # fmt: skip
    assert result.of("attention") == []
    assert [reason in d.text for d in result.diagnostics if d.code == "SPK105"] == [True]
    assert Counter(f.facts["label"] for f in result.findings)["softmax"] == 1
    assert bool(result.of("router")) is ("TopK" in tail)


def test_sizes_that_an_export_has_baked_in_are_found(recognise: Recognise) -> None:
    """A mask longer than the tokens by a prefix of four, and positions for thirteen tokens at most."""
    prefix = {"prefix": RNG.standard_normal((1, 4, D)), "places": RNG.standard_normal((1, 13, D))}
    joined = f"""e = Add (ids, places) all = Concat <axis = 1> (prefix, e)
        {Q.replace("(x,", "(all,")} {K.replace("(x,", "(all,")} {V.replace("(x,", "(all,")}
        b = Cast <to = 9> (attention_mask) wide = Unsqueeze (b, outer) raw0 = Where (wide, none, lowest)
        {RAW} z = Mul (raw, scale) s = Add (z, raw0) {WEIGH} {CONTEXT}
        {OUT.replace("(x,", "(all,")}"""
    text = (
        f"(float[1, tokens, {D}] ids, int64[1, total] attention_mask) => (float[1, n, {D}] y) {{ {joined} }}"
    )
    given = {k: v for k, v in (SHAPES | prefix).items() if any(f"{a}{k}{b}" in text
        for a in " (" for b in " ,)")}  # fmt: skip
    weights = {f"w{a}": RNG.standard_normal((D, D)) for a in "qkvo"}
    (finding,) = recognise(text, **weights, **given).of("attention")
    assert finding.facts["scale"] == pytest.approx(SCALE) and finding.facts["polarity"] == "one keeps"
