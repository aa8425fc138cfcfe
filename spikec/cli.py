"""The command line: parses, dispatches, and turns user errors into one line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module

from . import __version__

COMMANDS = {
    "compile": "a model in, a spiking model out",
    "run": "greedy text from a compiled model",
    "verify": "how close the spiking model is to the original, on your data",
    "eval": "task scores of both models: LAMBADA, PIQA, ARC, ...; same text; STS-B",
    "methods": "the conversion methods: neuron, guarantee, cost, options",
    "inspect": "what is in a model and what can spike",
    "explain": "what becomes of each node of a model, and why; what a diagnostic code means",
    "doctor": "versions, native library, and what would fall back",
    "demo": "compile and run the bundled story model",
}
INTERNAL_ERROR = 70
EXIT_CODES = {
    0: "done",
    1: "a mistake in a file or an option, told in one line",
    2: "a command line that cannot be read",
    3: "--strict: something in scope was not converted",
    4: "a budget that cannot be met",
    5: "a construct that a target cannot hold (kept for a command to come)",
    INTERNAL_ERROR: "a bug in spikec",
}


def parser(chosen: str | None) -> argparse.ArgumentParser:
    """Only the chosen command's module is imported, so that --version and --help answer at once."""
    top = argparse.ArgumentParser(
        prog="spikec",
        description="Compiles an LLM exported to ONNX into a spiking LLM in ONNX.",
        epilog="exit codes:\n" + "\n".join(f"  {code:<4}{text}" for code, text in EXIT_CODES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"spikec {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:
            module = import_module(f".commands.{name}", __package__)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return top


def _interrupt(number: int, frame: object) -> None:
    """A termination cleans up as Ctrl-C does."""
    raise KeyboardInterrupt


def main(argv: list[str] | None = None) -> int:
    """Runs one command; its exit code is one of EXIT_CODES, or 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    chosen = next((word for word in argv if not word.startswith("-")), None)
    args = parser(chosen).parse_args(argv)
    from .ir.diagnostics import SpikecError

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(args.run(args) or 0)
    except SpikecError as error:
        print("\n  ".join([f"spikec: error: {error}", *error.details]), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("spikec: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"spikec: error: {where}{error.strerror or error}; check the path and its permissions",
            file=sys.stderr,
        )
        return 1
    except Exception as error:
        if os.environ.get("SPIKEC_TRACEBACK"):
            raise
        print(
            f"spikec: internal error: {type(error).__name__}: {error}\nThis is a bug in spikec; "
            "run again with SPIKEC_TRACEBACK=1 and report what it prints.",
            file=sys.stderr,
        )
        return INTERNAL_ERROR


if __name__ == "__main__":
    sys.exit(main())
