"""The normalised graph against the original: the same numbers, or what is said when one does not run."""

from __future__ import annotations

from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from spikec.compile import Settings, compile_model
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import describe
from spikec.ir.program import Program
from spikec.passes.check import check_runs, difference

FEEDS = [{"input_ids": np.arange(6).reshape(1, 6)}]


def written(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path)
    return path


def checked(original: Path, model: Path) -> Program:
    program = Program.load(model)
    program.settings["inputs"] = describe(program.graph)
    check_runs(program, original=original, model=model, feeds=FEEDS)
    return program


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return written(tmp_path / "ann.onnx", models.llama())


def unknown(tmp_path: Path) -> Path:
    """The model with an operator that nobody has."""
    made = models.llama()
    next(n for n in made.graph.node if n.op_type == "Sigmoid").op_type = "Frobnicate"
    return written(tmp_path / "unknown.onnx", made)


def mixed(tmp_path: Path) -> Path:
    """The model with a float64 number added to a float32 value, which ONNX does not allow."""
    made = models.llama()
    made.graph.node[-1].output[0] = "before"
    made.graph.initializer.append(numpy_helper.from_array(np.float64(0), "number"))
    made.graph.node.append(helper.make_node("Add", ["before", "number"], ["logits"], name="mixing"))
    del made.graph.value_info[:]
    return written(tmp_path / "mixed.onnx", made)


def twofold(tmp_path: Path) -> Path:
    """The model such that it runs only on two sequences or more."""
    made = models.llama()
    made.graph.node[-1].output[0] = "alone"
    made.graph.initializer.append(numpy_helper.from_array(np.array(1), "second"))
    made.graph.initializer.append(numpy_helper.from_array(np.float32(0), "none"))
    made.graph.node.extend(
        [
            helper.make_node("Gather", ["alone", "second"], ["other"], axis=0),
            helper.make_node("Mul", ["other", "none"], ["void"]),
            helper.make_node("Add", ["alone", "void"], ["logits"]),
        ]
    )
    del made.graph.value_info[:]
    return written(tmp_path / "twofold.onnx", made)


def test_the_same_numbers(model: Path, tmp_path: Path) -> None:
    program = checked(written(tmp_path / "original.onnx", models.llama()), model)
    told = program.settings["normalisation"]
    assert told["error"] <= 1e-6 < told["bound"] and not program.diagnostics


def test_changed_numbers_are_refused(model: Path, tmp_path: Path) -> None:
    made = models.llama()
    weight = next(t for t in made.graph.initializer if t.name == "l1_wdown")
    weight.CopyFrom(numpy_helper.from_array(1.05 * numpy_helper.to_array(weight), weight.name))
    with pytest.raises(SpikecError, match=r"normalisation changed the model's numbers .* bug in spikec"):
        checked(written(tmp_path / "original.onnx", made), model)


def test_an_original_that_does_not_run(model: Path, tmp_path: Path) -> None:
    (told,) = checked(unknown(tmp_path), model).diagnostics
    assert told.code == "SPK303" and "Frobnicate" in told.text and told.text.endswith("with nothing")


def test_types_that_do_not_fit_together_are_a_mistake_in_the_file(model: Path, tmp_path: Path) -> None:
    with pytest.raises(SpikecError, match=r"types do not fit together.*mixing") as caught:
        checked(mixed(tmp_path), model)
    assert caught.value.exit_code == 1
    with pytest.raises(SpikecError, match=r"types do not fit together.*mixing"):
        compile_model(mixed(tmp_path), tmp_path / "out", Settings(timesteps=4))
    assert not (tmp_path / "out").exists()


def test_an_original_that_runs_at_twice_the_batch(model: Path, tmp_path: Path) -> None:
    program = checked(twofold(tmp_path), model)
    (told,) = program.diagnostics
    assert told.code == "SPK303" and "at twice the batch, where it does run" in told.text
    assert program.settings["normalisation"]["error"] <= 1e-6


def test_when_neither_runs_the_original_is_told(tmp_path: Path, model: Path) -> None:
    program = Program.load(model)
    program.settings["inputs"] = describe(program.graph)
    with pytest.raises(SpikecError, match="Frobnicate"):
        check_runs(program, original=unknown(tmp_path), model=unknown(tmp_path), feeds=FEEDS)


def test_a_normalised_graph_that_does_not_run(tmp_path: Path, model: Path) -> None:
    with pytest.raises(SpikecError, match="cannot run this model"):
        checked(model, twofold(tmp_path))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.5], 0.1),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([-np.inf, 1.0], [-np.inf, 1.0], 0.0),
        ([-np.inf, 1.0], [1.0, 1.0], np.inf),
        ([1.0], [[1.0]], np.inf),
        ([1, 2], [1, 2], 0.0),
        ([], [], 0.0),
    ],
)
def test_difference(a: list[float], b: list[float], expected: float) -> None:
    assert difference(np.array(a), np.array(b)) == pytest.approx(expected)


def test_a_few_rows_that_differ_count_at_full_precision_alone() -> None:
    a = np.random.default_rng(0).standard_normal((2, 50, 8))
    b = a + 0.001 * a
    b[0, :9] *= -1  # another expert was chosen for these
    assert difference(a, b) > 0.5 and difference(a, b, share=0.9) == pytest.approx(0.001, rel=0.1)
    b[0, 9:20] *= -1
    assert difference(a, b, share=0.9) > 0.1
