"""docs/methods.md from what `bench/methods.py` measured: one table a model, and what each method is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
TITLES = {
    "smollm2": "SmolLM2-135M on WikiText-2 test at context 512 (calibrated on 8 192 tokens of validation)",
    "story": "The story model on its held-out text at context 256 (calibrated on its first 8 192 tokens)",
}
INTRO = """# Methods

`spikec compile --method NAME`; `spikec methods` prints the first table. How each is calibrated and what its
neuron computes stands in the docstrings of `passes/methods/` and `custom_ops/`. The tables below are made by
`bench/methods.py` from `bench/methods.json`; every number is measured, on the tokens that its row tells.
"""
READING = """
*Change* is that of perplexity against the ONNX model (the ANN). *KL* is nats a token. *Events* are spikes
per synapse: unit spikes or non-zero binary digits, times fan-out, over the dense multiply-adds of the linear
layers and attention products inside the blocks. Softmax, norms and activations are bit-serial neurons in
every row; embedding and head stay on host. *Level*: L1 = equal bit for bit to a named quantised network.
*Unrolled* compares timesteps one by one with the packed execution on 16 tokens: `=` bit for bit, else how
many codes differ (float32 rounding at a threshold; those that differ by more are named: there must be none).
"""


def write(results: dict[str, Any], methods: dict[str, Any]) -> None:
    """Writes the page."""
    parts = [INTRO, _methods(methods)]
    for model, title in TITLES.items():
        if results.get(model, {}).get("rows"):
            parts.append(f"\n## {title}\n{READING if model == next(iter(TITLES)) else ''}")
            rows = list(results[model]["rows"].values())
            parts.append(_table(rows))
            missing = [f"`{name}`" for name in methods if name not in {row["method"] for row in rows}]
            if missing:
                parts.append(f"\nNot measured on this model yet: {', '.join(missing)}.")
    pareto = [
        row["pareto"]
        for row in results.get("smollm2", {}).get("rows", {}).values()
        if row.get("pareto") and len(row["pareto"]["points"]) > 1
    ]
    if pareto:
        parts.append(_pareto(pareto))
    PAGE.write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")


def _methods(methods: dict[str, Any]) -> str:
    lines = ["| method | neuron | collapses | promises | costs | source |", "|---|---|---|---|---|---|"]
    for m in methods.values():
        collapses = "yes" if m.collapses else "no: really unrolled"
        told = (text.replace("|", "\\|") for text in (m.neuron, collapses, m.guarantee, m.cost, m.source))
        lines.append(f"| `{m.name}` | {' | '.join(told)} |")
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> str:
    most = max(rows, key=lambda row: row["tokens"])
    lines = [
        f"The ANN's perplexity is {most['ann_perplexity']:.4f} on {most['tokens']} tokens; each row's change "
        "is against the ANN on its own tokens.",
        *(["°: measured one by one with `spikec verify`."] if any(row.get("by") for row in rows) else []),
        "",
        "| method | T | options | tokens | perplexity | change | KL | top-1 | events | linear | products "
        "| level | unrolled |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        options = ", ".join(f"{k}={v}" for k, v in row["options"].items())
        options = "; ".join(filter(None, [options, f"`{row['budget']}`" if row["budget"] else ""]))
        events, mark = row["events"], "°" if row.get("by") else ""
        lines.append(
            f"| `{row['method']}` | {row['timesteps']} | {options} | {row['tokens']}{mark} "
            f"| {row['perplexity']:.4g} "
            f"| {100 * row['perplexity_change']:+.3f} % | {row['kl']:.2e} | {100 * row['top1']:.1f} % "
            f"| {_number(events['events_per_synapse'])} | {_number(events['linear'])} "
            f"| {_number(events['products'])} | {row['level']} | {_executions(row['executions'])} |"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _executions(compared: dict[str, Any] | None) -> str:
    if compared is None:
        return "not run"
    if compared["bit_identical"]:
        return "="
    beyond = compared["unexplained_codes"]
    text = f"{compared['different_codes']} of {compared['codes']}" + (f", {beyond} beyond" if beyond else "")
    unsettled = sum(compared.get("unsettled", {}).values())
    return text + (f"; {unsettled} unsettled" if unsettled else "")


def _pareto(found: list[dict[str, Any]]) -> str:
    lines = [
        "\n## The Pareto curve of `auto` on SmolLM2",
        "",
        f"As the search measured it on {found[0]['tokens']} calibration tokens held out of the fit.",
        "",
        "| events a synapse | perplexity | KL |",
        "|---|---|---|",
    ]
    points = {round(p["events"], 4): p for pareto in found for p in pareto["points"]}
    for events in sorted(points):
        lines.append(f"| {events:.2f} | {100 * points[events]['ppl']:+.2f} % | {points[events]['kl']:.2e} |")
    return "\n".join(lines)
