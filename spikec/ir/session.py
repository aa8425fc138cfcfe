"""Plain ONNX Runtime sessions, as calibration and checks need them: no spiking library involved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from . import graph as graphs
from .diagnostics import SpikecError, reason

SILENT = 4
"""ONNX Runtime's log level at which it writes nothing: its complaints reach the user as a SpikecError."""


def options() -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = SILENT
    return settings


class Session(ort.InferenceSession):
    """An ONNX Runtime session on the CPU; a model or an input it refuses is a SpikecError."""

    def __init__(
        self,
        path: Path,
        settings: ort.SessionOptions | None = None,
        *,
        where: str = "",
        fix: str = "export it again",
    ) -> None:
        self.where = where or str(path)
        try:
            super().__init__(str(path), settings or options(), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise SpikecError(
                "ONNX Runtime cannot load this model", where=self.where, why=reason(error), fix=fix
            ) from error

    def run(self, names: Any, feed: Any, run_options: Any = None) -> Any:
        try:
            return super().run(names, feed, run_options)
        except Exception as error:
            shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in feed.items())
            raise SpikecError(
                f"ONNX Runtime cannot run this model on {shapes}",
                where=self.where,
                why=reason(error),
                fix="give inputs it was made for (shorter with --context), or export it again",
            ) from error


def reference_session(path: Path, where: str = "") -> Session:
    """A session of a model as it is. `where` is what messages call it."""
    return Session(path, where=where)


def with_outputs(path: Path, extra: list[str], target: Path) -> Path:
    """Writes a copy of the model that also returns the named interior values."""
    model = graphs.read(path)
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in present)
    target.write_bytes(model.SerializeToString())
    return target
