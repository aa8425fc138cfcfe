"""`spikec inspect model.onnx`: what is in a model and what can spike, without running it."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument(
        "--strict", action="store_true", help="exit 3 when anything in scope would not be converted"
    )
    parser.add_argument("--json", action="store_true", help="print everything that is known as JSON")


def run(args: argparse.Namespace) -> int:
    import json

    from .. import overview, scope
    from ..screen import inspected

    program = overview.recognise(args.model)
    result = overview.tell(program)
    print(json.dumps(result, indent=1) if args.json else inspected(result), flush=True)
    if args.strict:
        scope.check(program)
    return 0
