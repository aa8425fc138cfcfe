"""The one function: a model in, a folder out, written beside its place and moved there when complete."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import report, scope
from .ir import graph as graphs
from .ir import pipeline
from .ir.diagnostics import SpikecError, reason
from .ir.inputs import Feed, describe, token_input, vocabulary_size
from .ir.program import Program
from .ir.storage import DataFile, fingerprint
from .passes import stream, unroll
from .passes.allocate.budget import Budget
from .passes.methods import pick
from .passes.normalise import NORMALISE
from .passes.recognise import RECOGNISE
from .sample import sample_feeds

CLASSIFY = ("look_inside", "count_macs", "classify", "describe")
FRONT = (*NORMALISE, *RECOGNISE, *CLASSIFY)
"""All that is needed to tell what is in a model; it reads no weights but small ones and runs nothing."""
BACK = (
    "spike_linear", "spike_products", "spike_softmax", "spike_norms",
    "spike_activations", "unroll",
)  # fmt: skip
FILES = {"model.onnx", "model.unrolled.onnx", "ann.onnx", "weights.bin", "report.json", "tokenizer.json"}
"""What a compiled folder holds, and nothing else: only such a folder is overwritten."""
SAMPLED = "token ids sampled from the model's vocabulary (--data TEXT is better)"
DRAWN = "inputs drawn at random (--npz FILE is better)"
WEIGHTS = ("fp32", "int8")


@dataclass(frozen=True)
class Settings:
    """What the user may choose. `timesteps` None means the method's own; `options` are the method's, by name,
    as values or as texts of them; `budget` (`ppl<=+1%`) is what method auto keeps, and `search` the file in
    which it remembers what it measured; `strict` refuses a model of which anything in scope would not be
    converted."""

    method: str = "las"
    timesteps: int | None = None
    weights: str = "fp32"
    seed: int = 0
    strict: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    budget: str | None = None
    search: Path | None = None

    def check(self) -> None:
        """Raises SpikecError for a value outside what spikec does."""
        pick(self.method, self.timesteps, self.options)
        if self.budget is not None:
            Budget.read(self.budget)
            if self.method != "auto":
                raise SpikecError(
                    f"method {self.method} keeps no budget", where="--budget", fix="use --method auto"
                )
        if self.seed < 0:
            raise SpikecError(f"seed {self.seed} is negative", fix="give --seed 0 or more")
        if self.weights not in WEIGHTS:
            raise SpikecError(
                f"unknown weights {self.weights!r}",
                where="--weights",
                fix=f"choose one of {', '.join(WEIGHTS)}",
            )


def compile_model(
    model: str | Path | Program,
    out: str | Path,
    settings: Settings | None = None,
    *,
    feeds: list[Feed] | None = None,
    calibration: str | None = None,
    tokenizer: Path | None = None,
    instruments: Iterable[pipeline.Instrument] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Program:
    """Compiles `model` into the folder `out` and returns the Program.

    `feeds` are calibration inputs, `calibration` what the report calls them; without them token ids are
    sampled from the model's own vocabulary. Raises SpikecError, leaving nothing behind, when the model or a
    setting cannot be used.
    """
    settings = settings or Settings()
    settings.check()
    target = check_target(out)
    program = model if isinstance(model, Program) else Program.load(model)
    method, timesteps, chosen = pick(settings.method, settings.timesteps, settings.options)
    inputs = describe(program.graph)
    program.settings |= {
        "inputs": inputs,
        "method": method,
        "timesteps": timesteps,
        "options": chosen,
        "budget": settings.budget,
        "function_bits": method.function_bits,
        "weights": method.weights(chosen) or settings.weights,
        "vocabulary": vocabulary_size(inputs),
        "calibration": calibration
        or (f"{len(feeds)} given inputs" if feeds else SAMPLED if token_input(inputs) else DRAWN),
    }
    try:
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=_existing(target)))
        try:
            _compile(program, stage, settings, feeds, [pipeline.Stopwatch(), *instruments], progress)
            if tokenizer is not None:
                shutil.copyfile(tokenizer, stage / "tokenizer.json")
            (stage / "report.json").write_text(json.dumps(report.as_json(program), indent=1))
            _move(stage, target)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise SpikecError(
            "cannot write the compiled model",
            where=str(out),
            why=reason(error),
            fix="free space there, or choose another folder with -o",
        ) from error
    program.settings["seconds"] = round(time.perf_counter() - program.started, 2)
    program.settings["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return program


def _compile(
    program: Program,
    stage: Path,
    settings: Settings,
    feeds: list[Feed] | None,
    watchers: list[pipeline.Instrument],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Every pass, with the original and the spiking models written into `stage`."""
    data = DataFile(stage / "weights.bin", link=True)
    originals = DataFile(stage / "original.bin", refer=True)
    original, ann = stage / "original.onnx", stage / "ann.onnx"
    graphs.save(program.graph, original, originals)
    refused: SpikecError | None = None
    try:
        feeds = feeds or sample_feeds(program, original, settings.seed)
        program.settings |= {"original": original, "probe": feeds[0]}
    except SpikecError as error:
        refused = error  # told only once there is something to convert
    options: dict[str, Any] = {
        "original": original,
        "model": ann,
        "feeds": feeds,
        "progress": progress,
        "timesteps": program.settings["timesteps"],
        "weights": program.settings["weights"],
        "search": settings.search,
        "seed": settings.seed,
    }
    watchers = watchers if feeds else watchers[:1]
    pipeline.run(program, (*NORMALISE, "check_weights"), options, watchers)
    graphs.save(program.graph, ann, data)
    if "bfloat16" in program.settings.get("widened", ()):
        # ONNX Runtime has few kernels for it, and takes none from Python: the widened model is the original
        inputs = program.settings["inputs"] = describe(program.graph)
        feeds = feeds and [{i.name: feed[i.name].astype(i.dtype) for i in inputs} for feed in feeds]
        options |= {"original": ann, "feeds": feeds}
    if (
        feeds is None
    ):  # perhaps for types that ONNX Runtime has no kernels for, or tables hard to find: no more
        inputs = program.settings["inputs"] = describe(program.graph)
        program.settings["vocabulary"] = vocabulary_size(inputs)
        with contextlib.suppress(SpikecError):
            feeds, refused = sample_feeds(program, ann, settings.seed), None
            options["feeds"] = feeds
    for name, value in program.settings.get("chosen", {}).items():  # the branch that was compiled
        for feed in feeds or ():
            feed[name] = np.full_like(feed[name], value)
    pipeline.run(program, (*RECOGNISE, *CLASSIFY), options, watchers)
    check_convertible(program)
    if settings.strict:
        scope.check(program)
    if refused is not None:
        raise refused
    pipeline.run(program, ("check_runs",), options, watchers)
    method = program.settings["method"]
    if method.trained:
        pipeline.run(program, method.trained, options, watchers)
        options["model"] = stage / "trained.onnx"
        graphs.save(program.graph, options["model"], originals, program.functions.values())
    streaming = ("stream",) if method.streams else ()
    pipeline.run(program, ("observe", *method.calibration, *BACK, *streaming), options, watchers)
    if settings.strict:
        scope.check(program)  # again: a rewrite may have been refused
    original.unlink()
    (stage / "trained.onnx").unlink(missing_ok=True)
    originals.remove()
    for name in unroll.EXECUTIONS:
        unroll.set_execution(program.graph, name)
        if name == "unrolled" and streaming:
            stream.unroll_events(program)
        graphs.save(program.graph, stage / _file(name), data, program.functions.values())
    data.close()
    if not data.end:
        data.path.unlink()
    program.settings["files"] = {path.name: fingerprint(path) for path in data.files}


