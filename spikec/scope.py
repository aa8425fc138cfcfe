"""What `--strict` asks for: everything in scope that was not converted, with its reason and code.

In scope are attention, softmax, norms, activations, products of activations, linear layers inside blocks, and
whatever else computes on activations inside a block; not what the method keeps dense on purpose (embedding,
head, router), nor products and unknown operators outside blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .ir.diagnostics import CODES, Diagnostic, SpikecError
from .ir.program import Decision, Program
from .passes.classify import NO_ACTIVATION, SELECTS

STRICT_MISS = 3
"""Exit code of `--strict` when something in scope stays unconverted."""
UNCONVERTED = ("host", "rejected")
PRODUCTS = {
    "MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum", "MatMulInteger", "ConvInteger", "QLinearMatMul",
    "QLinearConv", "MatMulNBits",
}  # fmt: skip
OUTSIDE = {"head", "other_linear"}
"""Labels of products that are in no block."""
LISTED = 12
REWRITING = "SPK2"
"""The codes of what only a rewrite can tell."""
UNTOLD = "SPK199"
"""The code of a miss that no remark speaks of."""


@dataclass(frozen=True)
class Miss:
    """One thing in scope that was not converted."""

    where: str
    op: str
    block: int
    verdict: str
    reason: str
    code: str

    def __str__(self) -> str:
        place = f"block {self.block}" if self.block >= 0 else "outside blocks"
        what = f"{self.op}, {place}" if self.op else place
        return f"{self.code}: {self.where} ({what}): {self.reason}"


class Scope:
    """What of one program should be converted."""

    def __init__(self, program: Program) -> None:
        self.kept = {NO_ACTIVATION, SELECTS, *program.settings["method"].kept.values()}
        self.told = {d.where for d in program.diagnostics if counts(d)}
        self.outside = {
            node.name for f in program.findings if f.facts["label"] in OUTSIDE for node in f.nodes
        }

    def has(self, decision: Decision, told: bool) -> bool:
        """Whether the node is neither kept on purpose nor, outside blocks, a product or (when no remark was
        made of it) anything else."""
        if decision.reason in self.kept or decision.node in self.outside:
            return False
        return decision.block >= 0 or (told and decision.op not in PRODUCTS)

    def misses(self, decision: Decision) -> bool:
        """Whether it should have been converted and was not."""
        return decision.verdict in UNCONVERTED and self.has(decision, decision.node in self.told)


def misses(program: Program) -> list[Miss]:
    """After `classify` what is known to stay on host; after the rewrites also what they refused."""
    scope = Scope(program)
    remarks = [d for d in program.diagnostics if counts(d)]
    by_place = {d.where: d for d in remarks}
    # a refusal speaks of a result, and gives the nodes that made it its reason
    by_reason = {d.text.partition(": ")[2]: d for d in remarks}
    found, told = [], set()
    for d in program.decisions.values():
        if scope.misses(d):
            remark = by_place.get(d.node) or by_reason.get(d.reason)
            found.append(Miss(d.node, d.op, d.block, d.verdict, d.reason, remark.code if remark else UNTOLD))
            told.add(remark)
    for remark in remarks:
        known = program.decisions.get(remark.where)
        if remark in told or (known and not scope.has(known, True)):
            continue
        op, block, verdict = (known.op, known.block, known.verdict) if known else ("", -1, "host")
        found.append(Miss(remark.where, op, block, verdict, remark.text, remark.code))
    return found


def counts(diagnostic: Diagnostic) -> bool:
    """Whether a remark says that something was not converted."""
    code = CODES[diagnostic.code]
    return code.severity == "warning" and not code.aside and not diagnostic.code.startswith("SPK3")


def as_json(found: Iterable[Miss]) -> list[dict[str, Any]]:
    return [asdict(miss) for miss in found]


def check(program: Program, hint: str = "") -> None:
    """Raises SpikecError with exit code 3 when anything in scope was not converted."""
    found = misses(program)
    if not found:
        return
    groups: dict[tuple[str, str, str], list[Miss]] = {}
    for miss in found:
        groups.setdefault((miss.code, miss.op, miss.reason), []).append(miss)
    lines = [
        f"{group[0]}" + (f" (and {len(group) - 1} more like it)" if len(group) > 1 else "")
        for group in list(groups.values())[:LISTED]
    ]
    if len(groups) > LISTED:
        lines.append(f"and {len(groups) - LISTED} more kinds")
    where = str(program.source)
    if all(miss.code.startswith(REWRITING) for miss in found):
        # `explain` sees the model before calibration and the rewrites: it knows nothing of these
        hint = hint or " ".join(dict.fromkeys(CODES[miss.code].remedy for miss in found))
    raise SpikecError(
        f"{len(found)} in scope not converted",
        where=where,
        why="--strict asks for everything",
        fix=hint or f"see spikec explain {where} --all-unmatched, or compile without --strict",
        exit_code=STRICT_MISS,
        details=lines,
    )
