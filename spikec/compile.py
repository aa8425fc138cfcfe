"""The one function: a model in, a folder out. Everything is written beside the target and moved there at the end."""

from __future__ import annotations

import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import report
from .ir import graph as graphs
from .ir import pipeline
from .ir.diagnostics import SpikecError
from .ir.inputs import Feed, describe, feed_tokens, token_input
from .ir.program import Program
from .ir.weights import DataFile
from .passes import unroll
from .passes.methods import METHODS

RECOGNISE = (
    "fold_constants", "split_gemm", "recognise_activations", "recognise_norms", "recognise_softmax", "recognise_products",
    "recognise_attention", "recognise_rope", "recognise_blocks", "count_macs", "classify",
)  # fmt: skip
FRONT = ("check_weights", "check_runs", *RECOGNISE)
BACK = (
    "observe", "choose_thresholds", "spike_linear", "spike_products", "spike_softmax", "spike_norms", "spike_activations",
    "unroll",
)  # fmt: skip
SAMPLED_LENGTH = 64
SAMPLED_BATCH = 8
WEIGHTS = ("fp32", "int8")
TIMESTEPS = range(2, 17)


@dataclass(frozen=True)
class Settings:
    """What the user may choose. `timesteps` None means the method's own."""

    method: str = "las"
    timesteps: int | None = None
    weights: str = "fp32"
    execution: str = "packed"
    seed: int = 0

    def check(self) -> None:
        """Raises SpikecError for a value outside what spikec does."""
        if self.method not in METHODS:
            raise SpikecError(f"unknown method {self.method!r}", fix=f"choose one of {', '.join(METHODS)}")
        if self.timesteps is not None and self.timesteps not in TIMESTEPS:
            raise SpikecError(
                f"T = {self.timesteps} timesteps cannot be had", why="a spike train's code has 2 to 16 binary digits", fix="choose -T 2 to 16"
            )
        if self.weights not in WEIGHTS:
            raise SpikecError(f"unknown weights {self.weights!r}", fix=f"choose one of {', '.join(WEIGHTS)}")


def compile_model(
    model: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    feeds: list[Feed] | None = None,
    tokenizer: Path | None = None,
    instruments: Iterable[pipeline.Instrument] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Program:
    """Compiles `model` into the folder `out` and returns the Program.

    `feeds` are calibration inputs; without them token ids are sampled from the model's own vocabulary. Raises
    SpikecError, leaving nothing behind, when the model or a setting cannot be used.
    """
    settings = settings or Settings()
    settings.check()
    out = Path(out)
    if out.exists() and not _is_ours(out):
        raise SpikecError("already exists and is not a compiled model", where=str(out), fix="choose another folder with -o")
    started = time.perf_counter()
    program = Program.load(model)
    method = METHODS[settings.method]
    program.settings |= {
        "method": method,
        "timesteps": settings.timesteps or method.timesteps,
        "function_bits": method.function_bits,
        "weights": settings.weights,
        "execution": settings.execution,
        "vocabulary": vocabulary_size(program),
        "calibration": "given inputs" if feeds else "token ids sampled from the model's vocabulary",
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        data = DataFile(stage / "weights.bin")
        ann = stage / "ann.onnx"
        graphs.save(program.graph, ann, data)
        watchers = [pipeline.Stopwatch(), *instruments]
        feeds = feeds or sample_feeds(program, settings.seed)
        options: dict[str, Any] = {
            "model": ann,
            "feeds": feeds,
            "progress": progress,
            "timesteps": program.settings["timesteps"],
            "weights": settings.weights,
        }
        pipeline.run(program, FRONT, options, watchers)
        check_convertible(program)
        pipeline.run(program, BACK, options, watchers)
        for name in unroll.EXECUTIONS:
            unroll.set_execution(program.graph, name)
            graphs.save(program.graph, stage / _file(name), data, program.functions.values())
        unroll.set_execution(program.graph, settings.execution)
        data.close()
        if tokenizer is not None:
            shutil.copyfile(tokenizer, stage / "tokenizer.json")
        program.settings["seconds"] = round(time.perf_counter() - started, 2)
        program.settings["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        (stage / "report.json").write_text(json.dumps(report.as_json(program), indent=1))
        _move(stage, out)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return program


def _file(execution: str) -> str:
    return "model.onnx" if execution == "packed" else f"model.{execution}.onnx"


def sample_feeds(program: Program, seed: int) -> list[Feed]:
    """Calibration inputs without data: token ids drawn from the embedding table's rows."""
    inputs = describe(program.graph)
    if token_input(inputs) is None:
        feed_tokens(inputs, np.zeros((1, 1)))
    vocabulary = vocabulary_size(program)
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, vocabulary or 2, (SAMPLED_BATCH, SAMPLED_LENGTH))
    return [feed_tokens(inputs, row[None]) for row in ids]


def vocabulary_size(program: Program) -> int | None:
    """Rows of the table that the token input looks up."""
    name = token_input(describe(program.graph))
    tensor = next((t for t in program.graph.inputs if t.name == name), None)
    if tensor is None:
        return None
    tables = [node.inputs[0] for node in tensor.outputs if node.op == "Gather" and len(node.inputs[0].shape or ()) == 2]
    return int(tables[0].shape[0]) if tables else None


def check_convertible(program: Program) -> None:
    """Raises SpikecError for a model with nothing of a transformer in it."""
    if not program.of("linear", "matmul_dynamic"):
        seen = sorted({node.op for node in program.graph.nodes})
        raise SpikecError(
            "nothing to convert",
            where=str(program.source),
            why="looked for linear layers, attention, softmax, layer and RMS norms, activations; "
            f"the model has {', '.join(seen[:12])}{' ...' if len(seen) > 12 else ''}",
            fix="give a transformer exported to ONNX",
        )


def _is_ours(folder: Path) -> bool:
    return folder.is_dir() and ((folder / "report.json").is_file() or not any(folder.iterdir()))


def _move(stage: Path, out: Path) -> None:
    os.chmod(stage, 0o755)
    if out.exists():
        shutil.rmtree(out)
    stage.rename(out)
