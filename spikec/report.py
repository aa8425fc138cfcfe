"""What a user reads of a compile, as JSON and text: pure functions of Program, so no two reports disagree."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from . import __version__, scope
from .ir.program import Program
from .passes.classify import coverage
from .passes.recognise import RECOGNISE
from .screen import coverage_table

SCHEMA = 1


def as_json(program: Program) -> dict[str, Any]:
    """All that is known of the result, and nothing of the run: same input and flags, same bytes."""
    settings = program.settings
    method = settings["method"]
    return {
        "schema": SCHEMA,
        "spikec": __version__,
        "model": program.source.name,
        "method": {
            "name": method.name,
            "source": method.source,
            "guarantee": method.guarantee,
            "level": method.level,
            "collapses": method.collapses,
            "options": settings["options"],
        },
        "timesteps": settings["timesteps"],
        "function_bits": settings["function_bits"],
        "weights": settings["weights"],
        "calibration": settings["calibration"],
        "inputs": [i.as_json() for i in settings["inputs"]],
        "outputs": [o.name for o in program.graph.outputs],
        "vocabulary": settings.get("vocabulary"),
        "files": settings.get("files", {}),
        "normalisation": settings.get("normalisation"),
        "found": found(program),
        "coverage": coverage(program),
        "misses": scope.as_json(scope.misses(program)),
        "blocks": layers(program),
        "block_outputs": block_outputs(program),
        "sites": {
            name: {"role": program.statistics["roles"][name], **program.neurons[name].facts, **site.summary()}
            for name, site in program.statistics["sites"].items()
        },
        "pareto": program.statistics.get("pareto"),
        "layerwise": program.statistics.get("layerwise"),
        "findings": program.statistics["findings"],
        "decisions": [asdict(d) for d in program.decisions.values()],
        "certificates": [{**asdict(c), "holds": c.holds} for c in program.certificates],
        "diagnostics": [{**asdict(d), "severity": d.severity} for d in program.diagnostics],
    }


def costs(program: Program) -> dict[str, Any]:
    """What the run took; printed, and never written beside the model."""
    return {
        "seconds": program.settings["seconds"],
        "peak_mb": program.settings["peak_mb"],
        "recognition": recognition(program),
        "passes": program.timings,
    }


def recognition(program: Program) -> dict[str, float]:
    """Seconds of the recognising passes, and their share of the whole compile."""
    seconds = sum(step["seconds"] for step in program.timings if step["pass"] in RECOGNISE)
    return {"seconds": round(seconds, 3), "share": round(seconds / (program.settings["seconds"] or 1), 4)}


FOUND = (
    "attention", "softmax", "layernorm", "rmsnorm", "gelu_erf", "gelu_tanh", "quick_gelu", "silu", "relu",
    "rope", "linear", "matmul_dynamic", "other_linear", "embedding", "residual",
)  # fmt: skip
MERGED = {
    "qk": "matmul_dynamic", "av": "matmul_dynamic", "head": "other_linear", "relu_squared": "relu",
}  # fmt: skip
"""Labels that count under another name."""


def found(program: Program) -> dict[str, int]:
    """Counts of what was recognised; functions without a name of their own count as "function"."""
    counts: Counter[str] = Counter()
    for f in program.settings.get("whole", program).findings:  # a stack of expert matrices counts each
        counts[MERGED.get(f.facts["label"], f.facts["label"])] += f.facts.get("count", 1)
    return {kind: counts.pop(kind, 0) for kind in FOUND} | dict(sorted(counts.items()))


def layers(program: Program) -> int:
    """How many blocks the model has."""
    return 1 + max((f.block for f in program.findings), default=-1)


def as_text(program: Program, out: str) -> str:
    """The summary after a compile, at most about fifteen lines."""
    settings, cover = program.settings, coverage(program)
    dense, recognised = cover["dense_macs_in_blocks"], recognition(program)
    missed = len(scope.misses(program))
    lines = [
        f"{program.source.name} -> {out}/  (method {settings['method'].name}, T = {settings['timesteps']}, "
        f"{settings['weights']} weights, calibrated on {settings['calibration']})",
        "recognised  " + ", ".join(f"{n} {kind}" for kind, n in found(program).items() if n),
        *coverage_table(cover),
        f"{'unknown' if dense is None else dense} dense MACs left inside blocks; "
        f"{sum(c.holds for c in program.certificates)} of {len(program.certificates)} rewrites certified; "
        + (f"{missed} in scope not converted" if missed else "everything in scope converted"),
        *_pareto(program),
        *_layerwise(program),
        *(str(d) for d in program.diagnostics[:4]),
        *([f"and {len(program.diagnostics) - 4} more remarks"] if len(program.diagnostics) > 4 else []),
        f"{settings['seconds']} s, of which recognition {recognised['seconds']:.2f} s "
        f"({100 * recognised['share']:.1f} %); peak memory {settings['peak_mb']} MB. "
        f"Next: spikec verify {out} --data TEXT; spikec explain {out}",
    ]
    return "\n".join(lines)


def _pareto(program: Program) -> list[str]:
    """The curve that the search of method auto measured, and the point it picked."""
    pareto = program.statistics.get("pareto")
    if pareto is None:
        return []
    points = [f"{point['events']:.2f}: {_quality(point)}" for point in pareto["points"]]
    chosen = pareto["chosen"]
    return [
        f"events a synapse against quality on {pareto['tokens']} held-out tokens: " + "; ".join(points),
        f"picked {chosen['events']:.2f} events a synapse for {pareto['budget']}",
    ]


def _layerwise(program: Program) -> list[str]:
    """The paper's error of every block before and after calibration, and how far the stream is from the chain
    of quantisers."""
    found = program.statistics.get("layerwise")
    if found is None:
        return []
    pairs = (f"{100 * b['before']:.1f} -> {100 * b['after']:.1f}" for b in found["blocks"].values())
    chain = found["chain_mismatch"]
    return [
        f"error |sum_t y(t) - y| / |y| by block, %, before -> after {found['fitted_on']} calibration tokens: "
        + ", ".join(pairs),
        f"output divergence {found['divergence_before']:.4g} -> {found['divergence_after']:.4g}; "
        f"not collapsible: {100 * chain['of_active']:.1f} % of active codes differ from the QCFS chain's",
    ]


def _quality(point: dict[str, Any]) -> str:
    if point["ppl"] is None:
        return f"cosine {point['cosine']:.5f}"
    return f"ppl {100 * point['ppl']:+.2f}%"


def block_outputs(program: Program) -> dict[str, str]:
    """The last residual sum (or norm after it) of every block: where ANN and SNN are compared."""
    last: dict[str, str] = {}
    for finding in program.of("residual"):
        if finding.block >= 0:
            last[str(finding.block)] = finding.name
    return last
