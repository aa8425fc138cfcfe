"""`spikec explain out/ [NODE]`: what became of each node of a compiled model, and why."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a compiled model")
    parser.add_argument("node", nargs="?", help="a node or value name, or part of one (default: a summary)")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import json
    from collections import Counter

    from ..ir.diagnostics import SpikecError
    from ..runtime.session import Compiled

    report = Compiled(args.folder).report
    if not args.node:
        summary = Counter((d["verdict"], d["op"], d["reason"]) for d in report["decisions"])
        rows = [
            {"verdict": v, "op": op, "reason": r, "nodes": n} for (v, op, r), n in sorted(summary.items())
        ]
        print(
            json.dumps(rows, indent=1)
            if args.json
            else "\n".join(f"{r['verdict']:<9}{r['nodes']:>5} {r['op']:<18} {r['reason']}" for r in rows)
        )
        return 0
    exact = [d for d in report["decisions"] if d["node"] == args.node]
    asked = args.node.lower()
    chosen = exact or [
        d for d in report["decisions"] if asked in d["node"].lower() or asked == d["op"].lower()
    ]
    certificates = [c for c in report["certificates"] if asked in c["where"].lower() or asked == c["kind"]]
    sites = {name: site for name, site in report["sites"].items() if asked in name.lower()}
    if not (chosen or certificates or sites):
        raise SpikecError(
            f"no node or value named like {args.node!r}",
            where=args.folder,
            fix="spikec explain without a name lists the kinds",
        )
    if args.json:
        print(json.dumps({"decisions": chosen, "certificates": certificates, "sites": sites}, indent=1))
        return 0
    for d in chosen:
        print(f"{d['node']} ({d['op']}, block {d['block']}, {d['macs']} MACs): {d['verdict']}: {d['reason']}")
    for c in certificates:
        verdict = "holds" if c["holds"] else "DOES NOT HOLD"
        print(
            f"certificate {c['where']} ({c['operator']}): error {c['max_error']:.3g}, "
            f"bound {c['bound']:.3g}: {verdict}; {c['compared']}, {c['samples']} values"
        )
    for name, site in sites.items():
        print(
            f"site {name}: step {site['scale']:.4g}, outlier range x{site['ratio']} "
            f"for {100 * site['outliers']:.3f} % of the energy-weighted values, max {site['max']:.4g}, "
            f"p99.9 {site['p99.9']:.4g}, relative squared error {site['relative_error']:.2e}, "
            f"outlier channels {site['outlier_channels'] or 'none'}, outlier tokens {site['outlier_tokens']}"
        )
    return 0
