"""Instruments users can hang on the pipeline: a dump, or a run, of the graph after every pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .ir import graph as graphs
from .ir.diagnostics import SpikecError
from .ir.program import Program
from .ir.session import Session, options, reference_session
from .ir.storage import DataFile
from .runtime import library

UNCHANGED = 0.999999
"""Cosine below which a pass that rewrites nothing has changed the model's numbers."""


class Dump:
    """Writes the graph after every pass, without its large weights, as `NN-pass.onnx`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def before(self, program: Program, name: str, index: int, count: int) -> None:
        pass

    def after(self, program: Program, name: str, index: int, count: int) -> None:
        model = graphs.skeleton(program.graph)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.count += 1
        (self.folder / f"{self.count:02d}-{name}.onnx").write_bytes(
            model.SerializeToString(deterministic=True)
        )


class CheckPasses:
    """Runs the graph after every pass on the first calibration input and compares it with the original.

    Cosine and largest difference of the outputs join the pass's timing. Raises SpikecError after the first
    pass that changes them although the rewrites (`spike_*`) have not begun.
    """

    def __init__(self) -> None:
        self.original: list[np.ndarray] = []
        self.rewriting = False

    def before(self, program: Program, name: str, index: int, count: int) -> None:
        if not self.original:
            self.original = reference_session(program.settings["original"]).run(
                None, program.settings["probe"]
            )

    def after(self, program: Program, name: str, index: int, count: int) -> None:
        folder: Path = program.settings["original"].parent
        path, data = folder / "check.onnx", DataFile(folder / "check.bin")
        graphs.sort(program.graph)
        graphs.save(program.graph, path, data, program.functions.values())
        data.close()
        settings = options()
        if not library.problem():
            settings.register_custom_ops_library(str(library.path()))
        outputs = Session(path, settings, fix="report this").run(None, program.settings["probe"])
        path.unlink()
        data.path.unlink()
        a, b = (
            np.concatenate([o.reshape(-1) for o in side]).astype(np.float64)
            for side in (self.original, outputs)
        )
        cosine = 1.0 if np.array_equal(a, b) else float(a @ b / np.sqrt((a @ a) * (b @ b)))
        program.timings[-1] |= {"cosine": cosine, "max_difference": float(np.abs(a - b).max(initial=0.0))}
        self.rewriting |= name.startswith("spike_")
        if not (self.rewriting or cosine >= UNCHANGED):
            raise SpikecError(
                "changed the model's outputs, which it must not",
                where=f"pass {name}",
                why=f"their cosine to the original's is {cosine:.9f}",
                fix="this is a bug in spikec: report it with the model",
            )
