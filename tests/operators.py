"""Models of one fused operator, run whole in ONNX Runtime and taken apart, at two batch sizes and lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper

from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.ir.storage import DataFile
from spikec.passes.normalise import NORMALISE
from spikec.passes.normalise.fused import FORMS

SIZES = ((2, 5), (3, 7))
"""(batch, length) of the two runs: dimensions that differ between them are free in the model."""

Inputs = list[np.ndarray | None]
Make = Callable[[np.random.Generator, int, int], Inputs]


@dataclass
class Case:
    """One operator with its attributes; `make` gives its inputs at a batch size and length, `weights` says
    which of them are initialisers. `whole` is another way to say the same to ONNX Runtime (operator, inputs,
    attributes), where its own kernel does not exist; `expected` a definition in numpy. `valid` picks from an
    output what is defined."""

    op: str
    make: Make
    attrs: dict[str, Any] = field(default_factory=dict)
    outputs: Sequence[int] = (0,)
    weights: Sequence[int] = ()
    domain: str = "com.microsoft"
    opset: int = 18
    whole: Callable[[Inputs], tuple[str, Inputs, dict[str, Any]]] | None = None
    expected: Callable[[Inputs], list[np.ndarray]] | None = None
    valid: Callable[[int, np.ndarray, Inputs], np.ndarray] | None = None
    sizes: Sequence[tuple[int, int]] = SIZES
    tolerance: float = 1e-5
    integer_outputs: Sequence[int] = ()


def normal(rng: np.random.Generator, *shape: int, scale: float = 1.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def runs(case: Case) -> list[Inputs]:
    """The inputs of both runs; weights are the same in both."""
    made = [
        case.make(np.random.default_rng(seed), batch, length)
        for seed, (batch, length) in enumerate(case.sizes)
    ]
    for inputs in made[1:]:
        for index in case.weights:
            inputs[index] = made[0][index]
    return made


def model(case: Case, made: list[Inputs], ranks: list[int] | None = None) -> onnx.ModelProto:
    """`ranks` of the outputs, when they are known."""
    values, initialisers, names = [], [], []
    for index, arrays in enumerate(zip(*made, strict=True)):
        first = arrays[0]
        if first is None:
            names.append("")
            continue
        names.append(f"in{index}")
        if index in case.weights:
            initialisers.append(onnx.numpy_helper.from_array(first, names[-1]))
            continue
        shape = [
            sizes[0] if len(set(sizes)) == 1 else "n" + "_".join(map(str, sizes))
            for sizes in zip(*(a.shape for a in arrays if a is not None), strict=True)
        ]
        kind = helper.np_dtype_to_tensor_dtype(first.dtype)
        values.append(helper.make_tensor_value_info(names[-1], kind, shape))
    given = [f"out{i}" if i in case.outputs else "" for i in range(max(case.outputs) + 1)]
    node = helper.make_node(case.op, names, given, name="fused", domain=case.domain, **case.attrs)
    result = [
        helper.make_tensor_value_info(
            f"out{i}",
            onnx.TensorProto.INT32 if i in case.integer_outputs else onnx.TensorProto.FLOAT,
            [None] * ranks[place] if ranks else None,
        )
        for place, i in enumerate(case.outputs)
    ]
    graph = helper.make_graph([node], case.op, values, result, initialisers)
    opsets = [helper.make_opsetid("", case.opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model_: onnx.ModelProto | Path, inputs: Inputs) -> list[np.ndarray]:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = 1
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = str(model_) if isinstance(model_, Path) else model_.SerializeToString()
    session = ort.InferenceSession(source, settings, providers=["CPUExecutionProvider"])
    feed = {f"in{i}": value for i, value in enumerate(inputs) if value is not None}
    return session.run(None, {i.name: feed[i.name] for i in session.get_inputs()})


def reference(case: Case, whole: onnx.ModelProto, inputs: Inputs) -> list[np.ndarray]:
    if case.expected is not None:
        return case.expected(inputs)
    if case.whole is not None:
        op, others, attrs = case.whole(inputs)
        plain = Case(op, lambda *_: others, attrs, case.outputs, domain=case.domain, opset=case.opset)
        return run(model(plain, [others]), others)
    return run(whole, inputs)


def taken_apart(whole: onnx.ModelProto, folder: Path) -> Program:
    """The Program after the fused operators are gone, and `folder/plain.onnx`."""
    onnx.save(whole, folder / "whole.onnx")
    program = Program.load(folder / "whole.onnx")
    pipeline.run(program, NORMALISE, {})
    data = DataFile(folder / "plain.bin")
    graphs.save(program.graph, folder / "plain.onnx", data)
    data.close()
    return program


def error(case: Case, folder: Path) -> float:
    """The largest difference of an output, by its own size, over both runs; checks names and shapes too."""
    made = runs(case)
    bare = model(case, made)
    expected = [reference(case, bare, inputs) for inputs in made]
    program = taken_apart(model(case, made, [value.ndim for value in expected[0]]), folder)
    told = [str(remark) for remark in program.diagnostics if remark.severity == "warning"]
    assert not told, told
    for node in program.graph.nodes:
        assert (node.domain or "", node.op) not in FORMS, f"{node.op} was left"
        assert program.origin[node.name] == "fused" and node.name.startswith("fused/")
        assert all(o.dtype is not None and o.shape is not None for o in node.outputs), (
            f"{node.name}: no shape"
        )
    worst = 0.0
    for inputs, wanted in zip(made, expected, strict=True):
        got = run(folder / "plain.onnx", inputs)
        assert len(wanted) == len(got) == len(case.outputs)
        for index, want, have in zip(case.outputs, wanted, got, strict=True):
            assert want.shape == have.shape, f"output {index} is {have.shape}, not {want.shape}"
            if case.valid is not None:
                want, have = (case.valid(index, value, inputs) for value in (want, have))
            assert np.isfinite(have).all() == np.isfinite(want).all()
            finite = np.isfinite(want)
            scale = max(1.0, float(np.abs(want[finite]).max(initial=0)))
            worst = max(worst, float(np.abs(have[finite] - want[finite]).max(initial=0)) / scale)
    return worst
