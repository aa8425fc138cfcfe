"""`spikec inspect`: what it tells of models with and without a transformer in them, running nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser
from onnx.backend.test.case.node import collect_testcases

from spikec.cli import main
from spikec.overview import overview
from spikec.passes.classify import VERDICTS
from spikec.screen import inspected

ISSUE_KEYS = (
    "attention", "softmax", "layernorm", "rmsnorm", "gelu_erf", "gelu_tanh", "quick_gelu", "silu", "relu",
    "rope", "linear", "matmul_dynamic",
)  # fmt: skip

Inspect = Callable[..., dict[str, Any]]


@pytest.fixture
def inspect(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Inspect:
    """`inspect(model)`: what the JSON form tells, once the text form has been printed without trouble too."""

    def run(model: onnx.ModelProto, *words: str, code: int = 0) -> dict[str, Any]:
        path = tmp_path / "model.onnx"
        onnx.save(model, path)
        capfd.readouterr()
        assert main(["inspect", str(path), *words]) == code
        text, err = capfd.readouterr()
        assert code or err == ""
        assert text.startswith("model.onnx: ") and max(map(len, text.splitlines())) <= 120
        assert main(["inspect", str(path), "--json", *words]) == code
        result: dict[str, Any] = json.loads(capfd.readouterr().out)
        return result

    return run


LLAMA = {
    "attention": 1, "softmax": 1, "rmsnorm": 2, "silu": 1, "rope": 2, "linear": 7, "matmul_dynamic": 2,
}  # fmt: skip
BERT = {"attention": 1, "softmax": 1, "layernorm": 2, "gelu_erf": 1, "linear": 6, "matmul_dynamic": 2}


@pytest.mark.parametrize(
    ("kind", "layer", "beside"),
    [
        ("llama", LLAMA, {"rmsnorm": 1, "other_linear": 1}),
        ("gqa", LLAMA, {"rmsnorm": 1, "other_linear": 1}),
        ("bert", BERT, {"layernorm": 1, "other_linear": 0}),
    ],
)
def test_counts(inspect: Inspect, kind: str, layer: dict[str, int], beside: dict[str, int]) -> None:
    model = models.MAKERS[kind]()
    result = inspect(model)
    expected = {key: models.LAYERS * layer.get(key, 0) + beside.get(key, 0) for key in (*ISSUE_KEYS, *beside)}
    assert {key: result["found"][key] for key in expected} == expected
    assert result["layers"] == models.LAYERS
    assert sum(result["ops"].values()) == result["nodes"] == len(model.graph.node)
    assert result["ops"]["Softmax"] == models.LAYERS
    assert result["misses"] == []


def test_the_file_and_its_values(inspect: Inspect) -> None:
    model = models.bert()
    result = inspect(model)
    assert (result["opset"], result["ir_version"]) == (18, 9)
    assert result["domains"] == {"ai.onnx": 18}
    assert [i["name"] for i in result["inputs"]] == ["input_ids", "attention_mask"]
    assert result["inputs"][0] == {"name": "input_ids", "dtype": "int64", "dims": ["batch", "length"]}
    assert result["outputs"] == [
        {"name": "hidden", "dtype": "float32", "dims": ["batch", "length", models.DIM]}
    ]
    weights = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert result["dtypes"]["float32"] == {
        "tensors": len(weights),
        "elements": sum(int(np.prod(t.dims)) for t in weights),
        "bytes": sum(4 * int(np.prod(t.dims)) for t in weights),
    }
    assert result["parameters"] == sum(int(np.prod(t.dims)) for t in weights if t.dims)
    assert 0 < result["seconds"] < 30


@pytest.mark.parametrize(
    ("kind", "family", "words"),
    [
        ("llama", "LLaMA-like decoder", {"rmsnorm", "pre-norm", "rope", "silu", "gated"}),
        ("gqa", "LLaMA-like decoder", {"rmsnorm", "pre-norm", "rope", "silu", "gated"}),
        (
            "bert",
            "BERT-like encoder",
            {"layernorm", "post-norm", "gelu_erf", "learned-positions", "embedding-norm"},
        ),
    ],
)
def test_the_architecture_is_told_by_meaning(
    inspect: Inspect, kind: str, family: str, words: set[str]
) -> None:
    architecture = inspect(renamed(models.MAKERS[kind]()))["architecture"]
    assert architecture["family"] == family
    assert words <= set(architecture["evidence"])
    assert architecture["guess"].startswith(f"{family} (")


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with nodes and interior values called by numbers."""
    names = {name: f"v{i}" for i, name in enumerate({o for n in model.graph.node for o in n.output})}
    names |= {t.name: f"w{i}" for i, t in enumerate(model.graph.initializer)}
    kept = {value.name for value in (*model.graph.input, *model.graph.output)}
    del model.graph.value_info[:]
    for index, node in enumerate(model.graph.node):
        node.name = str(index)
        for side in (node.input, node.output):
            side[:] = [name if name in kept else names.get(name, name) for name in side]
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def test_coverage_has_every_class(inspect: Inspect) -> None:
    result = inspect(models.llama())
    for measure in ("nodes", "macs"):
        assert list(result["coverage"][measure]) == [*VERDICTS]
    assert sum(result["coverage"]["nodes"].values()) == result["nodes"]
    reasons = {row["reason"]: row for row in result["cannot"]}
    assert len(reasons) == 2 and not any(row["in_scope"] for row in reasons.values())
    assert result["can_spike"]["linear"] == {"operator": "SpikeLinear", "count": 7 * models.LAYERS}
    assert result["can_spike"]["silu"]["count"] == models.LAYERS


