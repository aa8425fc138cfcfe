"""Instruments users can hang on the pipeline."""

from __future__ import annotations

from pathlib import Path

from .ir import graph as graphs
from .ir.program import Program


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
