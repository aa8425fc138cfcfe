"""Which program wrote a model file, as far as the file tells: its producer, domains, names and operators."""

from __future__ import annotations

from typing import Any

from .ir.census import Census
from .ir.inputs import ModelInput

PRODUCERS = {
    "onnxruntime.transformers": "ONNX Runtime transformers optimizer",
    "onnxruntime-genai": "onnxruntime-genai",
    "onnx.quantize": "ONNX Runtime quantizer",
    "tf2onnx": "tf2onnx",
    "keras2onnx": "keras2onnx",
    "OnnxMLTools": "onnxmltools",
    "skl2onnx": "skl2onnx",
    "PaddlePaddle": "Paddle2ONNX",
    "onnxscript": "onnxscript",
    "spikec": "spikec",
}
"""What is known by the name that the file gives for its producer."""
UNKNOWN = "hand-made or unknown"
FUSED = "com.microsoft"
QUANTISED = {"QuantizeLinear", "DequantizeLinear", "MatMulInteger", "QLinearMatMul", "QGemm", "MatMulNBits"}
CACHE = ("past_key", "past.", "past_", "cache")


def guess(census: Census, inputs: list[ModelInput]) -> dict[str, Any]:
    """`{"guess": one line, "evidence": what it rests on}`."""
    evidence = []
    if census.producer:
        evidence.append(f"producer {' '.join([census.producer, census.version]).strip()}")
    name = _by_producer(census, evidence)
    version = census.version.partition("+")[0]
    text = f"{name} {version}".strip() if name != UNKNOWN else name
    text += f", opset {census.opset}" if census.opset else ""
    if name == "TorchScript" and _cached(inputs):
        text += ", as optimum exports"
        evidence.append("TorchScript names and past keys and values as inputs")
    fused = sorted(op.partition(":")[2] for op in census.ops if op.startswith(f"{FUSED}:"))
    if fused:
        evidence.append(f"{FUSED} operators {_few(fused)}")
        if name not in (PRODUCERS["onnxruntime.transformers"], PRODUCERS["onnxruntime-genai"]):
            text += ", then fused for ONNX Runtime"
    quantised = sorted(op for op in census.ops if op.rpartition(":")[2] in QUANTISED)
    if quantised:
        evidence.append(f"quantised operators {_few(quantised)}")
        text += ", quantised"
    if census.functions:
        evidence.append(f"{len(census.functions)} local functions: {_few(census.functions)}")
    return {"guess": text, "evidence": evidence}


def _by_producer(census: Census, evidence: list[str]) -> str:
    """torch has two exporters under one name: their habits of naming nodes tell them apart."""
    if census.producer not in ("pytorch", "", "onnx"):
        return PRODUCERS.get(census.producer, census.producer)
    styles, total = census.styles, sum(census.ops.values()) or 1
    dynamo = styles["dynamo"] + styles["dynamo names"]
    if dynamo > total / 2:
        how = "torch metadata on" if styles["dynamo"] else "'node_' names of"
        evidence.append(f"{how} {dynamo} of {total} nodes")
        return "torch.onnx dynamo"
    if styles["scopes"] > total / 4:
        evidence.append(f"module scopes as names of {styles['scopes']} of {total} nodes")
        return "TorchScript"
    if census.producer == "pytorch":
        return "TorchScript"
    if styles["tensorflow"] > total / 2:
        evidence.append(f"TensorFlow's ':0' names of {styles['tensorflow']} of {total} nodes")
        return PRODUCERS["tf2onnx"]
    return UNKNOWN


def _cached(inputs: list[ModelInput]) -> bool:
    return any(i.name.startswith(CACHE) for i in inputs)


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