# Exporters


@pytest.mark.parametrize(
    ("producer", "version", "names", "guess"),
    [
        ("", "", "Add_{}", "hand-made or unknown, opset 18"),
        ("pytorch", "2.13.0+cpu", "node_add_{}", "torch.onnx dynamo 2.13.0, opset 18"),
        ("pytorch", "2.1.0", "/model/layers.0/Add_{}", "TorchScript 2.1.0, opset 18"),
        ("pytorch", "1.8", "Add_{}", "TorchScript 1.8, opset 18"),
        ("tf2onnx", "1.16.1 15c810", "Add_{}", "tf2onnx 1.16.1 15c810, opset 18"),
        (
            "onnxruntime.transformers",
            "1.20.1",
            "Add_{}",
            "ONNX Runtime transformers optimizer 1.20.1, opset 18",
        ),
        ("onnxruntime-genai", "0.4.0", "/model/Add_{}", "onnxruntime-genai 0.4.0, opset 18"),
        ("something new", "3", "Add_{}", "something new 3, opset 18"),
    ],
)
def test_exporters(inspect: Inspect, producer: str, version: str, names: str, guess: str) -> None:
    model = models.llama()
    model.producer_name, model.producer_version = producer, version
    for index, node in enumerate(model.graph.node):
        node.name = names.format(index)
    result = inspect(model)["exporter"]
    assert result["guess"] == guess
    assert bool(result["evidence"]) == bool(producer)


# Models that are no transformers


def parsed(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> g {text}')
    for name, values in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(values), name))
    return model


def convolutional() -> onnx.ModelProto:
    return parsed(
        """(float[n, 3, 8, 8] x) => (float[n, 5] y) {
            a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, kernel, shift)
            b = Relu (a)
            c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
            d = BatchNormalization (c, gain, gain, gain, gain)
            e = GlobalAveragePool (d)
            f = Flatten (e)
            y = Gemm <transB = 1> (f, weight)
        }""",
        kernel=np.ones((4, 3, 3, 3), np.float32),
        shift=np.ones(4, np.float32),
        gain=np.ones(4, np.float32),
        weight=np.ones((5, 4), np.float32),
    )


