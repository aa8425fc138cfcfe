"""Recognition of graphs of 50 000 nodes and of chains 5 000 deep, whatever the order of the nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from onnx import helper

from spikec.compile import FRONT
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.passes.methods import METHODS

N = 8
SCALAR = ("recognise_norms", "recognise_softmax", "recognise_activations")
SECONDS = 20.0
"""Of processor time for these three passes on 50 000 nodes; they take 4 to 6, and a quadratic walk hours."""
RMS = (
    ("Mul", "{x} {x}", "q"), ("ReduceMean", "q last", "m"), ("Add", "m epsilon", "v"), ("Sqrt", "v", "d"),
    ("Div", "{x} d", "u"), ("Mul", "u gain", "n"),
)  # fmt: skip
GELU = (
    ("Div", "{x} root", "r"), ("Erf", "r", "e"), ("Add", "e one", "s"), ("Mul", "{x} half", "h"),
    ("Mul", "h s", "g"),
)  # fmt: skip
LAYER = ("MatMul", "{x} w", "p")
TOKENS = {"q", "m", "v", "d", "u", "n", "r", "e", "s", "h", "g", "p"}


def build(steps: list[tuple[str, str, str]]) -> onnx.ModelProto:
    """A chain of operators: `{x}` is what the last group left, marked by an empty operator."""
    nodes, current, made = [], "x", "x"
    for index, (op, operands, name) in enumerate(steps):
        if not op:
            current = made
            continue
        inputs = [
            w.replace("{x}", current) if w.startswith("{") else f"{w}{name_of(steps, index, w)}"
            for w in operands.split()
        ]
        made = f"{name}{index}"
        nodes.append(helper.make_node(op, inputs, [made], name=f"{op}_{index}"))
    rng = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "last": np.array([-1]), "epsilon": 1e-5, "gain": np.linspace(0.5, 2, N), "root": 2**0.5, "one": 1.0,
        "half": 0.5, "w": rng.standard_normal((N, N)),
    }  # fmt: skip
    initializers = [
        onnx.numpy_helper.from_array(np.asarray(v, np.int64 if name == "last" else np.float32), name)
        for name, v in constants.items()
    ]
    shape = ["batch", "length", N]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info(made, 1, shape)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def name_of(steps: list[tuple[str, str, str]], index: int, word: str) -> str:
    """The number of the step before `index` that made `word`; nothing for a constant."""
    if word not in TOKENS:
        return ""
    return str(next(i for i in range(index - 1, -1, -1) if steps[i][2] == word))


def recognised(model: onnx.ModelProto, folder: Path, passes: tuple[str, ...] = FRONT) -> Program:
    onnx.save(model, folder / "model.onnx")
    program = Program.load(folder / "model.onnx")
    program.settings["method"] = METHODS["las"]
    started = time.process_time()
    pipeline.run(program, passes, {})
    program.settings["processor"] = time.process_time() - started
    return program


def count(program: Program) -> dict[str, int]:
    labels = [f.facts["label"] for f in program.findings]
    return {label: labels.count(label) for label in set(labels) - {"linear", "head", "other_linear"}}


END = ("", "", "")


def test_fifty_thousand_nodes(tmp_path: Path) -> None:
    blocks = 4200
    program = recognised(build([*RMS, END, LAYER, END, *GELU, END] * blocks), tmp_path, SCALAR)
    assert len(program.graph.nodes) == 12 * blocks > 50_000
    assert count(program) == {"rmsnorm": blocks, "gelu_erf": blocks}
    assert program.settings["processor"] < SECONDS


@pytest.mark.parametrize(
    ("steps", "op"),
    [
        ([("Tanh", "{x}", "t"), END], "Tanh"),
        ([("Mul", "{x} half", "t"), END, ("Erf", "{x}", "t"), END, ("Add", "{x} one", "t"), END], "Erf"),
        ([("Mul", "{x} {x}", "t"), END], "Mul"),
    ],
    ids=["functions", "scaled functions", "no function at all"],
)  # fmt: skip
def test_a_chain_five_thousand_deep(steps: list[tuple[str, str, str]], op: str, tmp_path: Path) -> None:
    program = recognised(build(steps * (12_000 // len(steps))), tmp_path, SCALAR)
    assert len(program.graph.nodes) >= 5_000
    owned = program.owner()
    left = [node for node in program.graph.nodes if node.op == op and id(node) not in owned]
    assert left == [] if op != "Mul" else len(left) >= 5_000
    assert program.settings["processor"] < SECONDS


def test_a_value_that_thousands_read(tmp_path: Path) -> None:
    """Every node reads the first value and the one before: no region is sought for long."""
    steps = [("Tanh", "{x}", "t"), END]
    for _ in range(5_000):
        steps += [("Tanh", "{x}", "t"), END]
    model = build(steps)
    for index, node in enumerate(model.graph.node):
        if index % 2:
            node.op_type = "Mul"
            node.input.append("x")
    program = recognised(model, tmp_path, SCALAR)
    assert program.settings["processor"] < SECONDS


def described(program: Program) -> list[tuple[Any, ...]]:
    return sorted(
        (
            f.kind,
            f.facts["label"],
            [s.name for s in f.sources],
            f.name,
            sorted(o.name for node in f.nodes for o in node.outputs),
            float(np.sum(f.facts.get("gamma", 0))),
        )
        for f in program.findings
    )


def shuffled(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same graph in another order that producers come first in, its nodes named anew."""
    rng = np.random.default_rng(seed)
    ready = {i.name for i in model.graph.input} | {i.name for i in model.graph.initializer} | {""}
    left, order = list(model.graph.node), []
    while left:
        able = [node for node in left if set(node.input) <= ready]
        node = able[rng.integers(len(able))]
        left.remove(node)
        order.append(node)
        ready |= set(node.output)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    made.graph.node.extend(order)
    for node, number in zip(made.graph.node, rng.permutation(len(order)), strict=True):
        node.name = f"node_{number}"
    return made


GATES = """a = MatMul (x, w1) b = MatMul (x, w2) c = Sigmoid (a) d = Tanh (b) y = Mul (c, d)"""


def gates() -> onnx.ModelProto:
    """Two functions that could each take the other in as its gate."""
    text = f'<ir_version: 9, opset_import: ["": 18]> g (float[n, {N}] x) => (float[n, {N}] y) {{ {GATES} }}'
    model = onnx.parser.parse_model(text)
    for name in ("w1", "w2"):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(N, dtype=np.float32), name))
    return onnx.shape_inference.infer_shapes(model)


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    **models.MAKERS,
    "chain": lambda: build([("Tanh", "{x}", "t"), END] * 200),
    "gates": gates,
}


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_the_order_and_names_of_nodes_do_not_matter(kind: str, tmp_path: Path) -> None:
    model = MODELS[kind]()
    first = described(recognised(model, tmp_path))
    assert first
    for seed in range(3):
        assert described(recognised(shuffled(model, seed), tmp_path)) == first
