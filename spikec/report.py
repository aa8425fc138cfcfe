"""What a user reads of a compile, as JSON and text: pure functions of Program, so no two reports disagree."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from . import __version__
from .ir.program import Program
from .passes.classify import coverage

SCHEMA = 1


def as_json(program: Program) -> dict[str, Any]:
    """All that is known of the result, and nothing of the run: same input and flags, same bytes."""
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
        "calibration": settings["calibration"],
        "inputs": [i.as_json() for i in settings["inputs"]],
        "outputs": [o.name for o in program.graph.outputs],
        "vocabulary": settings.get("vocabulary"),
        "found": found(program),
        "coverage": coverage(program),
        "blocks": 1 + max((f.block for f in program.findings), default=-1),
        "block_outputs": block_outputs(program),
        "sites": {
            name: {**asdict(program.thresholds[name]), **site.summary()}
            for name, site in program.statistics["sites"].items()
        },
        "decisions": [asdict(d) for d in program.decisions.values()],
        "certificates": [{**asdict(c), "holds": c.holds} for c in program.certificates],
        "diagnostics": [{**asdict(d), "severity": d.severity} for d in program.diagnostics],
    }


def costs(program: Program) -> dict[str, Any]:
    """What the run took; printed, and never written beside the model."""
    return {
        "seconds": program.settings["seconds"],
        "peak_mb": program.settings["peak_mb"],
        "passes": program.timings,
    }


FOUND = (
    "attention", "softmax", "layernorm", "rmsnorm", "gelu_erf", "gelu_tanh", "quick_gelu", "silu", "relu",
    "rope", "linear", "matmul_dynamic", "other_linear", "embedding", "residual",
)  # fmt: skip
MERGED = {"qk": "matmul_dynamic", "av": "matmul_dynamic", "head": "other_linear"}


def found(program: Program) -> dict[str, int]:
    """Counts of what was recognised; functions without a name of their own count as "function"."""
    counts = Counter(MERGED.get(f.facts["label"], f.facts["label"]) for f in program.findings)
    return {kind: counts.pop(kind, 0) for kind in FOUND} | dict(sorted(counts.items()))


def as_text(program: Program, out: str) -> str:
    """The summary after a compile, at most fifteen lines."""
    settings, cover = program.settings, coverage(program)
    total = sum(cover["macs"].values()) or 1
    dense = cover["dense_macs_in_blocks"]
    share = "of MACs at 128 tokens" if not cover["nodes_of_unknown_macs"] else "of the MACs known"
    lines = [
        f"{program.source.name} -> {out}/  (method {settings['method'].name}, T = {settings['timesteps']}, "
        f"{settings['weights']} weights, calibrated on {settings['calibration']})",
        "recognised  " + ", ".join(f"{n} {kind}" for kind, n in found(program).items() if n),
        *(
            f"{verdict:<10}  {nodes:>5} nodes  {100 * cover['macs'][verdict] / total:6.2f} % {share}"
            for verdict, nodes in cover["nodes"].items()
        ),
        f"{'unknown' if dense is None else dense} dense MACs left inside blocks; "
        f"{sum(c.holds for c in program.certificates)} of {len(program.certificates)} rewrites certified",
        *(str(d) for d in program.diagnostics[:4]),
        f"{settings['seconds']} s, peak memory {settings['peak_mb']} MB. "
        f"Next: spikec verify {out} --data TEXT; spikec explain {out}",
    ]
    return "\n".join(lines)


def block_outputs(program: Program) -> dict[str, str]:
    """The last residual sum (or norm after it) of every block: where ANN and SNN are compared."""
    last: dict[str, str] = {}
    for finding in program.of("residual"):
        if finding.block >= 0:
            last[str(finding.block)] = finding.name
    return last
