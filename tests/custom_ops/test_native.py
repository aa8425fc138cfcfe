"""The native library loads, keeps named dimensions, and reports every misuse as a Python exception."""

import ctypes
import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import parser

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.native import library_path

LIBRARY = library_path()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the native library was not built: pip install .")

HEADER = '<ir_version: 8, opset_import: ["": 18, "ai.spikec": 1]>'
DECODE = "Y = ai.spikec.SpikeDecode <scale: float = 0.0371, radix: int = 2> (S)"


def session(model: str | onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(str(LIBRARY))
    if isinstance(model, str):
        model = parser.parse_model(HEADER + model)
    return ort.InferenceSession(model.SerializeToString(), options)


def text_from(function: str) -> str:
    call = getattr(ctypes.CDLL(str(LIBRARY)), function)
    call.restype = ctypes.c_char_p
    return call().decode()


def test_the_op_table_agrees_with_the_catalogue() -> None:
    kinds = {"float": float, "int": int, "string": str, "floats": list, "ints": list}
    table = json.loads(text_from("spikec_op_table"))
    assert sorted(op["name"] for op in table) == sorted(op.name for op in OPS.values() if op.kernel)
    for op in table:
        spec = OPS[op["name"]]
        assert tuple(port["name"] for port in op["inputs"]) == spec.inputs
        assert tuple(port["name"] for port in op["outputs"]) == spec.outputs
        assert set(op["attributes"]) == set(spec.attributes)
        for name, kind in op["attributes"].items():
            expected = spec.attributes[name]
            assert kinds[kind] is getattr(expected, "__origin__", expected), name


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
@pytest.mark.parametrize("shape", [(), (0, 5), (3, 5), (300, 121)])
def test_decode_is_its_definition(dtype: type, shape: tuple[int, ...]) -> None:
    dims = ", ".join("TABC"[: len(shape) + 1])
    graph = f"g ({np.dtype(dtype).name}[{dims}] S) => (float[{dims[3:]}] Y) {{ {DECODE} }}"
    graph = graph.replace("float[]", "float")
    train = np.random.default_rng(0).integers(-100, 100, (8, *shape)).astype(dtype)
    expected = OPS["SpikeDecode"].numpy(train, scale=0.0371, radix=2)
    (result,) = session(graph).run(None, {"S": train})
    np.testing.assert_array_equal(result, expected, strict=True)


def test_named_dimensions_survive_an_op() -> None:
    graph = f"g (int8[T, B, 64] S) => (float[64, B] Z) {{ {DECODE} Z = Transpose (Y) }}"
    model = parser.parse_model(HEADER + graph)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert session(model).get_outputs()[0].shape == [64, "B"]


@pytest.mark.parametrize(
    ("node", "complaint"),
    [
        ("Y = ai.spikec.SpikeDecode <scale: float = 1.0> (S)", "attribute 'radix': No attribute"),
        ("Y = ai.spikec.SpikeDecode <scale: int = 1, radix: int = 2> (S)", "attribute 'scale': .*type"),
        ("D = Cast <to: int = 11> (S) " + DECODE.replace("(S)", "(D)"), "input S is double, expected int8"),
        (DECODE.replace("(S)", "(S, S)"), "has input size 2"),
        (DECODE.replace("SpikeDecode", "SpikeDecoder"), "not a registered function/op"),
    ],
)
def test_misuse_is_refused_when_the_session_is_made(node: str, complaint: str) -> None:
    with pytest.raises(Exception, match=complaint):
        session(f"g (int8[T, B] S) => (float[B] Y) {{ {node} }}")


def test_a_failing_kernel_raises() -> None:
    made = session(f"g (int8 S) => (float Y) {{ {DECODE} }}")
    with pytest.raises(Exception, match="SpikeDecode: S needs a leading axis of steps"):
        made.run(None, {"S": np.array(1, np.int8)})


@pytest.mark.parametrize("isa", ["generic", "avx2", "avx512", "avx512vnni", "nonsense"])
def test_spikec_isa_is_obeyed_or_refused(isa: str) -> None:
    """Never silently something else: a test run on one instruction set must really be one."""
    load = f"""
import ctypes, onnxruntime
onnxruntime.SessionOptions().register_custom_ops_library({str(LIBRARY)!r})
call = ctypes.CDLL({str(LIBRARY)!r}).spikec_isa
call.restype = ctypes.c_char_p
print(call().decode())
"""
    environment = {**os.environ, "SPIKEC_ISA": isa}
    result = subprocess.run([sys.executable, "-c", load], env=environment, capture_output=True, text=True)
    if result.returncode == 0:
        assert result.stdout.strip() == isa
    else:
        assert isa != "generic"
        assert f"SPIKEC_ISA={isa}: this CPU runs " in result.stderr
