"""`docs/operators.md`, made by PYTHONPATH=.:tests python -m exports.operators > docs/operators.md"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from exports import matrix

from spikec.ir.program import Decision
from spikec.passes.classify import NO_ACTIVATION, SELECTS
from spikec.passes.methods import METHODS
from spikec.passes.normalise import fused
from spikec.passes.normalise.fused.whole import WHOLE
from spikec.passes.normalise.quantised import linear, real

MAKERS = {
    "dynamo": "torch dynamo", "legacy": "TorchScript", "optimum": "optimum", "ort": "ORT optimizer",
    "session": "ORT session", "slim": "onnxslim", "onnxscript": "onnxscript",
}  # fmt: skip
"""Columns of the second table, by the words in a model's name; later ones are applied to an export."""
KEPT = {reason for method in METHODS.values() for reason in method.kept.values()}
HEAD = """# Operators

<!-- Made by `PYTHONPATH=.:tests python -m exports.operators > docs/operators.md`. -->

What becomes of every ONNX operator in the {count} models of `tests/exports`, whatever it is part of there:

- *spiking as*: part of what was recognised under that name and gets a spiking operator;
- *linear*: sums, scalings, rotations and moves of values, which commute with the sum over timesteps;
- *folded*: gone before recognition: a constant, a known size, or no change of its input;
- *aside*: positions, masks, shapes and selections, which no activation goes through;
- *kept*: dense on purpose (embedding, head, router);
- *host*: works on activations and was not recognised; every such node is told with a reason.

An operator that is *taken apart* counts as what its parts are.
"""


@dataclass
class Row:
    """One operator: the models it occurs in, and what its nodes became."""

    models: set[str] = field(default_factory=set)
    nodes: int = 0
    uses: Counter[str] = field(default_factory=Counter)


@dataclass
class Survey:
    rows: dict[str, Row] = field(default_factory=lambda: defaultdict(Row))
    exact: Counter[tuple[str, str]] = field(default_factory=Counter)
    total: Counter[tuple[str, str]] = field(default_factory=Counter)


def survey(names: list[str]) -> Survey:
    result = Survey()
    for name in names:
        cell = name.partition("-")[0], maker(name)
        result.total[cell] += 1
        result.exact[cell] += look(name, result.rows)
    return result


def maker(name: str) -> str:
    words = re.findall(r"[a-z]+", name.partition("-")[2])
    return [MAKERS[word] for word in words if word in MAKERS][-1]


def look(name: str, rows: dict[str, Row]) -> bool:
    """Adds the operators of one model; whether everything in it was counted exactly."""
    seen = matrix.seen(name)
    for op, count in seen.ops.items():
        rows[op].models.add(name)
        rows[op].nodes += count
    for decision in seen.decisions:
        origin = decision.origin or decision.node
        op = seen.names.get(origin) or _unnamed(origin, seen.ops)
        if op in seen.ops:
            apart = decision.origin and op.rpartition(":")[2] != decision.op
            rows[op].uses[("apart: " if apart else "") + use(decision)] += 1
    return matrix.recognised(name) == matrix.expected(name)


def _unnamed(name: str, ops: dict[str, int]) -> str:
    """The operator in the name that a nameless node was given."""
    op = name.partition("#")[0]
    return next((key for key in ops if key.rpartition(":")[2] == op), "")


def use(decision: Decision) -> str:
    if decision.verdict == "spiking":
        return f"spiking as {decision.reason.partition(' -> ')[0]}"
    if decision.reason in (NO_ACTIVATION, SELECTS):
        return "aside"
    if decision.reason in KEPT:
        return "kept"
    if decision.reason.startswith("folded"):
        return "folded"
    return decision.verdict


def as_markdown(result: Survey, count: int) -> str:
    lines = [
        HEAD.format(count=count),
        "| operator | models | nodes | what becomes of it |",
        "|---|---|---|---|",
    ]
    for op in sorted(result.rows, key=lambda key: (":" in key, key.lower())):
        row = result.rows[op]
        lines.append(f"| `{op}` | {len(row.models)} | {row.nodes} | {told(row.uses)} |")
    lines += ["", *known()]
    lines += ["## Models", "", "Models of which every count is exact, of all there are.", ""]
    makers = [m for m in MAKERS.values() if any(m == column for _, column in result.total)]
    lines += [f"| architecture | {' | '.join(makers)} | all |", "|---" * (len(makers) + 2) + "|"]
    architectures = sorted({architecture for architecture, _ in result.total})
    for architecture in architectures:
        cells = [_score(result, [(architecture, m)]) for m in makers]
        whole = _score(result, [(architecture, m) for m in makers])
        lines.append(f"| {architecture} | {' | '.join(cells)} | {whole} |")
    columns = [_score(result, [(a, m) for a in architectures]) for m in makers]
    everything = _score(result, list(result.total))
    lines.append(f"| **all** | {' | '.join(columns)} | **{everything}** |")
    return "\n".join(lines) + "\n"


def _score(result: Survey, cells: list[tuple[str, str]]) -> str:
    total = sum(result.total[cell] for cell in cells)
    return f"{sum(result.exact[cell] for cell in cells)}/{total}" if total else ""


def told(uses: Counter[str]) -> str:
    """Uses by how common they are; the parts of what is taken apart come after that word."""
    whole = Counter({key: n for key, n in uses.items() if not key.startswith("apart: ")})
    parts = Counter({key[7:]: n for key, n in uses.items() if key.startswith("apart: ")})
    texts = [_listed(whole)] if whole else []
    texts += [f"taken apart: {_listed(parts)}"] if parts else []
    return ". ".join(texts) or "taken apart"


def _listed(uses: Counter[str]) -> str:
    common = sorted(uses, key=lambda key: (-uses[key], key))
    spiking = [key[len("spiking as ") :] for key in common if key.startswith("spiking as ")]
    others = [key for key in common if not key.startswith("spiking as ")]
    return "; ".join(([f"spiking as {', '.join(spiking)}"] if spiking else []) + others)


def known() -> list[str]:
    """Operators that normalisation knows, whether or not a model of the matrix has them."""
    kept = {key for key, form in real.FORMS.items() if form is linear.unknown}
    return [
        "Fused operators that are taken apart, each tested on its own: " + _names(fused.FORMS),
        "",
        "Quantised operators that become the real numbers they stand for: "
        + _names(real.FORMS.keys() - kept),
        "",
        "Operators of ONNX Runtime that are known, kept whole, and told with a reason: "
        + _names(kept | WHOLE.keys()),
        "",
    ]


def _names(forms: Iterable[tuple[str, str]]) -> str:
    names = sorted(f"{domain}:{op}" if domain else op for domain, op in forms)
    return ", ".join(f"`{name}`" for name in names) + "."


def document() -> str:
    return as_markdown(survey(matrix.NAMES), len(matrix.NAMES))


if __name__ == "__main__":
    print(document(), end="")
