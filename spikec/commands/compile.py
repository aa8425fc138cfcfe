"""`spikec compile model.onnx`: the main job."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..ir.inputs import Feed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("-o", "--out", default="out", help="folder to write (default: out)")
    parser.add_argument(
        "-T", "--timesteps", type=int, help="timesteps of a spike train (default: the method's)"
    )
    parser.add_argument(
        "--method",
        help="conversion method, of those that spikec methods lists (default: las, and delta with --stream)",
    )
    parser.add_argument(
        "--stream",
        action="store_true",
        help="run all layers concurrently in every timestep; the method must be one that streams",
    )
    parser.add_argument(
        "--set",
        dest="options",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method; may be given again",
    )
    parser.add_argument(
        "--ssa-weights", metavar="FILE", help="fine-tuned weights for --method ssa: --set ssa_weights=FILE"
    )
    parser.add_argument(
        "--allow-uneven",
        action="store_true",
        help="let method dual take timesteps at which its neuron is not exact",
    )
    parser.add_argument("--weights", default="fp32", help="fp32 (untouched) or int8 (per output channel)")
    parser.add_argument(
        "--budget",
        help='what method auto keeps: "ppl<=+1%%" (default), "kl<=0.01", "cosine>=0.999", "events<=1.0"',
    )
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "--data", type=Path, help="calibration text (default: token ids sampled from the vocabulary)"
    )
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json or its folder (default: beside the model)"
    )
    data.add_argument(
        "--npz", type=Path, help="calibration arrays named like the model's inputs, for any model"
    )
    parser.add_argument(
        "--tokens", type=int, default=4096, help="calibrate on at most this many tokens of --data"
    )
    parser.add_argument("--context", type=int, default=512, help="tokens a calibration window")
    parser.add_argument("--seed", type=int, default=0, help="of the sampled calibration tokens")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="write nothing and exit 3 when anything in scope would not be converted",
    )
    parser.add_argument(
        "--check-passes",
        action="store_true",
        help="run the graph after every pass, against the original (slow)",
    )
    parser.add_argument("--dump", type=Path, help="write the graph after every pass into this folder")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _described(args: argparse.Namespace, feeds: list[Feed] | None) -> str | None:
    """What the report says of the calibration."""
    if args.npz is not None:
        return f"the arrays of {args.npz.name}"
    if args.data is None or feeds is None:
        return None
    return f"{sum(next(iter(feed.values())).size for feed in feeds)} tokens of {args.data.name}"


def read_options(texts: list[str]) -> dict[str, str]:
    """NAME=VALUE texts as a table. Raises SpikecError for any other text."""
    from ..ir.diagnostics import SpikecError

    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise SpikecError(
                f"{text!r} is not NAME=VALUE", where="--set", fix="spikec methods lists the options"
            )
    return dict(text.split("=", 1) for text in texts)


def method_name(method: str | None, stream: bool) -> str:
    """The method to use. Raises SpikecError where a stream is asked of a method that collapses."""
    from ..ir.diagnostics import SpikecError
    from ..passes.methods import METHODS

    if method is None:
        return "delta" if stream else "las"
    if stream and method in METHODS and not METHODS[method].streams:
        streaming = ", ".join(name for name, known in METHODS.items() if known.streams)
        raise SpikecError(
            f"method {method} does not stream",
            where="--stream",
            why="its neurons encode a value once it is complete",
            fix=f"leave --stream out, or choose one of {streaming}",
        )
    return method


def run(args: argparse.Namespace) -> int:
    import json

    from .. import report
    from ..compile import Settings, check_target, compile_model
    from ..data import calibration_feeds, find_tokenizer
    from ..instruments import CheckPasses, Dump
    from ..ir.pipeline import Instrument
    from ..ir.program import Program
    from ..progress import Progress

    method = method_name(args.method, args.stream)
    options = read_options(args.options)
    if args.ssa_weights is not None:
        options["ssa_weights"] = args.ssa_weights
    if args.allow_uneven:
        options["allow_uneven"] = "true"
    settings = Settings(
        method,
        args.timesteps,
        args.weights,
        args.seed,
        args.strict,
        options,
        args.budget,
        Path(f"{args.out.rstrip('/')}.search.json") if method == "auto" else None,
    )
    settings.check()
    check_target(args.out)
    program = Program.load(args.model)
    tokenizer = find_tokenizer(args.tokenizer, program.source.parent)
    feeds = calibration_feeds(program, args.data, args.npz, tokenizer, args.tokens, args.context)
    progress = Progress()
    instruments: list[Instrument] = [progress]
    instruments += [Dump(args.dump)] if args.dump else []
    instruments += [CheckPasses()] if args.check_passes else []
    try:
        compile_model(
            program,
            args.out,
            settings,
            feeds=feeds,
            calibration=_described(args, feeds),
            tokenizer=tokenizer,
            instruments=instruments,
            progress=progress.step,
        )
    finally:
        progress.close()
    if args.check_passes and not args.json:
        for timing in program.timings:
            cosine, difference = timing["cosine"], timing["max_difference"]
            print(f"{timing['pass']:<24} cosine {cosine:.9f}  largest difference {difference:.2e}")
    print(
        json.dumps(report.as_json(program) | report.costs(program), indent=1)
        if args.json
        else report.as_text(program, args.out)
    )
    return 0
