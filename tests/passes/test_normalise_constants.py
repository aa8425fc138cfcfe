"""Constants, known sizes and no-ops fold; arithmetic of the model itself, and what only looks idle, stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from exports.handmade import MODELS
from normalised import difference, feed, normalise, run, session
from onnx import numpy_helper, parser

from spikec.ir import graph as graphs
from spikec.ir import pipeline, weights
from spikec.ir.program import Program
from spikec.ir.weights import DerivedValues, array
from spikec.passes.normalise import NORMALISE
from spikec.passes.normalise.numeric import OPERATORS, evaluate

RNG = np.random.default_rng(11)


def text_model(text: str, **given: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> g {text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in given.items())
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    onnx.checker.check_model(model)
    return model


def ops(program: Program) -> list[str]:
    return sorted(node.op for node in program.graph.nodes)


# Every operator that is computed here gives what ONNX Runtime gives

F = np.float32
X = RNG.standard_normal((2, 3, 4)).astype(F)
POSITIVE = np.abs(X) + F(0.1)
WHOLE = RNG.integers(-9, 9, (2, 3, 4))
TRUTH = WHOLE > 0
UNARY = {
    "Neg": X, "Abs": X, "Sign": X, "Floor": X, "Ceil": X, "Round": 3 * X, "Sqrt": POSITIVE,
    "Reciprocal": POSITIVE,     "Exp": X, "Log": POSITIVE, "Sin": X, "Cos": X, "Tanh": X, "Not": TRUTH,
    "IsNaN": X, "IsInf": X,
    "Identity": X,
}  # fmt: skip
CASES: list[tuple[str, dict[str, object], list[np.ndarray]]] = [
    *((op, {}, [x]) for op, x in UNARY.items()),
    *((op, {}, [X, POSITIVE[:, :1]]) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum")),
    *((op, {}, [WHOLE, np.where(TRUTH, 4, -3)]) for op in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min")),
    *((op, {}, [WHOLE, WHOLE[::-1].copy()]) for op in ("Equal", "Less", "LessOrEqual")),
    *((op, {}, [WHOLE, WHOLE[::-1].copy()]) for op in ("Greater", "GreaterOrEqual")),
    *((op, {}, [TRUTH, TRUTH[::-1].copy()]) for op in ("And", "Or", "Xor")),
    *((op, {}, [X, np.array([0, -1])]) for op in ("ReduceSum", "ReduceMean", "ReduceMax")),
    *((op, {}, [X, np.array([0, -1])]) for op in ("ReduceMin", "ReduceProd")),
    *((op, {"keepdims": 0}, [WHOLE]) for op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")),
    ("ReduceSum", {"noop_with_empty_axes": 1}, [X]),
    ("Mod", {"fmod": 1}, [X, POSITIVE]), ("Pow", {}, [POSITIVE, np.array(-0.5, F)]),
    ("Pow", {}, [X, np.array(2)]),
    ("Cast", {"to": 7}, [3 * X]), ("Cast", {"to": 9}, [WHOLE]), ("Cast", {"to": 1}, [TRUTH]),
    ("Squeeze", {}, [X[:, :1], np.array([1])]), ("Squeeze", {}, [X[:, :1]]),
    ("Unsqueeze", {}, [X, np.array([0, -1])]),
    ("Reshape", {}, [X, np.array([0, -1])]), ("Reshape", {"allowzero": 1}, [X[:0], np.array([0, 5])]),
    ("Slice", {}, [X, np.array([1, -3]), np.array([99, -1]), np.array([0, 2])]),
    ("Slice", {}, [X, np.array([-1]), np.array([-99]), np.array([2]), np.array([-2])]),
    ("Slice", {}, [X, np.array([0, 1]), np.array([1, 2])]),
    ("Split", {"axis": 2}, [X, np.array([1, 3])]), ("Split", {"axis": 1, "num_outputs": 2}, [X]),
    ("ConstantOfShape", {}, [np.array([2, 3])]), ("Expand", {}, [X[:, :1], np.array([2, 1, 3, 1])]),
    ("ConstantOfShape", {"value": numpy_helper.from_array(np.array([7]))}, [np.array([2, 3])]),
    ("Range", {}, [np.array(2), np.array(9), np.array(3)]),
    ("Range", {}, [np.array(1, F), np.array(0, F), np.array(-0.3, F)]),
    ("Trilu", {}, [X, np.array(1)]), ("Trilu", {"upper": 0}, [X]), ("CumSum", {}, [WHOLE, np.array(-1)]),
    ("MatMul", {}, [X[..., :1], X[:, :1]]), ("Clip", {}, [X, np.array(-0.5, F), np.array(0.5, F)]),
    ("ScatterND", {}, [X, np.array([[0, 1], [1, 2]]), X[0, :2]]),
    ("GatherND", {}, [X, np.array([[0, 1], [1, 2]])]),
    ("Flatten", {"axis": 2}, [X]), ("Where", {}, [TRUTH, X, np.array(5, F)]),
    ("Gather", {"axis": 1}, [X, np.array([[0, -1]])]), ("Concat", {"axis": -1}, [X, X[..., :2]]),
    ("Transpose", {"perm": [2, 0, 1]}, [X]), ("Transpose", {}, [X]), ("Tile", {}, [X, np.array([1, 2, 3])]),
    ("Shape", {"start": 1}, [X]), ("Size", {}, [X]), ("NonZero", {}, [WHOLE]),
]  # fmt: skip


NAMES = [f"{i}-{case[0]}" for i, case in enumerate(CASES)]


@pytest.mark.parametrize(("op", "attributes", "operands"), CASES, ids=NAMES)
def test_computed_as_onnx_runtime_computes(
    tmp_path: Path, op: str, attributes: dict[str, object], operands: list[np.ndarray]
) -> None:
    names = [f"i{k}" for k in range(len(operands))]
    outputs = ["o0", "o1"] if op == "Split" else ["o0"]
    node = onnx.helper.make_node(op, names, outputs, **attributes)
    given = [
        onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, operands, strict=True)
    ]
    made = onnx.helper.make_graph([node], "g", given, [onnx.ValueInfoProto(name=name) for name in outputs])
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "one.onnx")
    expected = session(tmp_path / "one.onnx").run(None, dict(zip(names, operands, strict=True)))
    (imported,) = gs.import_onnx(onnx.load(tmp_path / "one.onnx")).nodes
    got = evaluate(imported, operands)
    assert got is not None
    for a, b in zip(expected, got, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_every_operator_computed_is_compared() -> None:
    assert {case[0] for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("op", "operands"),
    [("Div", [np.array([1]), np.array([0])]), ("Reshape", [X, np.array([5, 5])]),
     ("Gather", [X, np.array(9)]),
     ("ConstantOfShape", [np.array([1 << 20])]), ("MatMul", [X, X.transpose(0, 2, 1)])],
)  # fmt: skip
def test_what_cannot_or_should_not_be_computed_stays(op: str, operands: list[np.ndarray]) -> None:
    assert evaluate(gs.Node(op, outputs=[gs.Variable("y")]), operands) is None


# Sizes

HALVED = """(float[b, s, 8] q) => (float[b, s, 8] y) {
    d = Shape (q) last = Slice (d, minus, end)
    f = Cast <to = 1> (last) r = Sqrt (f) i = Div (one, r) t = Sqrt (i)
    y = Mul (q, t) }"""


def test_the_scale_of_attention_is_a_number(tmp_path: Path) -> None:
    """As TorchScript exports scaled dot products: computed from the head size each time the model runs."""
    given = {"minus": np.array([-1]), "end": np.array([1 << 62]), "one": np.array([1.0], F)}
    program, _ = normalise(tmp_path, text_model(HALVED, **given))
    (node,) = program.graph.nodes
    assert node.op == "Mul" and array(node.inputs[1]).item() == pytest.approx(8**-0.25)


def test_sizes_that_callers_choose_stay(tmp_path: Path) -> None:
    text = HALVED.replace("float[b, s, 8]", "float[b, s, d]")
    given = {"minus": np.array([-1]), "end": np.array([1 << 62]), "one": np.array([1.0], F)}
    assert "Shape" in ops(normalise(tmp_path, text_model(text, **given))[0])


def test_known_sizes_out_of_an_open_shape(tmp_path: Path) -> None:
    text = """(float[b, 3, 8] x) => (int64[2] y, int64[1] z) {
        s = Shape (x) y = Gather (s, places) b = Gather (s, first) z = Add (b, first) }"""
    path = normalise(tmp_path, text_model(text, places=np.array([2, 1]), first=np.array([0])))[1]
    x = np.zeros((5, 3, 8), F)
    y, z = run(path, {"x": x})
    assert y.tolist() == [8, 3] and z.tolist() == [5]


# What passes its input on, and what only looks like it

IO = "(float[b, s, 8] x) => (float[b, s, 8] y)"
IDLE = {
    "identity": "a = Identity (x) y = Neg (a)",
    "dropout": "a = Dropout (x) y = Neg (a)",
    "dropout told not to train": "a = Dropout (x, ratio, no) y = Neg (a)",
    "cast to what it is": "a = Cast <to = 1> (x) y = Neg (a)",
    "reshape to the same": "a = Reshape (x, same) y = Neg (a)",
    "expand to the same": "a = Expand (x, ones) y = Neg (a)",
    "transpose that moves nothing": "a = Transpose <perm = [0, 1, 2]> (x) y = Neg (a)",
    "transpose and back": """a = Transpose <perm = [1, 2, 0]> (x) b = Transpose <perm = [2, 0, 1]> (a)
        y = Neg (b)""",
    "transpose twice": "a = Transpose (x) b = Transpose (a) y = Neg (b)",
    "slice of all": "a = Slice (x, zero, far, two) y = Neg (a)",
    "concat of one": "a = Concat <axis = 1> (x) y = Neg (a)",
    "times one": "a = Mul (x, one) y = Neg (a)",
    "one times": "a = Mul (one, x) y = Neg (a)",
    "plus nothing": "a = Add (x, nothing) y = Neg (a)",
    "minus nothing": "a = Sub (x, nothing) y = Neg (a)",
    "by one": "a = Div (x, one) y = Neg (a)",
    "to the power of one": "a = Pow (x, one) y = Neg (a)",
}
GIVEN = {
    "ratio": np.array(0.5, F), "no": np.array(False), "yes": np.array(True), "same": np.array([0, 0, 8]),
    "ones": np.array([1, 1, 1]), "zero": np.array([0]), "far": np.array([1 << 62]), "two": np.array([2]),
    "one": np.array(1, F), "nothing": np.array([0], F), "eight": np.array([8]), "pace": np.array([1]),
    "deep": np.ones((1, 1, 1, 1), F), "other": np.array([0, -1, 4]), "last": np.array([7]), 
    "minus": np.array([-1]), "even": np.array([2]), "near": np.full(8, 1, F), "wide": np.array([2, 1, 1, 1]),
}  # fmt: skip


def given(body: str) -> dict[str, np.ndarray]:
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {name: value for name, value in GIVEN.items() if name in words}


@pytest.mark.parametrize("name", IDLE)
def test_idle_operators_go(tmp_path: Path, name: str) -> None:
    program, path = normalise(tmp_path, text_model(f"{IO} {{ {IDLE[name]} }}", **given(IDLE[name])))
    assert ops(program) == ["Neg"]
    x = {"x": RNG.standard_normal((2, 3, 8)).astype(F)}
    assert difference(run(tmp_path / "given.onnx", x), run(path, x)) <= 1e-6
    gone = {node.name for node in onnx.load(tmp_path / "given.onnx").graph.node if node.op_type != "Neg"}
    assert gone <= program.decisions.keys(), "every node taken away is accounted for"


BUSY = {
    "cast to another type": ("a = Cast <to = 7> (x) b = Cast <to = 1> (a) y = Neg (b)", 3),
    "reshape to another shape": ("a = Reshape (x, other) b = Neg (a) y = Reshape (b, same8)", 3),
    "transpose and on": (
        "a = Transpose <perm = [1, 2, 0]> (x) b = Transpose <perm = [1, 2, 0]> (a) y = Neg (b)",
        3,
    ),
    "slice that leaves one out": (
        "a = Slice (x, zero, last, two) b = Concat <axis = 2> (a, a) y = Neg (b)",
        3,
    ),
    "slice that turns round": ("a = Slice (x, minus, below, two, minus) y = Neg (a)", 2),
    "slice of every second": (
        "a = Slice (x, zero, far, two, even) b = Concat <axis = 2> (a, a) y = Neg (b)",
        3,
    ),
    "times one in more axes": ("a = Mul (x, deep) y = Neg (a)", 2),
    "times ones in a row": ("a = Mul (x, near) y = Neg (a)", 2),
    "one divided": ("a = Div (one, x) y = Neg (a)", 2),
    "nothing less": ("a = Sub (nothing, x) y = Neg (a)", 2),
    "expand to more": ("a = Expand (x, wide) y = Neg (a)", 2),
}


@pytest.mark.parametrize("name", BUSY)
def test_operators_that_do_something_stay(tmp_path: Path, name: str) -> None:
    body, count = BUSY[name]
    rank = 4 if "more" in name else 3
    more = {"same8": np.array([0, -1, 8]), "below": np.array([-100])}
    used = given(body) | {k: v for k, v in more.items() if k in body}
    output = "float[p, b, s, 8] y" if rank == 4 else "float[b, s, e] y"
    program, path = normalise(tmp_path, text_model(f"(float[b, s, 8] x) => ({output}) {{ {body} }}", **used))
    assert len(program.graph.nodes) == count
    x = {"x": RNG.standard_normal((2, 3, 8)).astype(F)}
    assert difference(run(tmp_path / "given.onnx", x), run(path, x)) <= 1e-6


def test_a_dropout_that_trains_or_tells_its_mask_stays(tmp_path: Path) -> None:
    for body in (
        "a = Dropout (x, ratio, yes) y = Neg (a)",
        "a, m = Dropout (x) c = Cast <to = 1> (m) y = Mul (a, c)",
    ):
        program, _ = normalise(tmp_path, text_model(f"{IO} {{ {body} }}", **given(body)))
        assert "Dropout" in ops(program)


def test_reshape_between_free_sizes_stays(tmp_path: Path) -> None:
    """Two free sizes are the same only when they bear one name."""
    text = """(float[b, s, 8] x, int64[3] t) => (float[p, q, r] y) { a = Reshape (x, t) y = Neg (a) }"""
    assert ops(normalise(tmp_path, text_model(text))[0]) == ["Neg", "Reshape"]


# Weights: their layout is settled before the model runs, their arithmetic is the model's own

W = RNG.standard_normal((80, 96)).astype(F)
WEIGHTS = {
    "transposed": ("t = Transpose (w) y = MatMul (x, t)", W.T),
    "cast": ("t = Cast <to = 1> (h) u = Transpose (t) y = MatMul (x, u)", W.astype(np.float16).astype(F).T),
    "scaled": ("t = Mul (w, k) u = Transpose (t) y = MatMul (x, u)", W.T * F(3)),
    "cut out": ("t = Slice (w, a, e, d) u = Transpose (t) y = MatMul (x, u)", W[8:40].T),
    "split": ("s0, s1 = Split <axis = 0> (w, parts) u = Transpose (s1) y = MatMul (x, u)", W[30:].T),
    "put together": (
        "c = Concat <axis = 0> (w, w) u = Transpose (c) y = MatMul (x, u)",
        np.concatenate([W, W]).T,
    ),
    "of one expert": (
        "t = Gather <axis = 0> (experts, which) y = MatMul (x, t)",
        np.stack([W.T, 2 * W.T])[1],
    ),
    "reshaped": ("t = Reshape (w, turned) y = MatMul (x, t)", W.reshape(96, 80)),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_laid_out_when_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body, expected = WEIGHTS[name]
    stored = {
        "w": W, "h": W.astype(np.float16), "k": np.array(3, F), "a": np.array([8]), "e": np.array([40]),
        "d": np.array([0]), "parts": np.array([30, 50]), "experts": np.stack([W.T, 2 * W.T]), 
        "which": np.array(1),
        "turned": np.array([96, 80]),
    }  # fmt: skip
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    used = {k: v for k, v in stored.items() if k in words}
    model = text_model(f"(float[b, s, 96] x) => (float[b, s, n] y) {{ {body} }}", **used)
    onnx.save(model, tmp_path / "model.onnx")
    program = Program.load(tmp_path / "model.onnx")
    looked = record_reads(monkeypatch)
    pipeline.run(program, NORMALISE, {})
    monkeypatch.undo()
    assert max(looked, default=0) < 4096, "no weight may be looked at while normalising"
    (node,) = program.graph.nodes
    assert node.op == "MatMul" and isinstance(node.inputs[1]._values, DerivedValues)
    np.testing.assert_array_equal(array(node.inputs[1]), expected)


def record_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    looked: list[int] = []
    real: Callable[..., np.ndarray] = weights.read

    def read(values: object) -> np.ndarray:
        looked.append(int(values.nbytes))  # type: ignore[attr-defined]
        return real(values)

    monkeypatch.setattr("spikec.ir.weights.read", read)
    return looked


OWN = {
    "a product of two weights": """(float[b, 96] x) => (float[b, 80] y) {
        p = MatMul (v, w) t = Transpose (p) y = MatMul (x, t) }""",
    "a norm of a table": """(int64[b] i) => (float[b, 96] y) {
        m = ReduceMean (w, last) c = Sub (w, m) s = Mul (c, c) v = ReduceMean (s, last) r = Sqrt (v)
        n = Div (c, r) y = Gather (n, i) }""",
}


def test_a_product_of_weights_stays(tmp_path: Path) -> None:
    text = OWN["a product of two weights"]
    program, _ = normalise(tmp_path, text_model(text, w=W, v=W[:, :80].copy()))
    assert ops(program).count("MatMul") == 2


def test_a_norm_of_a_table_stays(tmp_path: Path) -> None:
    """It is one of the norms that the architecture computes."""
    program, _ = normalise(tmp_path, text_model(OWN["a norm of a table"], w=W, last=np.array([-1])))
    assert {"ReduceMean", "Sqrt", "Div"} <= set(ops(program))


def test_a_lookup_of_fixed_places_stays(tmp_path: Path) -> None:
    text = "(float[2, 96] x) => (float[2, 96] y) { z = Gather (w, fixed) y = Add (x, z) }"
    assert "Gather" in ops(normalise(tmp_path, text_model(text, w=W, fixed=np.array([0, 3])))[0])


def test_gains_of_a_vector_are_computed(tmp_path: Path) -> None:
    text = "(float[b, 96] x) => (float[b, 96] y) { g = Add (w, one) y = Mul (x, g) }"
    program, _ = normalise(tmp_path, text_model(text, w=W[0], one=np.array(1, F)))
    assert ops(program) == ["Mul"]


def test_equal_derivations_are_one_weight(tmp_path: Path) -> None:
    text = """(float[b, 96] x) => (float[b, 80] y) {
        s = Transpose (w) t = Transpose (w) p = MatMul (x, s) q = MatMul (x, t) y = Add (p, q) }"""
    program, path = normalise(tmp_path, text_model(text, w=W))
    first, second = (node.inputs[1] for node in program.graph.nodes if node.op == "MatMul")
    assert first is second
    assert len(onnx.load(path, load_external_data=False).graph.initializer) == 1


# The whole


@pytest.mark.parametrize("kind", models.MAKERS)
def test_normalising_again_changes_nothing(tmp_path: Path, kind: str) -> None:
    program, path = normalise(tmp_path / "a", models.MAKERS[kind]())
    again, second = normalise(tmp_path / "b", onnx.load(path))
    assert [node.op for node in again.graph.nodes] == [node.op for node in program.graph.nodes]
    inputs = feed(path, 2, 5)
    assert difference(run(path, inputs), run(second, inputs)) == 0


@pytest.mark.parametrize("name", ["constants as nodes", "functions in functions", "four bits in blocks"])
def test_the_same_file_gives_the_same_bytes(tmp_path: Path, name: str) -> None:
    paths = [normalise(tmp_path / side, MODELS[name].make())[1] for side in ("a", "b")]
    for file in ("normalised.onnx", "weights.bin"):
        assert paths[0].with_name(file).read_bytes() == paths[1].with_name(file).read_bytes()


def test_every_value_has_a_type_and_rank(tmp_path: Path) -> None:
    model = models.llama()
    del model.graph.value_info[:]
    program, _ = normalise(tmp_path, model)
    for node in program.graph.nodes:
        for output in node.outputs:
            assert output.dtype is not None and output.shape is not None, output.name
    hidden = next(node for node in program.graph.nodes if node.op == "MatMul").outputs[0]
    assert hidden.shape == ["batch", "length", models.DIM]


def test_constant_outputs_stay(tmp_path: Path) -> None:
    text = (
        "(float[b] x) => (float[b] y, float[2] z) { y = Neg (x) z = Constant <value = float[2] {1, 2}> () }"
    )
    _, path = normalise(tmp_path, text_model(text))
    assert run(path, {"x": np.zeros(3, F)})[1].tolist() == [1, 2]


def test_names_of_constants_are_the_file_s(tmp_path: Path) -> None:
    program, _ = normalise(tmp_path, MODELS["identities of initialisers"].make())
    given = {tensor.name for tensor in onnx.load(tmp_path / "given.onnx").graph.initializer}
    assert {constant.name for constant in graphs.constants(program.graph)} <= given