NOTHING = {
    "a convolutional network": convolutional(),
    "one identity": parsed("(float[n] x) => (float[n] y) { y = Identity (x) }"),
    "a constant": parsed("() => (float[1] y) { y = Constant <value = float[1] {1}> () }"),
    "shapes only": parsed("(float[a, b] x) => (int64[2] y) { y = Shape (x) }"),
    "no shapes": parsed("(float x) => (float y) { y = Tanh (x) }"),
    "strings": parsed("(string[n] x) => (string[n] y) { y = Identity (x) }"),
    "integers quantised": parsed(
        """(float[n, 4] x) => (float[n, 4] y) {
            q, s, z = DynamicQuantizeLinear (x)
            p = MatMulInteger (q, w, z)
            r = Cast <to = 1> (p)
            y = Mul (r, s)
        }""",
        w=np.ones((4, 4), np.uint8),
    ),
    "a branch": parsed(
        """(bool c, float[n] x) => (float[n] y) {
            y = If (c) <
                then_branch = t () => (float[n] a) { a = Relu (x) },
                else_branch = e () => (float[n] b) { b = Tanh (x) }
            >
        }"""
    ),
}


@pytest.mark.parametrize("name", NOTHING)
def test_nothing_of_a_transformer(inspect: Inspect, name: str) -> None:
    result = inspect(NOTHING[name])
    assert result["architecture"]["guess"] == "no transformer found"
    assert result["found"]["attention"] == result["found"]["rope"] == result["layers"] == 0
    assert sum(result["ops"].values()) == result["nodes"] > 0


def one_of_each() -> dict[str, onnx.ModelProto]:
    """ONNX's own test of every operator: the first whose opset we read."""
    first: dict[str, onnx.ModelProto] = {}
    for case in collect_testcases(None):
        if case.model and max((o.version for o in case.model.opset_import if not o.domain), default=0) >= 11:
            first.setdefault(case.model.graph.node[0].op_type, case.model)
    return first


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # of ONNX's examples
def test_every_operator_of_onnx(tmp_path: Path) -> None:
    """One process for all: what is tested is that none of them is an internal error."""
    models_of = one_of_each()
    assert len(models_of) > 150
    for op, model in models_of.items():
        onnx.save(model, tmp_path / "model.onnx")
        result = overview(tmp_path / "model.onnx")
        assert json.loads(json.dumps(result)) == result, op
        assert op in {key.rpartition(":")[2] for key in result["ops"]}
        assert inspected(result), op


def test_an_unknown_operator(inspect: Inspect) -> None:
    node = helper.make_node("Mystery", ["x"], ["y"], domain="com.example")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)]
    result = inspect(helper.make_model(graph, opset_imports=opsets, ir_version=9))
    assert result["ops"] == {"com.example:Mystery": 1}
    assert result["coverage"]["nodes"] == dict.fromkeys(VERDICTS, 0) | {"rejected": 1}
    (row,) = result["cannot"]
    assert row["verdict"] == "rejected" and "Mystery" in row["reason"]
    assert "SPK120" in {d["code"] for d in result["diagnostics"] if d["where"] == row["first"]}


def test_it_runs_nothing_and_reads_no_large_weight(tmp_path: Path) -> None:
    """The head is a hole of 4 GB in a file; the process may have 2 GB, and no session."""
    model = models.llama()
    head = next(t for t in model.graph.initializer if t.name == "head")
    columns = 2**30 // head.dims[0]
    head.ClearField("raw_data")
    head.dims[1] = columns
    head.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "hole.bin"), ("offset", "0"), ("length", str(4 * head.dims[0] * columns))):
        head.external_data.add(key=key, value=text)
    with (tmp_path / "hole.bin").open("wb") as file:
        file.truncate(4 * head.dims[0] * columns)
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = columns
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "model.onnx")
    code = """
import resource, sys, onnxruntime
onnxruntime.InferenceSession.__init__ = None
from spikec.cli import main
code = main(["inspect", sys.argv[1], "--json"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
sys.exit(code)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "model.onnx")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["dtypes"]["float32"]["bytes"] > 4 * 2**30 - 2**20
    assert result["found"]["other_linear"] == 1
    assert int(run.stderr) < 1000
