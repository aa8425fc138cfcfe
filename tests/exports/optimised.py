"""What people do to an export before they bring it: the tools that slim and fuse it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime

HEADS, HIDDEN = 4, 48


def slim(model: onnx.ModelProto, architecture: str) -> onnx.ModelProto:
    """onnxslim: folds constants and shapes, drops what does nothing."""
    import onnxslim

    return onnxslim.slim(model)


def ort(model: onnx.ModelProto, architecture: str) -> onnx.ModelProto:
    """onnxruntime.transformers.optimizer: fuses to com.microsoft operators."""
    from onnxruntime.transformers import optimizer

    kind = architecture if architecture in ("bert", "gpt2", "vit", "t5", "clip") else "gpt2"
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        onnx.save(model, path)
        return optimizer.optimize_model(path, kind, HEADS, HIDDEN, opt_level=0).model


def session(model: onnx.ModelProto, architecture: str) -> onnx.ModelProto:
    """The graph ONNX Runtime makes of it when a session is created, as it can be saved for deployment."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = path
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 4
        onnxruntime.InferenceSession(model.SerializeToString(), options)
        return onnx.load(path)


def onnxscript(model: onnx.ModelProto, architecture: str) -> onnx.ModelProto:
    """onnxscript's fusions for ONNX Runtime."""
    import onnx_ir as ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    fused, _ = optimize_for_ort(ir.from_proto(model))
    return ir.to_proto(fused)


TOOLS: dict[str, Callable[[onnx.ModelProto, str], onnx.ModelProto]] = {
    "slim": slim,
    "ort": ort,
    "session": session,
    "onnxscript": onnxscript,
}
