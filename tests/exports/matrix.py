"""The recognition matrix: names of the stored models, each with its expected counts. Needs no torch."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import onnx
from exports import skeleton
from exports.counts import EXPECTED, PACKED

FOLDER = Path(__file__).parent / "models"
SUFFIX = ".onnx.xz"
NAMES = sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


def load(name: str) -> onnx.ModelProto:
    """The model with its weights."""
    return skeleton.load(FOLDER / f"{name}{SUFFIX}")


def expected(name: str) -> dict[str, int]:
    """What `spikec inspect` must find, by kind."""
    return asdict(PACKED.get(name) or EXPECTED[name.partition("-")[0]])


def recognised(name: str) -> dict[str, int]:
    """What `spikec inspect` does find, of the same kinds."""
    from spikec.compile import FRONT
    from spikec.ir import pipeline
    from spikec.ir.program import Program
    from spikec.passes.methods import METHODS
    from spikec.report import found

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(load(name), path)
        program = Program.load(path)
        program.settings["method"] = METHODS["las"]
        pipeline.run(program, FRONT, {})
    counts = found(program)
    return {kind: counts[kind] for kind in expected(name)}
