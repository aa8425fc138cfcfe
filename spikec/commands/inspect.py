"""`spikec inspect model.onnx`: what is in a model and what can spike, without running it."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import json

    from ..compile import FRONT
    from ..ir import pipeline
    from ..ir.program import Program
    from ..passes.classify import coverage
    from ..passes.methods import METHODS
    from ..report import found

    program = Program.load(args.model)
    program.settings["method"] = METHODS["las"]
    pipeline.run(program, FRONT, {})
    cover = coverage(program)
    result = {
        "model": program.source.name,
        "opset": program.graph.opset,
        "blocks": 1 + max((f.block for f in program.findings), default=-1),
        "found": found(program),
        "coverage": cover,
        "diagnostics": [str(d) for d in program.diagnostics],
    }
    if args.json:
        print(json.dumps(result, indent=1))
        return 0
    size = f"{result['blocks']} blocks, {len(program.graph.nodes)} nodes"
    print(f"{result['model']}: opset {result['opset']}, {size}")
    for kind, count in result["found"].items():
        if count:
            print(f"  {kind:<16}{count:>6}")
    total = sum(cover["macs"].values()) or 1
    for verdict, nodes in cover["nodes"].items():
        share = 100 * cover["macs"][verdict] / total
        print(f"  {verdict:<10}{nodes:>6} nodes {share:6.2f} % of MACs at 128 tokens")
    for line in result["diagnostics"]:
        print(f"  {line}")
    return 0
