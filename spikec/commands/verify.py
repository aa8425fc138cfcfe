"""`spikec verify out/`: SNN against ANN, on a text, arrays or drawn inputs, and unrolled against packed."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="a compiled model")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data", type=Path, help="text to measure on (default: inputs drawn at random)")
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json or its folder (default: the compiled folder's)"
    )
    data.add_argument("--npz", type=Path, help="arrays named like the model's inputs, for any model")
    parser.add_argument(
        "--tokens", type=int, default=4096, help="measure on at most this many tokens of --data"
    )
    parser.add_argument("--context", type=int, default=512, help="tokens a window")
    parser.add_argument(
        "--unrolled-tokens",
        type=int,
        default=32,
        help="tokens on which both executions are compared; 0: none",
    )
    parser.add_argument(
        "--no-library", action="store_true", help="run the function bodies in stock ONNX Runtime"
    )
    parser.add_argument("--json", action="store_true")


def run(args: argparse.Namespace) -> int:
    import json

    from .. import text
    from ..data import find_tokenizer, read_arrays, token_feeds
    from ..ir.diagnostics import SpikecError
    from ..progress import Progress
    from ..runtime.session import Compiled
    from ..sample import sample_compiled
    from ..verify import as_text, verify

    if args.unrolled_tokens < 0:
        raise SpikecError("--unrolled-tokens cannot be negative", fix="give 0 to leave the comparison out")
    compiled = Compiled(args.folder)
    if args.npz is not None:
        feeds = [read_arrays(compiled.inputs, args.npz)]
    elif args.data is not None:
        file = find_tokenizer(args.tokenizer, compiled.folder)
        if file is not None:
            text.check_vocabulary(text.load_tokenizer(file), compiled.report["vocabulary"], str(file))
        feeds = token_feeds(compiled.inputs, args.data, file, args.tokens, args.context)
    else:
        feeds = sample_compiled(compiled)
    progress = Progress()
    try:
        result = verify(
            compiled, feeds, args.unrolled_tokens, None if not args.no_library else False, progress.step
        )
    finally:
        progress.close()
    print(json.dumps(result, indent=1) if args.json else as_text(result))
    apart = result.get("unrolled", {}).get("unexplained_codes", 0)
    if apart:
        raise SpikecError(
            f"the two executions disagree in {apart} codes beyond rounding",
            where=args.folder,
            why="its files do not belong together, or spikec has a bug",
            fix="compile the model again",
        )
    return 0
