"""Sessions of a compiled folder: the spiking model, packed or unrolled, native or not, and the ANN."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from spikec.custom_ops.catalogue import OPS
from spikec.custom_ops.spec import DOMAIN
from spikec.ir import graph as graphs
from spikec.ir.diagnostics import SpikecError, reason
from spikec.ir.inputs import Feed, ModelInput
from spikec.ir.loops import step_loop
from spikec.ir.session import Session, frugal, options, with_outputs
from spikec.ir.storage import fingerprint

from . import library

FILES = {"packed": "model.onnx", "unrolled": "model.unrolled.onnx", "ann": "ann.onnx"}
AGAIN = "run spikec compile again"
LARGE = 1 << 31
"""Bytes of weights from which on they stay mapped: ONNX Runtime would copy all of them to multiply faster."""


@dataclass(frozen=True)
class Encoder:
    """A node that turns the value `source` into the spike train `train`. One that `streams` is stepped: both
    executions give its train step by step, its code is in `code` once the last is done, and the code that it
    was after, if it has one, in `wanted`."""

    op: str
    source: str
    train: str
    attributes: dict[str, Any]
    wanted: str = ""

    @property
    def streams(self) -> bool:
        return not OPS[self.op].kernel

    @property
    def code(self) -> str:
        return self.train.removesuffix("/spikes") + "/code"

    @property
    def running(self) -> str:
        """The code inside the loop, after a step: what packed layers read."""
        return f"{self.code}/now"

    @property
    def radix(self) -> int:
        """What a digit of the train weighs more than the next."""
        return int(self.attributes.get("radix", 1))


class Compiled:
    """A folder that `spikec compile` wrote. Raises SpikecError when it is none."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        report = self.folder / "report.json"
        if not report.is_file():
            raise SpikecError(
                "is not a compiled model",
                where=str(folder),
                why="it has no report.json",
                fix="run spikec compile first",
            )
        try:
            self.report: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
            self.inputs = [ModelInput.from_json(i) for i in self.report["inputs"]]
            self.outputs: list[str] = self.report["outputs"]
            self.vocabulary: int | None = self.report["vocabulary"]
        except (ValueError, KeyError, TypeError) as error:
            raise SpikecError(
                "is not a report of spikec", where=str(report), why=reason(error), fix=AGAIN
            ) from error

    def session(
        self,
        which: str = "packed",
        *,
        native: bool | None = None,
        outputs: list[str] | None = None,
        threads: int = 0,
    ) -> Session:
        """An ONNX Runtime session of `which`: "packed", "unrolled" or "ann".

        `native` asks for the library (True), for function bodies (False), or for whichever there is (None).
        `outputs` are interior values to return besides the model's own.
        """
        path = self.folder / FILES[which]
        if not path.is_file():
            raise SpikecError("is missing", where=str(path), fix=AGAIN)
        self._check_data()
        stored = sum(file["bytes"] for file in self.report.get("files", {}).values())
        settings = options() if stored < LARGE else frugal()
        settings.intra_op_num_threads = threads
        if which != "ann" and native is not False:
            why = library.problem()
            if not why:
                settings.register_custom_ops_library(str(library.path()))
            elif native:
                raise SpikecError("the native library cannot be used", why=why, fix="see spikec doctor")
        if outputs is None:
            return Session(path, settings, fix=AGAIN)
        # Beside the model: ONNX Runtime 1.20 looks for external weights nowhere else.
        try:
            with tempfile.NamedTemporaryFile(dir=self.folder, prefix=".probe-", suffix=".onnx") as probe:
                with_outputs(path, outputs, Path(probe.name))
                return Session(Path(probe.name), settings, where=str(path), fix=AGAIN)
        except OSError as error:
            raise SpikecError(
                "cannot be written",
                where=str(self.folder),
                why=reason(error),
                fix="copy the folder to where it can be written",
            ) from error

    def _check_data(self) -> None:
        """A data file may be a hard link to the source's, which others may write over."""
        for name, known in self.report.get("files", {}).items():
            path = self.folder / name
            if not path.is_file():
                raise SpikecError("is missing", where=str(path), fix=AGAIN)
            if fingerprint(path) != known:
                raise SpikecError(
                    "is not what was compiled",
                    where=str(path),
                    why="it was written over since, perhaps with the file it is a hard link to",
                    fix=AGAIN,
                )

    def spike_trains(self) -> list[str]:
        """Names of all encoders' outputs, in graph order."""
        return [encoder.train for encoder in self.encoders()]

    def encoders(self, which: str = "packed") -> list[Encoder]:
        """All encoders, in graph order."""
        graph = graphs.read(self.folder / FILES[which]).graph
        loop = step_loop(graph)
        nodes = [*(loop[1].node if loop else ()), *graph.node]
        maker = {name: node for node in nodes for name in node.output}
        found = []
        for node in nodes:
            op = OPS.get(node.op_type) if node.domain == DOMAIN else None
            if op is None or op.events is None:
                continue
            if not op.kernel:
                inputs = dict(zip(op.inputs, node.input, strict=True))
                source = inputs["X"] if "X" in inputs else maker[inputs["Q"]].input[0]
                found.append(Encoder(op.name, source, node.output[0], {}, inputs.get("Q", "")))
            elif loop is None:
                attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                found.append(Encoder(op.name, node.input[0], node.output[0], attributes))
        return found


def run(session: Session, feed: Feed) -> dict[str, np.ndarray]:
    """All outputs by name."""
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))
