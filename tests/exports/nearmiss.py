"""Functions that only resemble a known one, as small models: what each must be found as, and the remark that
says why it is no more."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

N = 8
X = f"float[batch, length, {N}]"
COLUMN = "float[batch, length, 1]"
ONE = f"({X} x) => ({X} y)"
TWO = f"({X} x, {X} z) => ({X} y)"
GAIN, SHIFT = np.linspace(0.5, 2, N), np.linspace(-1, 1, N)

NUMBERS: dict[str, float | np.ndarray] = {
    "half": 0.5, "one": 1.0, "two": 2.0, "three": 3.0, "root": 2**0.5, "cubic": 0.044715,
    "outer": (2 / np.pi) ** 0.5, "quick": 1.702, "zero": 0.0, "epsilon": 1e-3,
    "last": np.array([-1]), "gain": GAIN, "shift": SHIFT,
}  # fmt: skip
ERF = "r = Div (x, root) e = Erf (r) s = Add (e, one)"
GELU_ERF = f"h = Mul (x, half) {ERF} y = Mul (h, s)"
GELU_TANH = """c = Pow (x, three) k = Mul (c, cubic) a = Add (x, k) i = Mul (a, outer) t = Tanh (i)
    s = Add (t, one) h = Mul (x, half) y = Mul (h, s)"""
QUICK = "a = Mul (x, quick) g = Sigmoid (a) y = Mul (x, g)"
ROOT = "m = ReduceMean (q, last) v = Add (m, epsilon) d = Sqrt (v)"
RMS = f"q = Mul (x, x) {ROOT} u = Div (x, d) y = Mul (u, gain)"
LAYER = f"""c = ReduceMean (x, last) o = Sub (x, c) q = Mul (o, o) {ROOT}
    u = Div (o, d) g = Mul (u, gain) y = Add (g, shift)"""
SOFTMAX = "m = ReduceMax (x, last) o = Sub (x, m) e = Exp (o) s = ReduceSum (e, last) y = Div (e, s)"
UNMATCHED, OPEN = "numbers match neither", "read elsewhere"


@dataclass(frozen=True)
class NearMiss:
    body: str
    found: dict[str, int]
    """How often each label is found."""
    told: tuple[tuple[str, str], ...] = ()
    """The code of every remark, and words in it."""
    wrong: dict[str, float | np.ndarray] = field(default_factory=dict)
    """Constants in place of, or besides, NUMBERS."""
    signature: str = ONE
    opset: int = 18

    @property
    def weights(self) -> dict[str, float | np.ndarray]:
        """The constants that the body reads."""
        words = set(self.body.replace("(", " ").replace(")", " ").replace(",", " ").split())
        return {name: value for name, value in (NUMBERS | self.wrong).items() if name in words}


def near(function: str) -> tuple[tuple[str, str], ...]:
    return (("SPK111", f"nearest: {function}"),)


FUNCTION = {"function": 1}
FUNCTIONS = {
    "gelu_tanh of another cubic": NearMiss(GELU_TANH, FUNCTION, near("gelu"), {"cubic": 0.05}),
    "gelu_tanh of another slope": NearMiss(GELU_TANH, FUNCTION, near("gelu"), {"outer": 0.81}),
    "gelu_tanh without its cubic": NearMiss(GELU_TANH, FUNCTION, near("quick_gelu"), {"cubic": 0.0}),
    "gelu_tanh of a square": NearMiss(GELU_TANH, FUNCTION, (), {"three": 2.0}),
    "quick_gelu of another slope": NearMiss(QUICK, FUNCTION, near("quick_gelu"), {"quick": 1.6}),
    "silu of another slope": NearMiss(QUICK, FUNCTION, (), {"quick": 1.2}),
    "erf of x/2": NearMiss(GELU_ERF, FUNCTION, (), {"root": 2.0}),
    "erf of x": NearMiss(GELU_ERF, FUNCTION, (), {"root": 1.0}),
    "gelu without its half": NearMiss(f"{ERF} y = Mul (x, s)", FUNCTION),
    "gelu with 0.51": NearMiss(GELU_ERF, FUNCTION, near("gelu_erf"), {"half": 0.51}),
    "gelu with erf + 1.01": NearMiss(GELU_ERF, FUNCTION, near("gelu_erf"), {"one": 1.01}),
    "x·erf(x)": NearMiss("e = Erf (x) y = Mul (x, e)", FUNCTION),
    "gelu of two values": NearMiss(GELU_ERF.replace("Mul (x", "Mul (z"), FUNCTION, signature=TWO),
    "gelu of gelu": NearMiss(
        f"""{ERF} h = Mul (x, half) w = Mul (h, s)
        r2 = Div (w, root) e2 = Erf (r2) s2 = Add (e2, one) h2 = Mul (w, half) y = Mul (h2, s2)""",
        {"gelu_erf": 2},
    ),
    "gelu whose erf is an output": NearMiss(GELU_ERF, FUNCTION, signature=f"({X} x) => ({X} y, {X} e)"),
    "silu whose sigmoid is an output": NearMiss(
        "g = Sigmoid (x) y = Mul (x, g)", {"sigmoid": 1}, signature=f"({X} x) => ({X} y, {X} g)"
    ),
    "silu whose sigmoid goes elsewhere": NearMiss(
        "g = Sigmoid (x) a = Mul (x, g) b = Mul (z, g) y = Add (a, b)", {"sigmoid": 1}, signature=TWO
    ),
    "z·sigmoid(x)": NearMiss("g = Sigmoid (x) y = Mul (z, g)", {"sigmoid": 1}, signature=TWO),
    "silu(x)·z": NearMiss("g = Sigmoid (x) a = Mul (x, g) y = Mul (a, z)", {"silu": 1}, signature=TWO),
    "silu(x)·x": NearMiss("g = Sigmoid (x) a = Mul (x, g) y = Mul (a, x)", FUNCTION),
    "sigmoid(x)·tanh(z)": NearMiss(
        "g = Sigmoid (x) t = Tanh (z) y = Mul (g, t)", {"sigmoid": 1, "tanh": 1}, signature=TWO
    ),
    "soft cap of two numbers": NearMiss(
        "a = Div (x, cap) t = Tanh (a) y = Mul (t, three)", {"tanh": 1}, wrong={"cap": 30.0}
    ),
    "soft cap": NearMiss(
        "a = Div (x, cap) t = Tanh (a) y = Mul (t, cap)", {"softcap": 1}, wrong={"cap": 30.0}
    ),
    "relu from 0.1": NearMiss("y = Max (x, low)", {"clip": 1}, wrong={"low": 0.1}),
    "relu up to 8": NearMiss("y = Clip (x, zero, top)", {"clip": 1}, wrong={"top": 8.0}),
    "relu of two values": NearMiss("y = Max (x, z)", {}, (("SPK102", "two values"),), signature=TWO),
    "leaky relu with a slope per channel": NearMiss(
        "y = PRelu (x, gain)", {}, (("SPK102", "channel to channel"),)
    ),
    "hard swish of another width": NearMiss(
        "a = Div (x, five) b = Add (a, half) c = Clip (b, zero, one) y = Mul (x, c)",
        FUNCTION,
        wrong={"five": 5.0},
    ),
    "a bound that nothing reaches": NearMiss("y = Max (x, lowest)", {"affine": 1}, wrong={"lowest": -3.4e38}),
    "tanh of x + z": NearMiss("a = Add (x, z) y = Tanh (a)", {"tanh": 1}, signature=TWO),
    "sigmoid of the mean": NearMiss(
        "m = ReduceMean (x, last) g = Sigmoid (m) y = Mul (x, g)", {"sigmoid": 1}, (("SPK101", UNMATCHED),)
    ),
}


def over(body: str, axes: list[int], which: str = "last") -> NearMiss:
    """The body with one of its means over other axes."""
    told = (("SPK101", "not the last one alone"),) * body.count("ReduceMean")
    return NearMiss(body, {}, told, {which: np.array(axes)})


FIRST_OPEN = (("SPK101", OPEN), ("SPK101", OPEN))
UNLIKE = (("SPK101", UNMATCHED),)
NORMS = {
    "layer norm over the sequence": over(LAYER, [1]),
    "layer norm over the batch": over(LAYER, [0]),
    "layer norm over sequence and channels": over(LAYER, [1, 2]),
    "rms norm over the sequence": over(RMS, [-2]),
    "rms norm over everything": over(RMS, [0, 1, 2]),
    "rms norm across heads": NearMiss(
        RMS,
        {},
        (("SPK101", "axes -2"),),
        {"last": np.array([2])},
        f"(float[batch, length, 4, {N}] x) => (float[batch, length, 4, {N}] y)",
    ),
    "mean over channels, variance over the sequence": NearMiss(
        LAYER.replace("(q, last)", "(q, other)"),
        {},
        (("SPK101", UNMATCHED), ("SPK101", "axes -2")),
        {"other": np.array([1])},
    ),
    "variance of another value": NearMiss(
        LAYER.replace("Mul (o, o)", "Mul (z, z)"), {}, UNLIKE * 2, signature=TWO
    ),
    "mean of another value": NearMiss(
        LAYER.replace("ReduceMean (x", "ReduceMean (z"), {"rmsnorm": 1}, UNLIKE, signature=TWO
    ),
    "variance about zero": NearMiss(LAYER.replace("Mul (o, o)", "Mul (x, x)"), {}, UNLIKE * 2),
    "rms norm by the variance": NearMiss(LAYER.replace("Div (o, d)", "Div (x, d)"), {}, UNLIKE * 2),
    "centred only": NearMiss("c = ReduceMean (x, last) y = Sub (x, c)", {}, UNLIKE),
    "rms of another value": NearMiss(RMS.replace("Mul (x, x)", "Mul (z, z)"), {}, UNLIKE, signature=TWO),
    "mean of magnitudes": NearMiss(RMS.replace("q = Mul (x, x)", "q = Abs (x)"), {}, UNLIKE),
    "mean of fourth powers": NearMiss(
        RMS.replace("q = Mul (x, x)", "p = Mul (x, x) q = Mul (p, p)"), {}, UNLIKE
    ),
    "without the root": NearMiss(
        "q = Mul (x, x) m = ReduceMean (q, last) v = Add (m, epsilon) y = Div (x, v)", {}, UNLIKE
    ),
    "epsilon outside the root": NearMiss(
        """q = Mul (x, x) m = ReduceMean (q, last) d = Sqrt (m) v = Add (d, epsilon)
        u = Div (x, v) y = Mul (u, gain)""",
        {},
        (("SPK101", "nearest: rmsnorm"),),
    ),
    "a floor for the power": NearMiss(RMS.replace("Add (m", "Max (m"), FUNCTION, UNLIKE),
    "unbiased variance": NearMiss(
        """c = ReduceMean (x, last) o = Sub (x, c) q = Mul (o, o) m = ReduceSum (q, last) a = Div (m, fewer)
        v = Add (a, epsilon) d = Sqrt (v) y = Div (o, d)""",
        {"layernorm": 1},
        wrong={"fewer": N - 1.0},
    ),
    "layer norm whose mean is an output": NearMiss(
        LAYER, {}, FIRST_OPEN, signature=f"({X} x) => ({X} y, {COLUMN} c)"
    ),
    "layer norm whose mean is read later": NearMiss(
        LAYER.replace("y = Add (g, shift)", "b = Add (g, shift) y = Add (b, c)"), {}, FIRST_OPEN
    ),
    "layer norm whose deviation is an output": NearMiss(
        LAYER, {}, FIRST_OPEN, signature=f"({X} x) => ({X} y, {COLUMN} d)"
    ),
    "layer norm whose centred value is an output": NearMiss(
        LAYER, {}, FIRST_OPEN, signature=f"({X} x) => ({X} y, {X} o)"
    ),
    "rms norm whose power is an output": NearMiss(
        RMS, {}, (("SPK101", OPEN),), signature=f"({X} x) => ({X} y, {COLUMN} m)"
    ),
    "native layer norm whose mean is read": NearMiss(
        "b, c = LayerNormalization (x, gain, shift) y = Add (b, c)", {}, (("SPK101", "used elsewhere"),)
    ),
    "native layer norm over two axes": NearMiss(
        "y = LayerNormalization <axis = 1> (x, both)",
        {},
        (("SPK101", "over axis 1"),),
        {"both": np.ones((4, N))},
        f"(float[batch, 4, {N}] x) => (float[batch, 4, {N}] y)",
    ),
    "native layer norm with a computed gain": NearMiss(
        "y = LayerNormalization (x, w)",
        {},
        (("SPK101", "not constant"),),
        signature=f"({X} x, float[{N}] w) => ({X} y)",
    ),
    "rms norm with a computed gain": NearMiss(
        RMS.replace("gain", "w"), {"rmsnorm": 1}, signature=f"({X} x, float[{N}] w) => ({X} y)"
    ),
    "l1 norm": NearMiss("a = Abs (x) s = ReduceSum (a, last) y = Div (x, s)", {}, (("SPK113", "outside"),)),
    "l2 norm": NearMiss("d = ReduceL2 (x, last) y = Div (x, d)", {"l2norm": 1}),
    "batch norm": NearMiss(
        "y = BatchNormalization (x, a, a, a, a)",
        {},
        (),
        {"a": np.ones(5)},
        f"(float[batch, 5, {N}] x) => (float[batch, 5, {N}] y)",
    ),
    "instance norm": NearMiss(
        "y = InstanceNormalization (x, a, a)",
        {},
        (("SPK101", "other axes"),),
        {"a": np.ones(5)},
        f"(float[batch, 5, {N}] x) => (float[batch, 5, {N}] y)",
    ),
    "mean over the sequence": NearMiss(
        "y = ReduceMean (x, axis)",
        {},
        (("SPK101", "axes -2"),),
        {"axis": np.array([1])},
        f"({X} x) => (float[batch, 1, {N}] y)",
    ),
}

OTHER = (("SPK112", "no softmax of one value"),)
ALONE = (("SPK105", "not part of an attention"),)
SOFTMAXES = {
    "softmax over the sequence": NearMiss("y = Softmax <axis = 1> (x)", {"softmax": 1}, ALONE),
    "softmax of opset 11, over sequence and channels": NearMiss(
        "y = Softmax (x)", {"softmax": 1}, ALONE, opset=11
    ),
    "softmax of opset 11, over channels": NearMiss(
        "y = Softmax <axis = 2> (x)", {"softmax": 1}, ALONE, opset=11
    ),
    "softmax spelled out over the sequence": NearMiss(
        SOFTMAX, {"function": 1}, OTHER, {"last": np.array([1])}
    ),
    "softmax of a scaled value": NearMiss(
        f"w = Div (x, three) {SOFTMAX.replace('(x,', '(w,')}", {"softmax": 1}, ALONE
    ),
    "softmax of softmax": NearMiss("a = Softmax (x) y = Softmax (a)", {"softmax": 2}, ALONE * 2),
    "softmax that is an output twice": NearMiss(
        "p = Softmax (x) y = MatMul (p, w)",
        {"softmax": 1, "other_linear": 1},
        ALONE,
        {"w": np.eye(N)},
        signature=f"({X} x) => ({X} y, {X} p)",
    ),
    "softmax plus one": NearMiss(
        "e = Exp (x) s = ReduceSum (e, last) t = Add (s, one) y = Div (e, t)", {"function": 1}, OTHER
    ),
    "softmax whose sum is an output": NearMiss(
        SOFTMAX, {"function": 1}, (("SPK112", OPEN),), signature=f"({X} x) => ({X} y, {COLUMN} s)"
    ),
    "softmax with a masked sum": NearMiss(
        "a = Exp (x) e = Mul (a, z) s = ReduceSum (e, last) y = Div (e, s)",
        {"function": 1},
        OTHER,
        signature=TWO,
    ),
    "softmax of another value's sum": NearMiss(
        "e = Exp (x) f = Exp (z) s = ReduceSum (f, last) y = Div (e, s)",
        {"function": 2},
        OTHER,
        signature=TWO,
    ),
    "logarithm of softmax": NearMiss(
        "e = Exp (x) s = ReduceSum (e, last) l = Log (s) y = Sub (x, l)",
        {"function": 1},
        (("SPK112", "logarithm"),),
    ),
    "log-softmax": NearMiss("y = LogSoftmax (x)", {}, (("SPK112", "logarithm"),)),
    "sigmoids that sum to one": NearMiss(
        "e = Sigmoid (x) s = ReduceSum (e, last) y = Div (e, s)", {"sigmoid": 1}, (("SPK113", "outside"),)
    ),
    "a sink among the scores": NearMiss(
        "c = Concat <axis = -1> (x, z) y = Softmax (c)",
        {"softmax": 1},
        ALONE,
        signature=f"({X} x, {COLUMN} z) => (float[batch, length, {N + 1}] y)",
    ),
}

NEAR_MISSES = FUNCTIONS | NORMS | SOFTMAXES
