"""Plain ONNX Runtime sessions, as calibration and checks need them: no spiking library involved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from . import graph as graphs
from .census import graph_protos
from .diagnostics import SpikecError, reason

SILENT = 4
"""ONNX Runtime's log level at which it writes nothing: its complaints reach the user as a SpikecError."""


def options() -> ort.SessionOptions:
    settings = ort.SessionOptions()
    settings.log_severity_level = SILENT
    return settings


def frugal() -> ort.SessionOptions:
    """For a run or two: weights stay in their mapped files, where ONNX Runtime would copy them into an order
    of its own."""
    settings = options()
    settings.add_session_config_entry("session.disable_prepacking", "1")
    return settings


class Session(ort.InferenceSession):
    """An ONNX Runtime session on the CPU; a model or an input it refuses is a SpikecError.

    A model given as a protobuf has the locations of its data counted from the root, as `anchored` makes them.
    """

    def __init__(
        self,
        model: Path | onnx.ModelProto,
        settings: ort.SessionOptions | None = None,
        *,
        where: str = "",
        fix: str = "export it again",
    ) -> None:
        settings = settings or options()
        if isinstance(model, Path):
            source: str | bytes = str(model)
        else:
            source = model.SerializeToString()
            root = Path.cwd().anchor
            settings.add_session_config_entry("session.model_external_initializers_file_folder_path", root)
        self.where = where or str(model)
        try:
            super().__init__(source, settings, providers=["CPUExecutionProvider"])
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


def anchored(path: Path) -> onnx.ModelProto:
    """The model, its data located from the root: ONNX Runtime refuses data in other folders than the model's,
    and the symlinks of model hubs."""
    model = graphs.read(path)
    for body in graph_protos(model.graph):
        for tensor in body.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    file = (path.parent / entry.value).resolve()
                    entry.value = file.relative_to(file.anchor).as_posix()
    return model


def reference_session(path: Path, where: str = "") -> Session:
    """A session of a model as it is, for a run or two. `where` is what messages call it."""
    return Session(anchored(path), frugal(), where=where or str(path))


def with_outputs(path: Path, extra: list[str], target: Path) -> Path:
    """Writes a copy of the model that also returns the named interior values."""
    model = graphs.read(path)
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in present)
    target.write_bytes(model.SerializeToString())
    return target
