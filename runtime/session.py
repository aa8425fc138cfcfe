"""Sessions of a compiled folder: the spiking model in either execution, with or without the library, and the ANN."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from spikec.ir import graph as graphs
from spikec.ir.diagnostics import SpikecError
from spikec.ir.inputs import Feed, ModelInput
from spikec.ir.session import options, with_outputs

from . import library

FILES = {"packed": "model.onnx", "unrolled": "model.unrolled.onnx", "ann": "ann.onnx"}


class Compiled:
    """A folder that `spikec compile` wrote. Raises SpikecError when it is none."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        report = self.folder / "report.json"
        if not report.is_file():
            raise SpikecError("is not a compiled model", where=str(folder), why="it has no report.json", fix="run spikec compile first")
        self.report: dict[str, Any] = json.loads(report.read_text())
        self.inputs = [ModelInput(i["name"], np.dtype(i["dtype"]), tuple(i["shape"])) for i in self.report["inputs"]]
        self.outputs: list[str] = self.report["outputs"]

    def session(
        self, which: str = "packed", *, native: bool | None = None, outputs: list[str] | None = None, threads: int = 0
    ) -> ort.InferenceSession:
        """An ONNX Runtime session of `which`: "packed", "unrolled" or "ann".

        `native` asks for the library (True), for function bodies (False), or for whichever there is (None).
        `outputs` are interior values to return besides the model's own.
        """
        path = self.folder / FILES[which]
        if not path.is_file():
            raise SpikecError("is missing", where=str(path), fix="compile the model again")
        settings = options()
        settings.intra_op_num_threads = threads
        if which != "ann" and native is not False:
            why = library.problem()
            if not why:
                settings.register_custom_ops_library(str(library.path()))
            elif native:
                raise SpikecError("the native library cannot be used", why=why, fix="see spikec doctor")
        if outputs is None:
            return _session(path, settings)
        probe = with_outputs(path, outputs, self.folder / f".probe-{os.getpid()}.onnx")
        try:
            return _session(probe, settings)
        finally:
            probe.unlink()

    def spike_trains(self) -> list[str]:
        """Names of all encoders' outputs, in graph order."""
        model = graphs.read(self.folder / FILES["packed"])
        return [node.output[0] for node in model.graph.node if node.op_type == "OATEncode"]


def _session(path: Path, settings: ort.SessionOptions) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise SpikecError("ONNX Runtime cannot load it", where=str(path), why=str(error).splitlines()[0][:300]) from error


def run(session: ort.InferenceSession, feed: Feed) -> dict[str, np.ndarray]:
    """All outputs by name; ONNX Runtime's complaint becomes a SpikecError."""
    names = [o.name for o in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, feed), strict=True))
    except Exception as error:
        raise SpikecError("the model failed to run on this input", why=str(error).splitlines()[0][:300]) from error


def generate(session: ort.InferenceSession, feed_tokens: Any, prompt: list[int], count: int, end: int | None = None) -> Iterator[int]:
    """Greedy continuation, token by token; the whole sequence is run again for each (no cache yet)."""
    ids = list(prompt)
    for _ in range(count):
        logits = session.run(None, feed_tokens(np.array([ids])))[0]
        token = int(np.argmax(logits[0, -1]))
        if token == end:
            return
        ids.append(token)
        yield token
