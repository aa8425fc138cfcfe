"""The recognition matrix: names of the stored models, each with its expected counts. Needs no torch."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import onnx
from exports import skeleton
from exports.counts import EXPECTED, PACKED

from spikec.ir import census
from spikec.ir.program import Decision
from spikec.overview import recognise
from spikec.report import found

FOLDER = Path(__file__).parent / "models"
SUFFIX = ".onnx.xz"
NAMES = sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


def load(name: str) -> onnx.ModelProto:
    """The model with its weights."""
    return skeleton.load(FOLDER / f"{name}{SUFFIX}")


def expected(name: str) -> dict[str, int]:
    """What `spikec inspect` must find, by kind."""
    return asdict(PACKED.get(name) or EXPECTED[name.partition("-")[0]])


@dataclass(frozen=True)
class Seen:
    """What recognition says of one model: counts, operators as in the file, and what became of each node;
    `names` tells which operator the file has under a name."""

    found: dict[str, int]
    ops: dict[str, int]
    names: dict[str, str]
    decisions: tuple[Decision, ...]


@cache
def seen(name: str) -> Seen:
    """Once for all tests of one process."""
    model = load(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        program = recognise(path)
    names = {node.name: census.operator(node) for node in model.graph.node}
    return Seen(found(program), dict(program.census.ops), names, tuple(program.decisions.values()))


def recognised(name: str) -> dict[str, int]:
    """What `spikec inspect` does find, of the kinds expected."""
    counts = seen(name).found
    return {kind: counts[kind] for kind in expected(name)}
