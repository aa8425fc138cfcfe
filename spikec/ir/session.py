"""Plain ONNX Runtime sessions, as calibration and checks need them: no spiking library involved."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort

from . import graph as graphs
from . import loops
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


VERSION = tuple(int(part) for part in ort.__version__.split(".")[:2])
DATA_FOLDER = "session.model_external_initializers_file_folder_path"
KNOWS_A_DATA_FOLDER = (1, 22)
"""The first ONNX Runtime that can be told where the data of a model given as bytes lie."""


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
        self.where = where or "the model"
        with tempfile.TemporaryDirectory(prefix="spikec-") as folder:
            if isinstance(model, Path):
                source: str | bytes = str(model)
                self.where = where or str(model)
            elif VERSION >= KNOWS_A_DATA_FOLDER:
                source = model.SerializeToString()
                settings.add_session_config_entry(DATA_FOLDER, Path.cwd().anchor)
            else:
                source = str(_beside_a_link_to_the_root(model, Path(folder)))
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


def _beside_a_link_to_the_root(model: onnx.ModelProto, folder: Path) -> Path:
    """The model as a file there, its data reached through a link: for runtimes that look for data nowhere but
    beside a model."""
    (folder / "root").symlink_to(folder.anchor)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for body in graph_protos(copy.graph):
        for tensor in body.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = f"root/{entry.value}"
    path = folder / "model.onnx"
    path.write_bytes(copy.SerializeToString())
    return path


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
    """Writes a copy of the model that also returns the named interior values.

    Of a value inside the loop of a streaming model that is its value in the last step, and of a neuron's
    spikes (`loops.STACKED`) those of every step, `[steps, ...]`.
    """
    model = graphs.read(path)
    loops.expose(model.graph, extra)
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in extra if name not in present)
    target.write_bytes(model.SerializeToString())
    return target
