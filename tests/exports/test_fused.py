"""Whole fused models: what they compute is found exactly, and stays the same numbers taken apart."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exports.fused import MODELS
from onnxruntime.quantization import quantize_dynamic

from spikec.compile import FRONT, Settings, compile_model
from spikec.ir import graph as graphs
from spikec.ir import pipeline
from spikec.ir.program import Program
from spikec.ir.storage import DataFile
from spikec.passes.methods import METHODS
from spikec.passes.normalise import NORMALISE
from spikec.report import found
from spikec.runtime.session import Compiled

TOLERANCE = 1e-5


CONVERTED = (
    "bert",
    "gpt2_past",
    "llama",
    "llama_prompt",
    "whisper_decoder_past",
    "clip_text",
    "llama_23_past",
)


def loaded(model: onnx.ModelProto, folder: Path) -> Program:
    onnx.save(model, folder / "model.onnx")
    program = Program.load(folder / "model.onnx")
    program.settings["method"] = METHODS["las"]
    return program


@pytest.mark.parametrize("name", MODELS)
def test_counts(name: str, tmp_path: Path) -> None:
    program = loaded(MODELS[name].make().model(), tmp_path)
    pipeline.run(program, FRONT, {})
    wanted, counts = asdict(MODELS[name].counts), found(program)
    assert {kind: counts[kind] for kind in wanted} == wanted


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in half precision."""
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            lowest = np.finfo(np.float16).min
            values = np.maximum(values, lowest).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "whisper_decoder", "clip_vision", "llama_23"])
def test_counts_in_half_precision(name: str, tmp_path: Path) -> None:
    program = loaded(halved(MODELS[name].make().model()), tmp_path)
    pipeline.run(program, FRONT, {})
    wanted, counts = asdict(MODELS[name].counts), found(program)
    assert {kind: counts[kind] for kind in wanted} == wanted


@pytest.mark.parametrize("name", ["bert", "bert_keys", "gpt2_past", "llama", "mixtral", "whisper_decoder"])
def test_counts_of_quantised_models(name: str, tmp_path: Path) -> None:
    """QAttention, QEmbedLayerNormalization and integer products, as ONNX Runtime quantises fused models."""
    onnx.save(MODELS[name].make().model(), tmp_path / "float.onnx")
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "quantised.onnx", extra_options=options)
    program = loaded(onnx.load(tmp_path / "quantised.onnx"), tmp_path)
    pipeline.run(program, FRONT, {})
    wanted, counts = asdict(MODELS[name].counts), found(program)
    assert {kind: counts[kind] for kind in wanted} == wanted


@pytest.mark.parametrize("name", CONVERTED)
def test_converted(name: str, tmp_path: Path) -> None:
    """Compiled at T=16, every output points where the fused original's does."""
    net = MODELS[name].make()
    program = loaded(net.model(), tmp_path)
    compile_model(program, tmp_path / "out", Settings(timesteps=16))
    original = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    spiking = Compiled(tmp_path / "out").session()
    for seed, sizes in enumerate(MODELS[name].sizes):
        feed = net.feed(sizes, seed)
        names = [o.name for o in original.get_outputs()]
        for want, have in zip(original.run(names, feed), spiking.run(names, feed)):
            cosine = np.vdot(want, have) / (np.linalg.norm(want) * np.linalg.norm(have))
            assert cosine >= 0.999


@pytest.mark.parametrize("name", MODELS)
def test_numbers(name: str, tmp_path: Path) -> None:
    net = MODELS[name].make()
    program = loaded(net.model(), tmp_path)
    pipeline.run(program, NORMALISE, {})
    assert not any(node.domain == "com.microsoft" for node in program.graph.nodes)
    data = DataFile(tmp_path / "plain.bin")
    graphs.save(program.graph, tmp_path / "plain.onnx", data)
    data.close()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    whole, plain = (
        ort.InferenceSession(str(tmp_path / file), settings, providers=["CPUExecutionProvider"])
        for file in ("model.onnx", "plain.onnx")
    )
    for seed, sizes in enumerate(MODELS[name].sizes):
        feed = net.feed(sizes, seed)
        feed = {i.name: feed[i.name] for i in plain.get_inputs()}
        for want, have in zip(whole.run(None, feed), plain.run(None, feed)):
            assert want.shape == have.shape
            assert np.abs(want - have).max() <= TOLERANCE * max(1.0, float(np.abs(want).max()))