def _file(execution: str) -> str:
    return "model.onnx" if execution == "packed" else f"model.{execution}.onnx"


def check_convertible(program: Program) -> None:
    """Raises SpikecError for a model that no runtime knows, or with nothing of a transformer in it."""
    for decision in program.decisions.values():
        if decision.verdict == "rejected":
            raise SpikecError(
                f"node {decision.node!r} cannot be run",
                where=str(program.source),
                why=decision.reason,
                fix="export the model with the operator spelled out, or with its local function",
            )
    norm = program.of("layernorm", "rmsnorm") and program.of("linear")
    if not program.of("attention") and not norm:
        whole = program.settings.get("whole")
        if whole is not None and whole.of("attention"):
            raise SpikecError(
                "keeps its attention inside control flow",
                where=str(program.source),
                why=next(d.text for d in program.diagnostics if d.code == "SPK430"),
                fix="export one branch as a model of its own, or the loop unrolled",
            )
        seen = sorted({node.op for node in program.graph.nodes})
        near = next((f"; {d.where}: {d.text}" for d in program.diagnostics if d.code == "SPK101"), "")
        raise SpikecError(
            "nothing to convert",
            where=str(program.source),
            why="looked for attention, or layer or RMS norms with linear layers; "
            f"the model has {', '.join(seen[:12])}{' ...' if len(seen) > 12 else ''}{near}",
            fix="give a transformer exported to ONNX",
        )


def check_target(out: str | Path) -> Path:
    """The folder to write, resolved; raises SpikecError when something else is there or nothing can be."""
    target = Path(out).resolve()
    if target.is_dir():
        names = {path.name for path in target.iterdir() if not path.name.startswith(".probe-")}
        if names and not ("report.json" in names and names <= FILES | _data_files(target)):
            raise SpikecError(
                "already exists and is not a compiled model",
                where=str(out),
                why=f"it holds {min(names - FILES - _data_files(target), default='no report.json')}",
                fix="choose another folder with -o",
            )
    elif target.exists():
        raise SpikecError("is a file, not a folder", where=str(out), fix="choose another folder with -o")
    parent = _existing(target)
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise SpikecError(
            "cannot be written",
            where=str(out),
            why=f"{parent} is no writable folder",
            fix="choose another folder with -o",
        )
    return target


def _data_files(folder: Path) -> set[str]:
    """Names of the data files of the compile that stands there."""
    try:
        files = json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"]
        return {name for name in files if name == Path(name).name}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _existing(target: Path) -> Path:
    """The nearest folder above that is there: a stage in it leaves nothing behind when it fails."""
    return next(folder for folder in target.parents if folder.exists())


def _move(stage: Path, out: Path) -> None:
    """Puts the finished folder in place; an older compile is only removed once the new one stands there."""
    os.chmod(stage, 0o755)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        old = stage.with_name(f"{stage.name}-old")
        out.rename(old)
        stage.rename(out)
        shutil.rmtree(old)
    else:
        stage.rename(out)
