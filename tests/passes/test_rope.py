"""Rotations by position in every layout and spelling, and what only looks like one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from spikec.ir.program import Program

Recognise = Callable[..., Program]

D, LENGTH = 8, 6
X = f"float[2, {LENGTH}, {D}]"
RNG = np.random.default_rng(0)
ANGLES = np.arange(LENGTH)[:, None] * 10.0 ** -np.linspace(0, 6, D // 2)
CONSTANTS = {
    "w": RNG.standard_normal((D, D)), "frequency": 10.0 ** -np.linspace(0, 6, D // 2)[None],
    "zero": np.array(0), "one": np.array(1), "length": np.array(LENGTH), "second": np.array([1]),
    "from": np.array([0]), "half": np.array([D // 2]), "to": np.array([D]), "last": np.array([-1]),
    "quarter": np.array([D // 4]), "two": np.array([2]), "odd": np.array([1]), "size": np.array([0, 0, D]),
    "pairs": np.array([0, 0, D // 2, 2]), "deep": np.array([3]), "even": np.array([D // 2, D // 2]),
    "cosines": np.cos(ANGLES), "sines": np.sin(ANGLES), "factor": np.array(1.25),
    "narrow": np.cos(ANGLES[:, : D // 4]), "narrow_sin": np.sin(ANGLES[:, : D // 4]),
}  # fmt: skip
POSITIONS = """all = Range (zero, length, one) time = Cast <to = 1> (all) column = Unsqueeze (time, second)
    angle = MatMul (column, frequency) c = Cos (angle) s = Sin (angle)"""
TWICE = f"{POSITIONS} cos = Concat <axis = -1> (c, c) sin = Concat <axis = -1> (s, s)"
HALVES = "low = Slice (q, from, half, last) high = Slice (q, half, to, last)"
NEIGHBOURS = "low = Slice (q, from, to, last, two) high = Slice (q, odd, to, last, two)"
TURN = """a1 = Mul (low, c) b1 = Mul (high, s) r1 = Sub (a1, b1) a2 = Mul (high, c) b2 = Mul (low, s)
    r2 = Add (a2, b2)"""
NARROW = TURN.replace(", c)", ", narrow)").replace(", s)", ", narrow_sin)")
STACK = """u1 = Unsqueeze (r1, deep) u2 = Unsqueeze (r2, deep) st = Concat <axis = 3> (u1, u2)
    y = Reshape (st, size)"""
ROTATE = f"{HALVES} minus = Neg (high) turned = Concat <axis = -1> (minus, low)"
SUM = "a = Mul (q, cos) b = Mul (turned, sin) y = Add (a, b)"
TABLES = "c = Gather (cosines, position_ids) s = Gather (sines, position_ids)"


def rotations(recognise: Recognise, body: str, inputs: str = "") -> Program:
    text = f"({X} x{inputs}) => ({X} out) {{ q = MatMul (x, w) {body} out = Mul (y, factor) }}"
    given = {k: v for k, v in CONSTANTS.items() if any(f"{a}{k}{b}" in text for a in " (" for b in ",)")}
    return recognise(text, **given)


SPELLED = {
    "rotate half": (f"{TWICE} {ROTATE} {SUM}", "halves", (0, D, D)),
    "the other way round": (f"{TWICE} {ROTATE} {SUM.replace('Add', 'Sub')}", "halves", (0, D, D)),
    "halves apart": (f"{POSITIONS} {HALVES} {TURN} y = Concat <axis = -1> (r1, r2)", "halves", (0, D, D)),
    "split": (
        f"""{POSITIONS} low, high = Split <axis = -1> (q, even) {TURN} y = Concat <axis = -1> (r1, r2)""",
        "halves",
        (0, D, D),
    ),
    "neighbours stacked": (f"{POSITIONS} {NEIGHBOURS} {TURN} {STACK}", "neighbours", (0, D, D)),
    "complex numbers": (
        f"""{POSITIONS} z = Reshape (q, pairs) low = Gather <axis = -1> (z, zero)
        high = Gather <axis = -1> (z, one)
        {TURN} {STACK}""",
        "neighbours",
        (0, D, D),
    ),
    "neighbours to halves": (
        f"{POSITIONS} {NEIGHBOURS} {TURN} y = Concat <axis = -1> (r1, r2)",
        "neighbours to halves",
        (0, D, D),
    ),
    "tables": (f"{TABLES} {HALVES} {TURN} y = Concat <axis = -1> (r1, r2)", "halves", (0, D, D)),
    "scaled tables": (
        f"""{POSITIONS.replace("c = Cos", "c0 = Cos").replace("s = Sin", "s0 = Sin")} c = Mul (c0, factor)
        s = Mul (s0, factor) {HALVES} {TURN} y = Concat <axis = -1> (r1, r2)""",
        "halves",
        (0, D, D),
    ),
    "partial": (
        f"""part = Slice (q, from, half, last) pass = Slice (q, half, to, last)
        low = Slice (part, from, quarter, last)
        high = Slice (part, quarter, half, last) {NARROW}
        done = Concat <axis = -1> (r1, r2) y = Concat <axis = -1> (done, pass)""",
        "halves",
        (0, D // 2, D // 2),
    ),
    "partial at once": (
        f"""low = Slice (q, from, quarter, last) high = Slice (q, quarter, half, last)
        pass = Slice (q, half, to, last)
        {NARROW}
        y = Concat <axis = -1> (r1, r2, pass)""",
        "halves",
        (0, D // 2, D),
    ),
}


@pytest.mark.parametrize("name", SPELLED)
def test_rotation(recognise: Recognise, name: str) -> None:
    body, pairs, features = SPELLED[name]
    inputs = f", int64[2, {LENGTH}] position_ids" if "position_ids" in body else ""
    program = rotations(recognise, body, inputs)
    (rope,) = program.of("rope")
    assert rope.facts["pairs"] == pairs and rope.facts["features"] == features
    assert rope.facts["keeps_norm"] and rope.error < 1e-6
    assert {program.decisions[n.name].verdict for n in rope.nodes} == {"linear"}


NEAR_MISSES = {
    "both added": f"{POSITIONS} {HALVES} {TURN.replace('Sub', 'Add')} y = Concat <axis = -1> (r1, r2)",
    "not turned": f"{TWICE} {HALVES} turned = Concat <axis = -1> (high, low) {SUM}",
    "turned without a sign": f"{TWICE} {ROTATE.replace('Neg', 'Abs')} {SUM}",
    "cosine twice": f"{TWICE} {ROTATE} {SUM.replace('(turned, sin)', '(turned, cos)')}",
    "scaled by position": f"{TWICE} {ROTATE} {SUM.replace('(q, cos)', '(q, sin)')}",
    "another's half": f"""{TWICE} {ROTATE} k = MatMul (x, w) a = Mul (k, cos) b = Mul (turned, sin)
        y = Add (a, b)""",
    "halves of two sizes": f"{POSITIONS} {HALVES} {TURN} y = Concat <axis = -1> (r1, low)",
    "an angle of the input": f"""{
        TWICE.replace(
            "angle = MatMul (column, frequency)", "kk = MatMul (x, w) angle = Slice (kk, from, half, last)"
        )
    } {ROTATE} {SUM}""",
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_only_looks_like_a_rotation(recognise: Recognise, name: str) -> None:
    assert rotations(recognise, NEAR_MISSES[name]).of("rope") == []


def test_an_interior_value_read_elsewhere_keeps_it_open(recognise: Recognise) -> None:
    body = f"{TWICE} {ROTATE} {SUM.replace('y = Add (a, b)', 'e = Add (a, b) f = Exp (b) y = Add (e, f)')}"
    assert rotations(recognise, body).of("rope") == []


def test_queries_and_keys_of_one_table(recognise: Recognise) -> None:
    second = f"{ROTATE} {SUM}"
    for name in ("low", "high", "minus", "turned", "a", "b", "y", "q"):
        second = second.replace(f"{name} =", f"{name}k =").replace(f"({name},", f"({name}k,")
        second = second.replace(f", {name})", f", {name}k)").replace(f"({name})", f"({name}k)")
    body = f"""{TWICE} {ROTATE} {SUM.replace("y =", "y1 =")} qk = MatMul (x, w) {second} y = Add (y1, yk)"""
    assert len(rotations(recognise, body).of("rope")) == 2
