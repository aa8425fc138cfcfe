"""Plain ONNX Runtime sessions, as calibration and checks need them: no spiking library involved."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort

from .diagnostics import SpikecError


def options() -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    return settings


def reference_session(path: Path) -> ort.InferenceSession:
    """A session of a model as it is; raises SpikecError when ONNX Runtime refuses it."""
    try:
        return ort.InferenceSession(str(path), options(), providers=["CPUExecutionProvider"])
    except Exception as error:
        raise SpikecError(
            "ONNX Runtime cannot load this model", where=str(path), why=str(error).splitlines()[0][:300], fix="export it again"
        ) from error


def with_outputs(path: Path, extra: list[str], target: Path) -> Path:
    """Writes a copy of the model that also returns the named interior values."""
    model = onnx.load(path, load_external_data=False)
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in present)
    target.write_bytes(model.SerializeToString())
    return target
