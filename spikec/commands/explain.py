"""`spikec explain TARGET [NODE]`: what becomes of each node of a model and why; `spikec explain CODE`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..explanation import Known

MOST = 12
"""Nodes of one name that are told of in full."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", help="a compiled folder, a model file, or a diagnostic code (SPK101)")
    parser.add_argument("node", nargs="?", help="a node or value name, or part of one (default: a summary)")
    parser.add_argument(
        "--all-unmatched", action="store_true", help="everything on host that computes with activations"
    )
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from .. import explanation

    if args.node is None and explanation.CODE.fullmatch(args.target) and not Path(args.target).exists():
        told = explanation.code(args.target)
        print(json.dumps(told, indent=1) if args.json else _code(told))
        return 0
    known = explanation.known(args.target)
    if args.all_unmatched:
        rows = explanation.unmatched(known)
        print(json.dumps(rows, indent=1) if args.json else _unmatched(rows))
    elif args.node is None:
        rows = explanation.summary(known)
        print(
            json.dumps(rows, indent=1)
            if args.json
            else "\n".join(f"{r['verdict']:<9}{r['nodes']:>5} {r['op']:<18} {r['reason']}" for r in rows)
        )
    else:
        found = explanation.about(known, args.node, args.target)
        print(json.dumps(found, indent=1) if args.json else "\n".join(_about(found)))
    return 0


def _code(told: dict[str, str]) -> str:
    return (
        f"{told['code']} ({told['severity']}): {told['title']}\n{told['explanation']}\n"
        f"What you can do: {told['remedy']}"
    )


def _unmatched(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nothing on host computes with activations"
    return "\n".join(
        f"{r['code'] or 'kept':<7} {r['node']} ({r['op']}, block {r['block']}): {r['reason']}" for r in rows
    )


def _about(found: Known) -> list[str]:
    from ..explanation import remedy

    lines: list[str] = []
    owners = {node: f for f in found["findings"] for node, _ in f["nodes"]}
    drawn: set[int] = set()
    for d in found["decisions"][:MOST]:
        macs = "unknown" if d["macs"] is None else d["macs"]
        place = f"block {d['block']}" if d["block"] >= 0 else "outside blocks"
        lines.append(f"{d['node']} ({d['op']}, {place}, {macs} MACs): {d['verdict']}: {d['reason']}")
        if d.get("origin") and d["origin"] != d["node"]:
            lines.append(f"  made from  {d['origin']} of the file, which was taken apart")
        owner = owners.get(d["node"])
        if owner is not None and id(owner) not in drawn:
            drawn.add(id(owner))
            lines += _region(owner, d["node"])
        lines.append(f"  to do      {remedy(d, found['diagnostics'])}")
    if len(found["decisions"]) > MOST:
        lines.append(f"... and {len(found['decisions']) - MOST} more nodes of that name (--json)")
    for f in found["findings"]:
        if id(f) not in drawn and (len(found["decisions"]) == 1 or not f["nodes"]):
            lines += _region(f, "")
    for r in found["diagnostics"]:
        lines.append(f"{r['code']} {r['severity']}: {r['where']}: {r['text']}")
    lines += [_certificate(c) for c in found["certificates"]]
    lines += [_site(name, site) for name, site in found["sites"].items()]
    return lines


def _region(finding: dict[str, Any], asked: str) -> list[str]:
    """A drawing: what goes in, the nodes in order, the asked one marked, what comes out, what is known."""
    place = f"of block {finding['block']}" if finding["block"] >= 0 else "outside blocks"
    lines = [f"  {finding['label']} {place}:"]
    lines += [f"    {source} ─┐" for source in finding["sources"]]
    lines += [f"    {'>' if node == asked else ' '} │ {text}   [{node}]" for node, text in finding["nodes"]]
    lines.append(f"      └─> {finding['result']}")
    lines.append(f"  proved     {_proof(finding)}")
    shown = [(key, value) for key, value in finding["facts"].items() if key not in ("nearest", "value")]
    facts = ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in shown)
    if facts:
        lines.append(f"  known      {facts}")
    return lines


def _proof(finding: dict[str, Any]) -> str:
    """What the claim rests on."""
    if len(finding["nodes"]) == 1:
        return "the operator says it itself"
    if finding["kind"] in ("activation", "layernorm", "rmsnorm"):
        nearest = finding["facts"].get("nearest")
        if finding["label"] == "function":
            near = f"; nearest is {nearest[0]}, off by {nearest[1]:.1e}" if nearest else ""
            return f"a closed function without a name, taken as it computes{near}"
        return f"{finding['label']}; differs by {finding['error']:.1e} at most on probe inputs"
    return f"wired so; differs by {finding['error']:.1e} at most" if finding["error"] else "wired so"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "/".join(map(_short, value)) or "none"
    return str(value)


def _certificate(c: dict[str, Any]) -> str:
    verdict = "holds" if c["holds"] else "DOES NOT HOLD"
    return (
        f"certificate {c['where']} ({c['operator']}): error {c['max_error']:.3g}, "
        f"bound {c['bound']:.3g}: {verdict}; {c['compared']}, {c['samples']} values"
    )


def _site(name: str, site: dict[str, Any]) -> str:
    return (
        f"site {name}: step {site['scale']:.4g}, outlier range x{site['ratio']} "
        f"for {100 * site['outliers']:.3f} % of the energy-weighted values, max {site['max']:.4g}, "
        f"p99.9 {site['p99.9']:.4g}, relative squared error {site['relative_error']:.2e}, "
        f"outlier channels {site['outlier_channels'] or 'none'}, outlier tokens {site['outlier_tokens']}"
    )
