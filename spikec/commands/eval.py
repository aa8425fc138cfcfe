"""`spikec eval out/ --tasks ...`: task scores of ANN and SNN, by the evaluation harness's own scoring."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a compiled model")
    parser.add_argument(
        "--tasks",
        help="any of wikitext,lambada,wsc273,piqa,arc_easy (these need the extra [eval]), generation (does "
        "the SNN write the ANN's text), stsb (sentence encoders); default: all that fit the model",
    )
    parser.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="folder of the tasks' files (default: data)"
    )
    parser.add_argument("--limit", type=int, help="documents of each task (default: all)")
    parser.add_argument("--context", type=int, default=512, help="tokens a window")
    parser.add_argument("--prompts", type=int, default=16, help="texts that generation continues")
    parser.add_argument("--new-tokens", type=int, default=32, help="tokens that generation adds to each")
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json or its folder (default: the compiled folder's)"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: ONNX Runtime's choice")
    parser.add_argument(
        "--no-library", action="store_true", help="run the function bodies in stock ONNX Runtime"
    )
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import json

    from .. import text
    from ..data import find_tokenizer
    from ..evaluation.compare import as_text
    from ..evaluation.run import Choices, chosen, evaluate
    from ..ir.diagnostics import SpikecError
    from ..runtime.session import Compiled

    compiled = Compiled(args.folder)
    tasks = chosen(args.tasks, compiled)
    file = find_tokenizer(args.tokenizer, compiled.folder)
    if file is None:
        raise SpikecError(
            "needs a tokenizer to read the tasks", where=args.folder, fix="give --tokenizer DIR"
        )
    tokenizer = text.load_tokenizer(file)
    text.check_vocabulary(tokenizer, compiled.vocabulary, str(file))
    choices = Choices(
        args.data_dir,
        args.limit,
        args.context,
        args.prompts,
        args.new_tokens,
        False if args.no_library else None,
        args.threads,
    )
    rows, seconds = [], {}
    for task, (found, took) in zip(tasks, evaluate(compiled, tokenizer, tasks, choices)):
        rows += found
        seconds[task] = took
    if args.json:
        known = {key: compiled.report.get(key) for key in ("method", "timesteps", "weights")}
        print(json.dumps({**known, "results": [row.as_json() for row in rows], "seconds": seconds}, indent=1))
    else:
        print(as_text(rows))
    return 0
