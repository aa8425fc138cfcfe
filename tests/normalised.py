"""Runs a model through normalisation and both sides in ONNX Runtime, for the tests of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.ir.storage import DataFile
from spikec.passes.normalise import NORMALISE

TYPES = {
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32,
    "tensor(bool)": np.bool_, "tensor(float16)": np.float16, "tensor(double)": np.float64,
}  # fmt: skip
Feed = dict[str, np.ndarray]


def normalise(folder: Path, model: onnx.ModelProto) -> tuple[Program, Path]:
    """The normalised Program, and the file it was written to."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "given.onnx")
    program = Program.load(folder / "given.onnx")
    pipeline.run(program, NORMALISE, {})
    data = DataFile(folder / "weights.bin")
    graphs.save(program.graph, folder / "normalised.onnx", data)
    data.close()
    return program, folder / "normalised.onnx"


def session(path: Path) -> ort.InferenceSession:
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    # its fusions may compute with integers what the model computes with real numbers
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def feed(path: Path, batch: int, length: int, vocabulary: int = 16) -> Feed:
    """Inputs by what their names say; a dimension without a number is the batch if first, else the length."""
    rng, values = np.random.default_rng(length), {}
    for i in session(path).get_inputs():
        shape = [d if isinstance(d, int) else (length if axis else batch) for axis, d in enumerate(i.shape)]
        dtype = TYPES[i.type]
        if dtype is np.bool_:
            value = np.ones(shape)
        elif np.issubdtype(dtype, np.floating):
            value = rng.standard_normal(shape)
        elif "mask" in i.name:
            value = np.ones(shape)
            value[..., length - length // 3 :] = 0
        else:
            value = rng.integers(0, vocabulary, shape)
        values[i.name] = value.astype(dtype)
    return values


def run(path: Path, inputs: Feed) -> list[np.ndarray]:
    return list(session(path).run(None, inputs))


def difference(expected: list[np.ndarray], got: list[np.ndarray]) -> float:
    """The largest over the outputs of max |a - b| / max |a|."""
    worst = 0.0
    for a, b in zip(expected, got, strict=True):
        assert a.shape == b.shape
        a, b = a.astype(np.float64), b.astype(np.float64)
        worst = max(worst, float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)))
    return worst
