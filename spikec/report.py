"""What a user reads of a compile, as JSON and as text: pure functions of Program, so no two reports disagree."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from . import __version__
from .ir.inputs import describe
from .ir.program import Program
from .passes.classify import coverage

SCHEMA = 1


def as_json(program: Program) -> dict[str, Any]:
    """Everything that is known of the compile, without machine paths."""
    settings = program.settings
    method = settings["method"]
    return {
        "schema": SCHEMA,
        "spikec": __version__,
        "model": program.source.name,
        "method": {"name": method.name, "source": method.source, "guarantee": method.guarantee},
        "timesteps": settings["timesteps"],
        "function_bits": settings["function_bits"],
        "weights": settings["weights"],
        "execution": settings["execution"],
        "calibration": settings["calibration"],
        "inputs": [{"name": i.name, "dtype": str(i.dtype), "shape": list(i.shape)} for i in describe(program.graph)],
        "outputs": [o.name for o in program.graph.outputs],
        "found": dict(sorted(Counter(f.facts["label"] for f in program.findings).items())),
        "coverage": coverage(program),
        "blocks": 1 + max((f.block for f in program.findings), default=-1),
        "block_outputs": block_outputs(program),
        "sites": {
            name: {**asdict(program.thresholds[name]), **site.summary()} for name, site in program.statistics["sites"].items()
        },
        "decisions": [asdict(d) for d in program.decisions.values()],
        "certificates": [{**asdict(c), "holds": c.holds} for c in program.certificates],
        "diagnostics": [asdict(d) for d in program.diagnostics],
        "passes": program.timings,
        "seconds": settings.get("seconds"),
        "peak_mb": settings.get("peak_mb"),
    }


def block_outputs(program: Program) -> dict[str, str]:
    """The last residual sum (or norm after it) of every block: where ANN and SNN are compared layer by layer."""
    last: dict[str, str] = {}
    for finding in program.of("residual"):
        if finding.block >= 0:
            last[str(finding.block)] = finding.name
    return last
