"""`spikec doctor`: what is installed, and what would fall back."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import json
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from .. import __version__
    from ..runtime import library

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    problem = library.problem()
    result = {
        "spikec": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **{
            name: installed(name)
            for name in ("onnxruntime", "onnx", "onnx-graphsurgeon", "numpy", "tokenizers")
        },
        "native library": problem or "usable",
        "instruction set": library.isa() if not problem else "none",
        "execution": "native kernels"
        if not problem
        else "function bodies in stock ONNX Runtime (correct, many times slower)",
    }
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        for name, value in result.items():
            print(f"{name:<18} {value}")
        if problem:
            print("fix: install a C++20 compiler (for example: apt-get install g++) and install spikec again")
    return 0
