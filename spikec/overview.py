"""What is in a model and what can spike, for `spikec inspect`: recognition only, nothing is run."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from . import exporter, scope
from .compile import FRONT
from .identify import identify
from .ir import pipeline
from .ir.inputs import describe
from .ir.program import Decision, Finding, Program
from .passes.classify import NO_ACTIVATION, coverage
from .passes.describe import plain
from .passes.methods import METHODS
from .report import found, layers

ATTENTION_FACTS = (
    "heads",
    "kv_heads",
    "head_size",
    "scale",
    "softcap",
    "mask",
    "polarity",
    "past",
    "unproved",
)

EMPTY = (None, (), "")


def recognise(path: str | Path, method: str = "las") -> Program:
    """The model with its findings and decisions; raises SpikecError when it cannot be read."""
    program = Program.load(path)
    program.settings["method"] = METHODS[method]
    start = time.perf_counter()
    pipeline.run(program, FRONT, {}, [pipeline.Stopwatch()])
    program.settings["seconds"] = round(time.perf_counter() - start, 3)
    return program


def overview(path: str | Path) -> dict[str, Any]:
    """Everything `inspect` tells, as JSON."""
    return tell(recognise(path))


def tell(program: Program) -> dict[str, Any]:
    census, inputs = program.census, describe(program.graph)
    return {
        "model": program.source.name,
        "architecture": identify(program),
        "exporter": exporter.guess(census, inputs),
        "opset": census.opset or program.graph.opset,
        "ir_version": census.ir_version,
        "domains": {domain or "ai.onnx": version for domain, version in sorted(census.opsets.items())},
        "inputs": [
            {"name": i.name, "dtype": str(i.dtype), "dims": [_dim(d) for d in i.shape]} for i in inputs
        ],
        "outputs": [
            {"name": o.name, "dtype": _dtype(o), "dims": [_dim(d) for d in o.shape or ()]}
            for o in program.graph.outputs
        ],
        "layers": layers(program),
        "parameters": census.parameters,
        "dtypes": dict(sorted(census.weights.items())),
        "ops": dict(sorted(census.ops.items())),
        "nodes": sum(census.ops.values()),
        "found": found(program),
        "attention": attention(program),
        "coverage": coverage(program),
        "can_spike": can_spike(program),
        "cannot": cannot(program),
        "misses": scope.as_json(scope.misses(program)),
        "diagnostics": [
            {"code": d.code, "severity": d.severity, "where": d.where, "text": d.text, "remedy": d.remedy}
            for d in program.diagnostics
        ],
        "seconds": program.settings["seconds"],
    }


def _dim(dim: Any) -> int | str | None:
    return int(dim) if isinstance(dim, (int, np.integer)) else str(dim) if dim else None


def _dtype(tensor: gs.Tensor) -> str:
    return str(np.dtype(tensor.dtype)) if tensor.dtype is not None else "unknown"


def attention(program: Program) -> list[dict[str, Any]]:
    """Each distinct attention, with how many there are of it and the block of the first."""
    kinds: dict[str, dict[str, Any]] = {}
    for f in program.of("attention"):
        facts = {key: plain(f.facts[key]) for key in ATTENTION_FACTS if f.facts.get(key) not in EMPTY}
        kind = kinds.setdefault(repr(facts), {"count": 0, "first_block": f.block, **facts})
        kind["count"] += 1
    return list(kinds.values())


def can_spike(program: Program) -> dict[str, dict[str, Any]]:
    """Spiking operators by what they stand for: how many findings of a kind the method converts."""
    method = program.settings["method"]
    spiking = {d.node for d in program.decisions.values() if d.verdict == "spiking"}
    counts: Counter[tuple[str, str]] = Counter()
    for f in program.findings:
        if f.kind in method.operators and _all_in(f, spiking):
            counts[f.facts["label"], method.operators[f.kind]] += 1
    return {label: {"operator": op, "count": n} for (label, op), n in sorted(counts.items())}


def _all_in(finding: Finding, names: set[str]) -> bool:
    return all(node.name in names for node in finding.nodes)


def cannot(program: Program) -> list[dict[str, Any]]:
    """What of the arithmetic on activations stays on host, by reason; what is in scope comes first."""
    groups: dict[tuple[str, str], list[Decision]] = {}
    limits = scope.Scope(program)
    for d in program.decisions.values():
        if d.verdict in scope.UNCONVERTED and d.reason != NO_ACTIVATION:
            groups.setdefault((d.verdict, d.reason), []).append(d)
    rows = [
        {
            "verdict": verdict,
            "reason": reason,
            "in_scope": any(limits.misses(d) for d in group),
            "nodes": len(group),
            "ops": dict(sorted(Counter(d.op for d in group).items())),
            "macs": sum(d.macs or 0 for d in group),
            "first": group[0].node,
        }
        for (verdict, reason), group in groups.items()
    ]
    return sorted(rows, key=lambda row: (not row["in_scope"], -row["macs"], -row["nodes"], row["reason"]))
